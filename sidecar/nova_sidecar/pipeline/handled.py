"""What the filters see: an exchange of HTTP/1.1 or a call of HTTP/2, which have the same names for it.

For the type checker and the compiler only: HTTP/2 is imported where a port speaks it (see `pipeline.protocols`).
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange
    from nova_sidecar.pipeline.http2.call import Call
    from nova_sidecar.pipeline.managed import ManagedExchange

Handled: TypeAlias = "Exchange | Call"

Managed: TypeAlias = "ManagedExchange | Call"
"""The same on ports with request policies."""
