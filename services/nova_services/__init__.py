"""The reference services: the small backend that the demo and the end-to-end tests run behind sidecars.

`storefront` calls `catalog`, as services do: by name, with a correlation id, without any protection of its own. What
protects them is Nova. `auth` has a database and uses the data tools; nothing here knows of operator or sidecar.
"""
