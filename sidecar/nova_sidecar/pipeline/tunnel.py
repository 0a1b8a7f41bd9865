"""After an upgrade: bytes go both ways as they are, until both ends have said everything.

A tunnel takes the exchange's seat at both connections: from then on it is told of data, of ends, of who cannot take
more, and of time. The exchange is only completed when it is over, for metrics and log.

An end that closes its sending side may still be read from, so that is passed on and the other direction lives on, for
as long as a silence may last. What one end has sent before it left still reaches the other.
"""

from math import inf
from typing import TYPE_CHECKING

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.upstream import UpstreamConnection

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange
    from nova_sidecar.policy.closing import Closing


class Tunnel:
    """Joins the two connections of one exchange, whatever they speak."""

    __slots__ = ("_closing", "_exchange", "_half_closed", "_idle", "_limit", "_upstream", "downstream")

    def __init__(
        self, exchange: "Exchange", downstream: DownstreamConnection, upstream: UpstreamConnection, closing: "Closing"
    ) -> None:
        self._exchange = exchange
        self.downstream = downstream
        self._upstream = upstream
        self._closing = closing
        self._idle = closing.idle_limit()
        self._limit = inf  # the instant from which on it is to be closed
        self._half_closed = False

    def open(self) -> None:
        """Take over what arrives from now on, and what has arrived already."""
        downstream, upstream = self.downstream, self._upstream
        self._closing.open += 1
        downstream.exchange = self  # type: ignore[assignment]  # the request is whole: only what is here gets called
        upstream.exchange = self  # type: ignore[assignment]  # no response follows either
        upstream.tunnel = self
        downstream.open_tunnel(self)
        self._wait(min(self._idle, self._limit - downstream.wheel.after(0)))
        if downstream.eof:
            self.on_downstream_eof()

    # --- what arrives

    def on_downstream_data(self, data: bytes) -> None:
        """Bytes from the client."""
        self._exchange.bytes_in += len(data)
        self._upstream.transport.write(data)
        self._renew()

    def on_upstream_data(self, data: bytes) -> None:
        """Bytes from the upstream."""
        self._exchange.bytes_out += len(data)
        self.downstream.transport.write(data)
        self._renew()

    def on_downstream_eof(self) -> None:
        """The client sends no more."""
        self._pass_on(self._upstream)

    def on_upstream_eof(self) -> None:
        """The upstream sends no more."""
        self._pass_on(self.downstream)

    def on_downstream_lost(self) -> None:
        """The client's connection is over."""
        self.end()

    def on_upstream_failed(self, reason: Reason, why: str) -> None:
        """The upstream's connection is over."""
        self.end()

    def on_downstream_blocked(self, blocked: bool) -> None:
        """The client reads too slowly, or does so no more."""
        if blocked:
            self._upstream.pause_reading()
        else:
            self._upstream.resume_reading()

    def on_upstream_blocked(self, blocked: bool) -> None:
        """The upstream reads too slowly, or does so no more."""
        if blocked:
            self.downstream.pause_reading()
        else:
            self.downstream.resume_reading()

    def _pass_on(self, other: DownstreamConnection | UpstreamConnection) -> None:
        if self._half_closed or not other.transport.can_write_eof():  # TLS of asyncio has no half-close
            self.end()
            return
        self._half_closed = True
        other.transport.write_eof()
        self._idle = min(self._idle, self._exchange.port.stream_idle)
        self._wait(self._idle)

    # --- time

    def _renew(self) -> None:
        """Somebody spoke: the silence begins anew. Later than before, so that it is an assignment."""
        deadline = self.downstream.wheel.now + self._idle
        self.downstream.deadline = deadline if deadline < self._limit else self._limit

    def _wait(self, seconds: float) -> None:
        self.downstream.wheel.arm(self.downstream, self.downstream.wheel.after(seconds))

    def on_deadline(self, now: float) -> None:
        """The silence lasted too long."""
        self.end()

    def close_after(self, seconds: float) -> None:
        """The pod leaves. What this connection speaks is not known, so it goes on until `cut`."""

    def cut(self) -> None:
        """All time is over."""
        self.end()

    # --- the end

    def end(self) -> None:
        """Close both connections once what is written has been sent; they may be closed already."""
        exchange, downstream = self._exchange, self.downstream
        self._closing.open -= 1
        exchange.dispatcher.finish(self._upstream)
        exchange.end_tunnel()
        downstream.end_tunnel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'half closed' if self._half_closed else 'open'}>"
