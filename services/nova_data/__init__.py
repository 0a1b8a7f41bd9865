"""Data tools for the services themselves: what has to happen in the app's own process, next to its database.

`pool_guard` sheds load while a database pool is full, and tells the sidecar, so that it is shed at the pod's door.
`pool` is a whole pool with what else it needs, `split` sends reads to replicas, `calls` and `cache` take away what need
not be asked. The package may import `nova_api` for names that both sides agree on, and no other part of Nova; nothing
of it needs a sidecar to work.
"""
