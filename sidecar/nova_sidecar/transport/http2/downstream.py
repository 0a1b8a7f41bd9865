"""The connection of a client: takes its streams in, one call each, and leaves with GOAWAY.

Rules:

* At most `MAX_STREAMS` calls at once; one more is refused unseen (REFUSED_STREAM), which every client may repeat.
* One deadline in the wheel for all calls: the earliest. When it comes, all are looked at. Most calls end long before
  theirs, so a connection is looked at once in a budget's time, not once a call.
* A connection that is made while the port is leaving gets its first call served, and is asked to leave with it.
* Leaving takes two GOAWAYs (RFC 9113 section 6.8): the first one names no stream and says "open no more"; what was
  under way until the client has read it is served. Its answer to a PING tells that it has; the second one says where
  we stopped, and when the last call is over the connection is closed.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from nova_sidecar.policy.flood import EMPTY, RESET
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.transport.http2.known import KnownRequests
from nova_sidecar.transport.http2.outbox import Outbox
from nova_sidecar.transport.http2.session import Session
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import PREFACE, ConnectionFault, ErrorCode
from nova_sidecar.wire.http2.hpack import Decoder, ListTooLarge

if TYPE_CHECKING:
    from nova_sidecar.wire.http2.heads import RequestHead, RequestReader

MAX_STREAMS: Final = 1000
"""Calls at once on one connection."""
MAX_LIST: Final = 64 * 1024
"""Bytes of a header list: names, values and 32 for each field."""
PREFACE_TIMEOUT: Final = 10.0
"""Seconds from connect to the client's SETTINGS."""
IDLE_TIMEOUT: Final = 300.0
"""Seconds a connection may be without calls."""
GOAWAY_TIMEOUT: Final = 1.0
"""Seconds a client has to answer the first GOAWAY's PING."""

_ALL: Final = 2**31 - 1
_FAREWELL: Final = b"farewell"
_HTTP1: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nx-nova-reject: unsupported_version\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_WORDS: Final = b"this port speaks HTTP/2 with prior knowledge (h2c): gRPC, or curl --http2-prior-knowledge\n"


class ServedCall(Protocol):
    """What a client's connection needs of a call beyond `Stream`."""

    deadline: float

    def on_request_end(self, trailers: bytes) -> None:
        """The request ends with trailers."""

    def on_deadline(self, now: float) -> None:
        """Its deadline is over."""


class StreamService(Protocol):
    """What a client's connection needs of the port that accepted it."""

    call_reader: "RequestReader"

    def begin_call(
        self, session: "DownstreamSession", number: int, head: "RequestHead", prefix: bytes, end: int
    ) -> None:
        """A request: make the call and put it into ``session.streams``, or answer at once."""

    def prefix(self, session: "DownstreamSession", head: "RequestHead") -> bytes:
        """What of a request's block goes on the same way every time."""

    def refuse_call(self, session: "DownstreamSession", number: int, reason: Reason, why: str, end: int) -> None:
        """Answer a request whose head could be read but not accepted."""

    def turned_away(self, session: "DownstreamSession", reason: Reason) -> None:
        """A connection is closed for what its client did."""

    def connected(self, connection: Any) -> None:
        """A client came."""

    def disconnected(self, connection: Any) -> None:
        """A client left."""


