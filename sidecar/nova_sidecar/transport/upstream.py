"""A connection to the app or to an upstream: writes one request, reads its response, and goes back to the pool.

Rules:

* What arrives while no exchange is waiting breaks HTTP, and so does anything beyond the end of a response: such a
  connection is never used again. A response is never matched to the wrong request.
* The end of the connection ends a body only where the response said so (RFC 9112 section 6.3); everywhere else it is
  a failure, which the exchange must not turn into a response that looks whole.
"""

import asyncio
import ssl
from math import inf
from typing import Any, Final, Protocol

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.tcp import TCP_ESTABLISHED, tcp_state
from nova_sidecar.transport.tls import words_of
from nova_sidecar.transport.wheel import Timed
from nova_sidecar.wire.chunked import ChunkedReader
from nova_sidecar.wire.fields import CHUNKED, UNTIL_CLOSE
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.head import head_end
from nova_sidecar.wire.response import ResponseHead, ResponseReader

HEAD: Final = "head"
BODY: Final = "body"
TUNNEL: Final = "tunnel"

MAX_INTERIM: Final = 32
"""Interim responses (1xx) before one final response."""


class Caller(Protocol):
    """What an upstream connection needs of the exchange that uses it."""

    head_only: bool
    """The request was HEAD: the response has no body."""

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """A whole response."""

    def on_response_head(self, head: ResponseHead) -> None:
        """A response whose body follows, or a 101."""

    def on_interim(self, head: ResponseHead) -> None:
        """An interim response (1xx)."""

    def on_response_body(self, data: bytes) -> None:
        """Content of the response."""

    def on_response_end(self, trailers: bytes) -> None:
        """The response is complete."""

    def on_upstream_blocked(self, blocked: bool) -> None:
        """The upstream reads too slowly, or does so no more."""

    def on_upstream_failed(self, reason: Reason, why: str) -> None:
        """The attempt is over without a whole response; the connection is closed already."""


class Tunnelled(Protocol):
    """What an upstream connection needs of the tunnel it is one end of."""

    def on_upstream_data(self, data: bytes) -> None:
        """Bytes from the upstream."""

    def on_upstream_eof(self) -> None:
        """The upstream sends no more."""


class Owner(Protocol):
    """What an upstream connection needs of the pool it belongs to."""

    reader: ResponseReader

    def lost(self, connection: "UpstreamConnection", reason: CloseReason) -> None:
        """The connection is closed; called once."""

    def idle_expired(self, connection: "UpstreamConnection", now: float) -> None:
        """It was idle for too long."""

    def refused(self, error: ssl.SSLError) -> None:
        """The upstream ended a new connection for what it saw in the handshake."""


