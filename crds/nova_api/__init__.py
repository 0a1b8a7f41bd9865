"""The NovaService API: one typed model with two views.

`policies` defines every policy once. `v1alpha1` is the view people write, `proxy` the view a sidecar runs, and
`resolve` the pure function between them. `schema` emits the CustomResourceDefinition. This package imports no
other part of Nova, and every other part may import it.
"""