class DownstreamSession(Session):
    """See the module."""

    __slots__ = ("_decoder", "_greeted", "_heads", "_service", "client", "exchange", "forwarded", "idle_at", "leaving")

    def __init__(self, service: StreamService, outbox: Outbox, wheel: Wheel) -> None:
        super().__init__(outbox, wheel, server=True)
        self._service = service
        self._decoder = Decoder(max_list=MAX_LIST)
        self._heads = KnownRequests()
        self._greeted = False
        self.client = ""
        self.forwarded = b""
        """Fields that the port wants on every request of this client; set in `connected`."""
        self.leaving = 0
        """0: serving; 1: the first GOAWAY is out; 2: the second one is, and no stream is taken in any more."""
        self.idle_at = inf
        """The instant at which it has been without calls for too long; means something only without calls."""

    # --- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the client is connected."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if peer else ""
        self.idle_at = self.wheel.now + PREFACE_TIMEOUT
        self.wheel.arm(self, self.idle_at)
        self._service.connected(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        if not self._greeted and not self._greet(data):
            return
        super().data_received(data)

    def _greet(self, data: bytes) -> bool:
        """The first bytes: our settings go out, unless they are HTTP/1.1's, whose client is told what is wrong."""
        self._greeted = True
        if not PREFACE.startswith(data[: len(PREFACE)]) and b" HTTP/1." in data:
            self._service.turned_away(self, Reason.UNSUPPORTED_VERSION)
            self.send(_HTTP1 % (len(_WORDS), _WORDS))
            self.close()
            return False
        self.idle_at = self.wheel.now + IDLE_TIMEOUT
        self.open_with({frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS, frames.MAX_HEADER_LIST_SIZE: MAX_LIST})
        return True

    def on_closed(self) -> None:
        """The client is gone."""
        self._service.disconnected(self)

    # --- frames

    def on_headers(self, number: int, block: bytes, end: int) -> None:
        """A request, or the trailers of one."""
        if number <= self.last:
            self._trailers(number, block, end)
            return
        self.last = number
        heads, decoder, service = self._heads, self._decoder, self._service
        if decoder.generation != heads.generation or service.call_reader is not heads.reader:
            heads.begin(decoder.generation, service.call_reader)
        found = heads.heads.get(block)
        if found is None:
            found = self._read_head(number, block, end)
            if found is None:
                return
        if len(self.streams) >= MAX_STREAMS or self.leaving == 2:
            self.charge(EMPTY)
            self.cancel(number, ErrorCode.REFUSED_STREAM)
        else:
            service.begin_call(self, number, found[0], found[1], end)

    def _read_head(self, number: int, block: bytes, end: int) -> "tuple[RequestHead, bytes] | None":
        service = self._service
        try:
            head = service.call_reader.read(self._decoder.decode(block))
        except ListTooLarge:
            reason, why = Reason.HEADER_TOO_LARGE, f"more than {MAX_LIST} bytes of header"
        except Malformed as malformed:
            reason, why = malformed.reason, malformed.why
        else:
            found = (head, service.prefix(self, head))
            heads = self._heads
            if heads.generation == self._decoder.generation:  # else it changed the table, and means this once only
                heads.keep(block, found)
            return found
        service.refuse_call(self, number, reason, why, end)
        if reason is Reason.BAD_REQUEST:
            self.charge(RESET)
        return None

    def _trailers(self, number: int, block: bytes, end: int) -> None:
        stream = self.streams.get(number)
        try:
            fields = self._decoder.decode(block)
            trailers = self._service.call_reader.trailers(fields) if end else None
        except (ListTooLarge, Malformed):
            trailers = None
        if stream is None or stream.read_end:
            if not self.was_reset(number):
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed")
        elif trailers is None:
            self.reset(number, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.read_end = True
            stream.on_request_end(trailers)  # type: ignore[attr-defined]  # every stream here is a call

    def on_pong(self, opaque: bytes) -> None:
        """The client has read the first GOAWAY."""
        if opaque == _FAREWELL and self.leaving == 1:
            self._stop_taking()

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        """The client leaves; what it waits for it still gets."""
        if self.leaving < 2:
            self.leaving = 2
            if not self.streams:
                self.close()

    def fault(self, fault: ConnectionFault) -> None:
        """Count it."""
        calm = fault.code == ErrorCode.ENHANCE_YOUR_CALM
        self._service.turned_away(self, Reason.FLOOD if calm else Reason.BAD_REQUEST)

    # --- time

    def on_idle(self) -> None:
        """No calls: for how long?"""
        if self.leaving == 2:
            self.close()
            return
        idle_at = self.idle_at = self.wheel.now + IDLE_TIMEOUT
        if idle_at < self.deadline:
            self.wheel.arm(self, idle_at)

    def watch(self, deadline: float) -> None:
        """A call must be looked at no later than this."""
        if deadline < self.deadline:
            self.wheel.arm(self, deadline)

    def expire(self, now: float) -> None:
        """Look at every call."""
        super().expire(now)
        if self.closing:
            return
        with self.outbox:
            calls: list[Any] = list(self.streams.values())
            for call in calls:
                if call.deadline <= now:
                    call.deadline = inf
                    call.on_deadline(now)
            if self.leaving == 1:
                self._stop_taking()
            elif not self.streams and now >= self.idle_at and not self.closing:
                self.leave_now()
        if not self.closing:
            earliest = min([call.deadline for call in self.streams.values()], default=self.idle_at)  # type: ignore[attr-defined]  # as above
            if earliest < self.deadline:
                self.wheel.arm(self, earliest)

    # --- leaving

    def leave(self) -> None:
        """Ask the client to open no more streams here."""
        if self.leaving or self.closing or not self._greeted:
            return
        self.leaving = 1
        self.send(frames.goaway(_ALL, ErrorCode.NO_ERROR) + frames.ping(_FAREWELL))
        self.watch(self.wheel.now + GOAWAY_TIMEOUT)

    def leave_now(self) -> None:
        """Without calls: say so and close."""
        if self._greeted:
            self._stop_taking()
        else:
            self.close()

    def _stop_taking(self) -> None:
        self.leaving = 2
        self.send(frames.goaway(self.last, ErrorCode.NO_ERROR))
        if not self.streams:
            self.close()
