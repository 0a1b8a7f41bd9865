"""The connection of a client: reads requests one after the other, writes what the exchange gives it.

Rules:

* One exchange at a time. What a client sends ahead (pipelining) waits in the buffer, and reading stops meanwhile, so
  it is bounded by one read.
* A client that has sent its request and closes its sending side still gets the response (half-close). One that does
  so in the middle of a request has gone away.
* A client that takes what was written, however slowly, is waited for, as long as it keeps up `LEAST_RATE`; what the
  kernel holds for it counts. One that takes nothing is cut off, when the connection is closing as well.
* A connection that is closed while the client may still be sending is closed for writing first and read until the
  client has seen the response, for a bounded time; a reset would destroy the response on its way (RFC 9112
  section 9.6).
"""

import asyncio
from math import inf
from typing import Any, Final

from nova_sidecar.transport.served import Handler, Service, Tunnelled
from nova_sidecar.transport.tcp import TCP_CLOSE, reset_on_close, tcp_state, unsent
from nova_sidecar.transport.wheel import Timed, Wheel
from nova_sidecar.wire.chunked import ChunkedReader
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.head import HEAD_END, check_start, head_end, without_empty_lines
from nova_sidecar.wire.request import RequestHead

HEAD_TIMEOUT: Final = 10.0
"""Most seconds from the first byte of a head to its last; never more than the port's budget for a request."""
KEEP_ALIVE_TIMEOUT: Final = 75.0
"""Seconds a connection may be idle between requests, or before the first one."""
LINGER_TIMEOUT: Final = 2.0
LINGER_BYTES: Final = 1 << 20
LEAST_RATE: Final = 512
"""Bytes per second that a client must take of what is written for it."""
DISCARD_BYTES: Final = 64 * 1024
"""Largest body of a refused request that is read and dropped to keep the connection."""


