"""After an upgrade: bytes go both ways as they are, until both ends have said everything.

An end that closes its sending side may still be read from, so that is passed on and the other direction lives on, for
as long as a silence may last. The exchange stays what it was for pushing back, for connections that break, for the
deadline and for the log.
"""

from typing import TYPE_CHECKING

from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.upstream import UpstreamConnection

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange


class Tunnel:
    """Joins the two connections of one exchange; `idle` is the longest silence, in seconds, once one end has closed."""

    __slots__ = ("_downstream", "_exchange", "_half_closed", "_idle", "_upstream")

    def __init__(
        self, exchange: "Exchange", downstream: DownstreamConnection, upstream: UpstreamConnection, idle: float
    ) -> None:
        self._exchange = exchange
        self._downstream = downstream
        self._upstream = upstream
        self._idle = idle
        self._half_closed = False

    def open(self) -> None:
        """Take over what arrives from now on, and what has arrived already."""
        self._upstream.tunnel = self
        self._downstream.open_tunnel(self)

    def on_downstream_data(self, data: bytes) -> None:
        """Bytes from the client."""
        self._exchange.bytes_in += len(data)
        self._upstream.transport.write(data)

    def on_upstream_data(self, data: bytes) -> None:
        """Bytes from the upstream."""
        self._exchange.bytes_out += len(data)
        self._downstream.transport.write(data)

    def on_downstream_eof(self) -> None:
        """The client sends no more."""
        self._pass_on(self._upstream)

    def on_upstream_eof(self) -> None:
        """The upstream sends no more."""
        self._pass_on(self._downstream)

    def _pass_on(self, other: DownstreamConnection | UpstreamConnection) -> None:
        if self._half_closed:
            self._exchange.end_tunnel()
            return
        self._half_closed = True
        other.transport.write_eof()
        downstream = self._downstream
        downstream.wheel.arm(downstream, downstream.wheel.now + self._idle)

    def __repr__(self) -> str:
        return f"<Tunnel {'half closed' if self._half_closed else 'open'}>"
