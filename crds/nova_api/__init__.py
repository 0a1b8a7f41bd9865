"""The NovaService API: one typed model with two views, what people write and what a sidecar runs."""