class DownstreamConnection(Timed, asyncio.Protocol):
    """See the module. The exchange reads and sets the public attributes; everything else goes through methods."""

    __slots__ = (
        "_body", "_broken", "_buffer", "_discarding", "_lingered", "_lingering", "_loop_guard", "_searched",
        "_service", "_unsent", "blocked", "client", "closing", "eof", "exchange", "forwarded", "reading", "transport",
        "tunnel", "unread", "wheel",
    )  # fmt: skip

    def __init__(self, service: Service, wheel: Wheel) -> None:
        super().__init__()
        # for the life of the connection
        self._service = service
        self.wheel = wheel
        self.transport: Any = None  # asyncio.Transport; Any spares a cast per write on the fast path
        self.client = ""
        self.forwarded = b""
        """A line that the port wants in front of every request of this client; set in `Service.connected`."""
        self.reading = True
        self.blocked = False
        self.eof = False
        self.closing = False
        self._lingering = False
        self._lingered = 0
        self._broken = False
        self._unsent = 0
        self._loop_guard = False
        # until the head of the next request is complete
        self._buffer = b""
        self._searched = 0
        # for one request
        self.exchange: Handler | None = None
        self.tunnel: Tunnelled | None = None
        self.unread = 0
        """Bytes of the request's body that have not arrived, `CHUNKED` when only its end tells, 0 once it is whole."""
        self._body: ChunkedReader | None = None
        self._discarding = False

    # --- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the client is connected."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if peer else ""
        self.wheel.arm(self, self.wheel.after(KEEP_ALIVE_TIMEOUT))
        self._service.connected(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        if self.exchange is None and not self._discarding:
            if self._lingering:
                self._linger(len(data))
                return
            if not self._buffer:
                head = self._service.reader.memo.young.get(data)
                if head is None and data.find(HEAD_END) == len(data) - 4:
                    head = self._read_whole(data)
                if head is not None:
                    if head.length:
                        self._start_body(head, b"")
                    else:
                        self._service.begin(self, head)
                    return
                self._buffer = data
            else:
                self._buffer += data
            self._read_heads()
        elif self.tunnel is not None:
            self.tunnel.on_downstream_data(data)
        elif self.unread:
            self._read_body(data)
            if self.exchange is None and self._buffer:
                self._read_heads()
        else:
            self._buffer += data
            self.pause_reading()

    def eof_received(self) -> bool:
        """asyncio: the client sends no more; True keeps the connection open for the response."""
        self.eof = True
        exchange = self.exchange
        if exchange is None or self._lingering:
            return False
        if self.tunnel is not None:
            self.tunnel.on_downstream_eof()
            return True
        if self.unread:
            self.abort()
            return False
        exchange.on_downstream_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is over."""
        self.closing = True
        self.wheel.remove(self)
        exchange, self.exchange = self.exchange, None
        self.tunnel = None
        if exchange is not None:
            exchange.on_downstream_lost()
        self._service.disconnected(self)

    def pause_writing(self) -> None:
        """asyncio: the client reads too slowly."""
        self.blocked = True
        self._unsent = unsent(self.transport)
        if self.exchange is not None:
            self.exchange.on_downstream_blocked(True)

    def resume_writing(self) -> None:
        """asyncio: the client has caught up."""
        self.blocked = False
        if self.exchange is not None:
            self.exchange.on_downstream_blocked(False)
        elif self._buffer or not self.reading:
            self._read_heads()

    def expire(self, now: float) -> None:
        """The deadline of the exchange, or of a silence between exchanges, is over."""
        if self.exchange is not None:
            self.exchange.on_deadline(now)
            if self.deadline < self.wakes:  # it has been answered, and `finished` only moved the deadline
                self.wheel.place(self)
        elif self.closing:
            self._wait_for_reader()
        elif self._discarding or not self._buffer:
            self.close()
        else:
            self._service.head_timed_out(self)

    # --- reading

    def _read_whole(self, data: bytes) -> RequestHead | None:
        """The head, where one read brought just that; None leaves it, and what is wrong with it, to `_read_head`."""
        try:
            return self._service.reader.read(data)
        except Malformed:
            return None

    def _read_heads(self) -> None:
        """Start what the buffer holds; a loop, since an exchange may be refused, and so over, at once."""
        if self._loop_guard:
            return
        self._loop_guard = True
        while self._buffer and self.exchange is None and not (self.closing or self._discarding or self.blocked):
            if not self._read_head():
                break
        self._loop_guard = False
        if self.exchange is not None:
            if self.eof:
                self._eof_met()
        elif not self.blocked and not self._discarding:
            if self.eof:
                self.close()  # what the buffer may still hold can never become a request
            elif not self._buffer:
                self.resume_reading()

    def _eof_met(self) -> None:
        """The request just begun is the last one: of its body no more will come than is there."""
        if self.unread:
            self.abort()
        elif self.exchange is not None:
            self.exchange.on_downstream_eof()

    def _read_head(self) -> bool:
        data = self._buffer
        if data[:1] == b"\r":
            self._buffer = data = without_empty_lines(data)
            if not data or data == b"\r":
                return False
        try:
            end = head_end(data, self._searched)
            if end < 0:
                check_start(data)
                self._wait_for_head(len(data))
                return False
            head = self._service.reader.read(data[:end])
        except Malformed as why:
            self._buffer = b""
            self._broken = True
            self._service.refuse(self, why)
            return False
        self._buffer = b""
        self._searched = 0
        rest = data[end:]
        if head.length:
            self._start_body(head, rest)
        else:
            self._buffer = rest
            self._service.begin(self, head)
        return True

    def _wait_for_head(self, size: int) -> None:
        if self._searched == 0:
            self.wheel.arm(self, self.wheel.now + self._service.head_timeout)
        self._searched = size
        if not self.reading:
            self.resume_reading()

    def _start_body(self, head: RequestHead, rest: bytes) -> None:
        self.unread = head.length
        self._body = ChunkedReader() if head.length == CHUNKED else None
        self._service.begin(self, head)
        if self.unread and not self.closing:
            self.resume_reading()
            if rest:
                self._read_body(rest)

    def _read_body(self, data: bytes) -> None:
        exchange = self.exchange
        if self._body is not None:
            self._read_chunked(self._body, data)
            return
        left = self.unread
        if len(data) > left:
            self._buffer = data[left:]
            data = data[:left]
        self.unread = left - len(data)
        if exchange is not None:
            exchange.on_request_body(data)
        if not self.unread and self.exchange is exchange:
            self._end_body(b"")

    def _read_chunked(self, body: ChunkedReader, data: bytes) -> None:
        try:
            pieces = body.feed(data)
        except Malformed as why:
            self.unread = 0
            self._body = None
            self._broken = True
            if self.exchange is not None:
                self.exchange.on_request_broken(why)
            else:
                self.close()
            return
        for piece in pieces:
            if self.exchange is not None:
                self.exchange.on_request_body(piece)
        if self._discarding:
            self._lingered += len(data)
            if self._lingered > DISCARD_BYTES:
                self.close()
                return
        if body.done and self.unread:
            self._buffer = body.rest
            self._end_body(body.trailers)

    def _end_body(self, trailers: bytes) -> None:
        self.unread = 0
        self._body = None
        if self.exchange is not None:
            self.exchange.on_request_end(trailers)
        elif self._discarding:
            self._discarding = False
            self._idle()

    # --- for the exchange

    def finished(self, *, keep: bool) -> None:
        """The exchange has written its response whole; go on with the next request, or close."""
        self.exchange = None
        if not keep or (self.eof and (self.unread or not self._buffer)):
            self.close()
            return
        if self.unread:
            if self.unread > DISCARD_BYTES or self.closing:
                self.close()
                return
            self._discarding = True
            self._lingered = 0
            self.wheel.arm(self, self.wheel.now + HEAD_TIMEOUT)
            self.resume_reading()
            return
        self.deadline = self.wheel.now + KEEP_ALIVE_TIMEOUT
        if self._buffer or not self.reading:
            self._idle()

    def _idle(self) -> None:
        self.wheel.arm(self, self.wheel.now + KEEP_ALIVE_TIMEOUT)
        self._read_heads()

    def open_tunnel(self, tunnel: Tunnelled) -> None:
        """From now on every byte goes into the tunnel as it is, beginning with what the client sent ahead."""
        self.tunnel = tunnel
        self.deadline = inf
        ahead, self._buffer = self._buffer, b""
        if ahead:
            tunnel.on_downstream_data(ahead)
        self.resume_reading()

    def end_tunnel(self) -> None:
        """The upgraded connection is over: send what is written, within a bounded time, and close."""
        self.exchange = None
        self.tunnel = None
        if not self.closing:
            self.closing = True
            self.transport.close()
            self.wheel.arm(self, self.wheel.after(LINGER_TIMEOUT))

    @property
    def gone(self) -> bool:
        """Whether the client has answered something we wrote with a reset."""
        return tcp_state(self.transport) == TCP_CLOSE

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        if self.reading and not self.closing:
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the client again."""
        if not self.reading and not self.closing:
            self.reading = True
            self.transport.resume_reading()

    def close(self) -> None:
        """Close after what was written has been sent; wait for a client that may still be sending."""
        if self.closing:
            return
        pending = bool(self._broken or self.unread or self._buffer or not self.reading)
        self.closing = True
        self._buffer = b""
        self.unread = 0
        self._body = None
        self._discarding = False
        if not pending or self.eof or self.transport.is_closing():
            self._flush()
            return
        self._lingering = True
        self._lingered = 0
        self._unsent = unsent(self.transport)
        self.transport.write_eof()
        if not self.reading:
            self.reading = True
            self.transport.resume_reading()
        self.wheel.arm(self, self.wheel.now + LINGER_TIMEOUT)

    def _flush(self) -> None:
        """Close when what is written has gone. asyncio waits for that without an end, so it is watched."""
        if self.transport.get_write_buffer_size():
            self._unsent = unsent(self.transport)
            self.wheel.arm(self, self.wheel.now + self._service.head_timeout)
        else:
            self.wheel.remove(self)
        self.transport.close()

    def _wait_for_reader(self) -> None:
        seconds = LINGER_TIMEOUT if self._lingering else self._service.head_timeout
        if self.takes(seconds):
            self.wheel.arm(self, self.wheel.now + seconds)
        else:
            self.abort()

    def takes(self, seconds: float) -> bool:
        """Whether the client has taken, of what was written for it, what it must in so many seconds; asked each time
        those are over."""
        before, self._unsent = self._unsent, unsent(self.transport)
        return before - self._unsent >= LEAST_RATE * seconds

    def _linger(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_BYTES:
            self.abort()

    def abort(self) -> None:
        """Break the connection at once: the client must not take what it got for whole."""
        self.closing = True
        self.deadline = inf
        reset_on_close(self.transport)
        self.transport.abort()

    def __repr__(self) -> str:
        state = "lingering" if self._lingering else "closing" if self.closing else "busy" if self.exchange else "idle"
        return f"<DownstreamConnection {self.client} {state}>"
