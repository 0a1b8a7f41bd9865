"""What a port does with upgrades: admits them, opens the tunnel that follows, and closes them all when it leaves."""

from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.state import TUNNEL
from nova_sidecar.pipeline.tunnel import Tunnel
from nova_sidecar.pipeline.websocket import WebSocketTunnel
from nova_sidecar.policy.closing import Closing
from nova_sidecar.policy.outcome import FAILURE, SUCCESS
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject
from nova_sidecar.policy.sessions import Sessions
from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange
    from nova_sidecar.pipeline.port import Port

_LEAVING: Final = Reject(Reason.DRAINING, 1.0)  # another pod may take it
_FULL: Final = Reject(Reason.CONNECTION_LIMIT, OVERLOAD_RETRY_AFTER)


class UpgradeFilter:
    """See the module. One per port; limits and sessions are the sidecar's."""

    __slots__ = ("_closing", "_port", "_sessions", "_until")

    def __init__(self, port: "Port", closing: Closing, sessions: Sessions) -> None:
        self._port = port
        self._closing = closing
        self._sessions = sessions
        self._until = 0.0  # until then the closes are spread, once the port leaves

    def on_request(self, exchange: "Exchange", now: float) -> Reject | None:
        """A filter: whether an upgrade may go to the app or upstream."""
        if not exchange.head.upgrade:
            return None
        if self._port.leaving:
            return _LEAVING
        return _FULL if self._closing.full else None

    def open(self, exchange: "Exchange", head: ResponseHead) -> None:
        """The upstream has accepted an upgrade with this head: tell the client, and let the two talk."""
        upstream = exchange.upstream
        assert upstream is not None  # noqa: S101 - it has just answered
        if not exchange.head.upgrade:
            exchange.drop_upstream("error", FAILURE)
            exchange.refuse(Reject(Reason.BAD_RESPONSE), "the upstream upgraded a connection that was not asked to")
            return
        if exchange.downstream.unread:  # RFC 9110 section 7.8: not in the middle of a message; its rest is no tunnel's
            exchange.drop_upstream("error", FAILURE)
            exchange.refuse(Reject(Reason.BAD_RESPONSE), "the upstream upgraded before the request was complete")
            return
        if self._closing.full:
            exchange.drop_upstream("aborted", SUCCESS)
            exchange.refuse(_FULL)
            return
        exchange.record(SUCCESS)
        exchange.state = TUNNEL
        exchange.status = 101
        exchange.upstream = None
        port = self._port
        answer = (head.forward, port.echo, exchange.correlation, port.head_end)
        exchange.downstream.transport.write(b"".join(answer))
        self._tunnel(exchange, upstream)

    def _tunnel(self, exchange: "Exchange", upstream: UpstreamConnection) -> None:
        port, downstream, closing = self._port, exchange.downstream, self._closing
        exchange.dispatcher.detach(upstream)
        for on_upgrade in exchange.chain.upgrade:
            on_upgrade(exchange, port.clock())
        fields = exchange.head.forward
        if field(fields, b"upgrade").lower() != b"websocket":
            Tunnel(exchange, downstream, upstream, closing).open()
            return
        stats = port.stats.web_sockets
        session = field(fields, closing.session_header)
        if session and self._sessions.seen(session):
            stats.reconnects += 1
        tunnel = WebSocketTunnel(exchange, downstream, upstream, closing, stats)
        tunnel.open()
        if port.leaving and downstream.tunnel is tunnel:
            self._close((tunnel,), max(0.0, self._until - port.clock()))

    def leave(self, at_most: float) -> None:
        """Close every WebSocket, spread over the policy's time, so that all is over after `at_most` seconds."""
        window = self._closing.window(at_most)
        self._until = self._port.clock() + window
        self._close(self._tunnels(), window)

    def cut(self) -> list[DownstreamConnection]:
        """Close whatever is left, now; returns the connections of its clients, which end when all is sent."""
        tunnels = self._tunnels()
        for tunnel in tunnels:
            tunnel.cut()
        return [tunnel.downstream for tunnel in tunnels]

    def _close(self, tunnels: "tuple[Tunnel, ...]", window: float) -> None:
        for tunnel, seconds in zip(tunnels, self._closing.spread(len(tunnels), window), strict=True):
            tunnel.close_after(seconds)

    def _tunnels(self) -> "tuple[Tunnel, ...]":
        found = (getattr(each, "tunnel", None) for each in self._port.connections)  # HTTP/2 has none
        return tuple(tunnel for tunnel in found if isinstance(tunnel, Tunnel))

    def __repr__(self) -> str:
        return f"<UpgradeFilter {self._closing!r}>"


def field(head: bytes, name: bytes) -> bytes:
    """The first value of a field in a head, b"" without one; `name` in lower case. Only for what happens rarely."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""