class UpstreamConnection(Timed, asyncio.Protocol):
    """See the module. `exchange` is the one exchange that waits for a response, None while idle."""

    __slots__ = (
        "_body", "_buffer", "_eof", "_interim", "_left", "_owner", "_searched", "ahead", "answered", "blocked",
        "close_reason", "detached", "endpoint", "exchange", "idle_limit", "name", "reading", "requests", "retire_at",
        "reusable", "seat", "state", "transport", "tunnel",
    )  # fmt: skip

    def __init__(self, owner: Owner, seat: "Seat[UpstreamConnection]", *, retire_at: float, idle_limit: float) -> None:
        super().__init__()
        # for the life of the connection
        self._owner = owner
        self.seat = seat
        self.endpoint = endpoint = seat.endpoint
        self.name = f"{endpoint[0]}:{endpoint[1]}"
        self.retire_at = retire_at
        self.idle_limit = idle_limit
        self.transport: Any = None  # asyncio.Transport; Any spares a cast per write on the fast path
        self.requests = 0
        self.ahead = False
        """Opened before somebody asked: even for its first request it may have been idle for long."""
        self.reading = True
        self.blocked = False
        self.close_reason: CloseReason | None = None
        self.detached = False
        """Whether it was taken out of the pool, for good."""
        self._eof = False
        # for one response
        self.exchange: Caller | None = None
        self.state = HEAD
        self.answered = False
        self.reusable = True
        self.tunnel: Tunnelled | None = None
        """Set by the exchange that opens one; what arrives goes there from then on."""
        self._buffer = b""
        self._searched = 0
        self._interim = 0
        self._left = 0
        self._body: ChunkedReader | None = None

    # --- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the upstream."""
        exchange = self.exchange
        if exchange is None:
            self.close("error")  # unasked for
        elif self.state is HEAD:
            if not self._buffer:
                end = data.find(b"\r\n\r\n") + 4
                head = self._owner.reader.memo.young.get(data[:end])
                if (  # the fast path: a head seen before, with its whole body
                    head is not None
                    and head.length == len(data) - end
                    and not exchange.head_only
                    and head.status >= 200
                ):
                    self.exchange = None
                    self.reusable = head.keep_alive
                    exchange.on_response(head, data[end:])
                    return
            else:
                data = self._buffer + data
            self._read_head(exchange, data)
        elif self.state is BODY:
            self._read_body(exchange, data)
        elif self.tunnel is not None:
            self.tunnel.on_upstream_data(data)

    def eof_received(self) -> bool:
        """asyncio: the upstream sends no more; a tunnel stays open in the other direction."""
        self._eof = True
        if self.tunnel is not None and self.exchange is not None:
            self.tunnel.on_upstream_eof()
            return bool(self.transport.can_write_eof())  # TLS ends both directions at once
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is over."""
        exchange, self.exchange = self.exchange, None
        self.tunnel = None
        self.close_reason = self.close_reason or "peer"
        self._owner.lost(self, self.close_reason)
        if exchange is None:
            return
        if self.state is BODY and self._left == UNTIL_CLOSE and self._eof and exc is None:
            exchange.on_response_end(b"")
        elif isinstance(exc, ssl.SSLError) and self.requests == 1 and not self.answered:
            # with TLS 1.3 a server says after the client's handshake that it does not take the client's certificate
            self._owner.refused(exc)
            exchange.on_upstream_failed(Reason.CONNECT_FAILURE, f"no TLS connection: {words_of(exc)}")
        else:
            exchange.on_upstream_failed(
                Reason.UPSTREAM_RESET, "the connection was closed before the response was complete"
            )

    def pause_writing(self) -> None:
        """asyncio: the upstream reads too slowly."""
        self.blocked = True
        if self.exchange is not None:
            self.exchange.on_upstream_blocked(True)

    def resume_writing(self) -> None:
        """asyncio: the upstream has caught up."""
        self.blocked = False
        if self.exchange is not None:
            self.exchange.on_upstream_blocked(False)

    def expire(self, now: float) -> None:
        """It was idle for too long."""
        if self.exchange is None:
            self._owner.idle_expired(self, now)

    # --- reading

    def _read_head(self, exchange: Caller, data: bytes) -> None:
        while data and self.exchange is exchange:
            try:
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    self._wait_for_head(data)
                    return
                head = self._owner.reader.memo.young.get(data[:end]) or self._owner.reader.read(data[:end])
                self.answered = True
                if head.status >= 200 or head.status == 101:
                    break
                self._take_interim(exchange, head)
            except Malformed as why:
                self._fail(exchange, _response_reason(why.reason), why.why)
                return
            self._buffer, data = b"", data[end:]
        else:
            return
        size = len(data) - end
        if head.length == size and not exchange.head_only and head.status != 101:
            self._finish(head)
            exchange.on_response(head, data[end:] if size else b"")
            return
        self._buffer = b""
        self._searched = 0
        self._read_longer(exchange, head, data[end:])

    def _take_interim(self, exchange: Caller, head: ResponseHead) -> None:
        self._interim += 1
        self._searched = 0
        if self._interim > MAX_INTERIM:
            raise Malformed(f"more than {MAX_INTERIM} interim responses")
        exchange.on_interim(head)

    def _wait_for_head(self, data: bytes) -> None:
        head_end(data, self._searched)
        self._buffer = data
        self._searched = len(data)

    def _read_longer(self, exchange: Caller, head: ResponseHead, rest: bytes) -> None:
        """Everything but a whole response in one read."""
        if head.status == 101:
            self.state = TUNNEL
            exchange.on_response_head(head)
            if rest and self.tunnel is not None:
                self.tunnel.on_upstream_data(rest)
            return
        self._left = 0 if exchange.head_only else head.length
        if self._left == 0:
            self._finish(head)
            self.reusable = self.reusable and not rest
            exchange.on_response(head, b"")
            return
        self.reusable = head.keep_alive and self._left != UNTIL_CLOSE
        self.state = BODY
        self._body = ChunkedReader() if self._left == CHUNKED else None
        exchange.on_response_head(head)
        if rest and self.exchange is exchange:
            self._read_body(exchange, rest)

    def _finish(self, head: ResponseHead) -> None:
        self.exchange = None
        self.reusable = head.keep_alive
        if self._buffer:
            self._buffer = b""
            self._searched = 0

    def _read_body(self, exchange: Caller, data: bytes) -> None:
        if self._body is not None:
            self._read_chunked(exchange, self._body, data)
            return
        if self._left == UNTIL_CLOSE:
            exchange.on_response_body(data)
            return
        if len(data) > self._left:
            self.reusable = False  # more than was announced: the rest is nobody's
            data = data[: self._left]
        self._left -= len(data)
        exchange.on_response_body(data)
        if not self._left and self.exchange is exchange:
            self._end(exchange, b"")

    def _read_chunked(self, exchange: Caller, body: ChunkedReader, data: bytes) -> None:
        try:
            pieces = body.feed(data)
        except Malformed as why:
            self._fail(exchange, Reason.BAD_RESPONSE, why.why)
            return
        if pieces:
            exchange.on_response_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if body.done and self.exchange is exchange:
            self.reusable = self.reusable and not body.rest
            self._end(exchange, body.trailers)

    def _end(self, exchange: Caller, trailers: bytes) -> None:
        self.exchange = None
        self.state = HEAD
        self._body = None
        exchange.on_response_end(trailers)

    def _fail(self, exchange: Caller, reason: Reason, why: str) -> None:
        self.exchange = None
        self.close("error")
        exchange.on_upstream_failed(reason, why)

    # --- for the exchange and the pool

    def send(self, exchange: Caller, data: bytes) -> None:
        """Write a request head, and what there is of its body, for this exchange."""
        self.exchange = exchange
        self.answered = False
        self._interim = 0
        self.requests += 1
        self.deadline = inf
        self.transport.write(data)

    @property
    def ended(self) -> bool:
        """Whether the other side has closed already, though the event loop has not come to it yet."""
        return tcp_state(self.transport) not in (TCP_ESTABLISHED, None)

    def pause_reading(self) -> None:
        """Take no more of the response for now."""
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more of the response again."""
        if not self.reading and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    def close(self, reason: CloseReason) -> None:
        """Close at once and tell no exchange; what is unsent is dropped."""
        self.exchange = None
        if not self.close_reason:
            self.close_reason = reason
        self.transport.abort()

    def finish(self, reason: CloseReason) -> None:
        """Close when what is written has been sent, and tell no exchange."""
        self.exchange = None
        self.tunnel = None
        if not self.close_reason:
            self.close_reason = reason
        self.transport.close()

    def __repr__(self) -> str:
        state = "idle" if self.exchange is None else self.state
        return f"<UpstreamConnection {self.endpoint[0]}:{self.endpoint[1]} {state} requests={self.requests}>"


def _response_reason(reason: Reason) -> Reason:
    large = reason is Reason.HEADER_TOO_LARGE or reason is Reason.RESPONSE_HEAD_TOO_LARGE
    return Reason.RESPONSE_HEAD_TOO_LARGE if large else Reason.BAD_RESPONSE
