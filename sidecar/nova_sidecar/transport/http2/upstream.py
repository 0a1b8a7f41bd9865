"""A connection to the app or to an upstream that carries many streams, and one stream of it.

Rules:

* A stream the peer refused (REFUSED_STREAM), or that lies above the number in its GOAWAY, was not looked at (RFC 9113
  section 8.7): its caller is told so, since such a call may be repeated whatever it is.
* A connection that is to go takes no new streams, finishes those it has, and is closed with GOAWAY then.
* One that is silent with streams open is asked with PING, and is dead without an answer. gRPC servers take frequent
  pings for abuse unless they have sent something in between (too_many_pings), so it is asked once per silence, and
  again only after five minutes.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.transport.http2.known import KnownResponses
from nova_sidecar.transport.http2.outbox import Outbox
from nova_sidecar.transport.http2.session import Session
from nova_sidecar.transport.http2.stream import WINDOW, Stream
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import (
    END_HEADERS,
    HEADERS,
    PREFACE,
    SMALLEST_MAX_FRAME,
    ConnectionFault,
    ErrorCode,
    pack,
)
from nova_sidecar.wire.http2.hpack import Decoder, Fields, ListTooLarge

if TYPE_CHECKING:
    from nova_sidecar.wire.http2.heads import ResponseHead, ResponseReader, Trailers

T = TypeVar("T")

MAX_LIST: Final = 64 * 1024
"""Bytes of a header list that is taken from an upstream."""
ASSUMED_STREAMS: Final = 100
"""Streams opened at once before the peer's SETTINGS say how many it takes."""
MAX_INTERIM: Final = 32
"""Interim responses (1xx) before one final response."""
PING_AFTER: Final = 10.0
"""Seconds of silence with streams open after which the peer is asked whether it is there."""
PING_AGAIN: Final = 300.0
PING_TIMEOUT: Final = 5.0

_QUESTION: Final = b"nova:up?"


class Caller(Protocol):
    """What an upstream stream needs of the call it serves."""

    def on_response_head(self, head: "ResponseHead", end: int) -> None:
        """The head of the response; `end`: it is the whole response."""

    def on_interim(self, head: "ResponseHead") -> None:
        """An interim response (1xx)."""

    def on_response_data(self, data: bytes, flow: int, end: int) -> None:
        """Content of the response."""

    def on_response_end(self, trailers: "Trailers") -> None:
        """The response ends with trailers."""

    def on_upstream_failed(self, reason: Reason, why: str, *, unseen: bool) -> None:
        """The stream is gone and the response is not whole. `unseen`: the upstream never looked at the request."""

    def on_upstream_progress(self) -> None:
        """The upstream took some of what waited for it."""


class UpstreamStream(Stream):
    """One attempt: a request and its response on an upstream's connection."""

    __slots__ = ("caller", "headed", "interim")

    def __init__(self, session: "UpstreamSession", number: int, caller: Caller) -> None:
        # the stream: `Stream.__init__`, without the price of a call
        self.session = session
        self.number = number
        self.room = WINDOW
        self.owed = 0
        self.read_end = False
        self.window = session.initial
        self.wrote_end = False
        self.queue = None
        self.last = None
        self.source = None
        # one attempt
        self.caller = caller
        self.headed = False
        """Whether the final head has come."""
        self.interim = 0

    def on_data(self, data: bytes, flow: int, end: int) -> None:
        """Content of the response."""
        if not self.headed:
            self.session.reset(self.number, ErrorCode.PROTOCOL_ERROR)
            return
        if end:
            self.read_end = True
        self.caller.on_response_data(data, flow, end)

    def on_reset(self, code: int) -> None:
        """The upstream, or we for a fault of it, ended the stream."""
        if code == ErrorCode.REFUSED_STREAM and not self.headed:
            self.caller.on_upstream_failed(Reason.UPSTREAM_RESET, "the upstream refused the stream", unseen=True)
        elif self.session.was_reset(self.number):
            self.caller.on_upstream_failed(Reason.BAD_RESPONSE, "the upstream's response breaks HTTP/2", unseen=False)
        else:
            words = f"the upstream reset the stream ({_name(code)})"
            self.caller.on_upstream_failed(Reason.UPSTREAM_RESET, words, unseen=False)

    def on_lost(self, why: str, *, unseen: bool) -> None:
        """The connection is gone."""
        broken = self.session.broken  # type: ignore[attr-defined]  # an upstream's stream is on an upstream's session
        reason = Reason.BAD_RESPONSE if broken else Reason.UPSTREAM_RESET
        self.caller.on_upstream_failed(reason, why, unseen=unseen)

    def on_progress(self) -> None:
        """Some of the request that waited has left."""
        self.caller.on_upstream_progress()


class Owner(Protocol):
    """What an upstream session needs of the balancer it belongs to."""

    reader: "ResponseReader"

    def lost(self, session: "UpstreamSession", reason: CloseReason) -> None:
        """The connection is closed; called once."""

    def room(self, session: "UpstreamSession") -> None:
        """It can take another stream."""

    def idle_expired(self, session: "UpstreamSession") -> bool:
        """It has been idle for too long: whether it may go."""

    def going(self, session: "UpstreamSession") -> None:
        """It takes no more streams: the peer said so."""


class UpstreamSession(Session):
    """See the module."""

    __slots__ = (
        "_asked_at", "_decoder", "_heads", "_heard_at", "_next", "_owner", "broken", "close_reason", "endpoint",
        "going", "idle_limit", "idle_since", "max_streams", "name", "requests", "retire_at", "seat",
    )  # fmt: skip

    reset_cost = 0.0

    def __init__(
        self, owner: Owner, seat: "Seat[UpstreamSession]", outbox: Outbox, wheel: Wheel, *, retire_at: float,
        idle_limit: float,
    ) -> None:  # fmt: skip
        super().__init__(outbox, wheel, server=False)
        self._owner = owner
        self._decoder = Decoder(max_list=MAX_LIST)
        self._heads = KnownResponses()
        self.seat = seat
        self.endpoint = endpoint = seat.endpoint
        self.name = f"{endpoint[0]}:{endpoint[1]}"
        self.retire_at = retire_at
        self.idle_limit = idle_limit
        self.idle_since = wheel.now
        self.max_streams = ASSUMED_STREAMS
        self.requests = 0
        self.going = False
        """Whether it takes no more streams."""
        self.close_reason: CloseReason | None = None
        self.broken = False
        """Whether it is closed because the peer broke the protocol."""
        self._next = 1
        self._heard_at = wheel.now
        self._asked_at = -inf

    # --- for calls

    def open(self, caller: Caller, block: bytes, end: int) -> UpstreamStream:
        """A new stream with this request head."""
        number = self._next
        self._next = number + 2
        self.last = number
        self.requests += 1
        stream = UpstreamStream(self, number, caller)
        streams = self.streams
        if not streams:
            self._heard_at = self.wheel.now
            if self._heard_at + PING_AFTER < self.deadline:
                self.wheel.arm(self, self._heard_at + PING_AFTER)
        streams[number] = stream
        size = len(block)
        if size > SMALLEST_MAX_FRAME:
            stream.write_headers(block, end)
            return stream
        out = self.out  # `write_headers`, without the price of a call
        if not out:
            self.outbox.touch(self)
        if end:
            stream.wrote_end = True
        out += (pack(size >> 8, size & 0xFF, HEADERS, END_HEADERS | end, number), block)
        return stream

    @property
    def usable(self) -> bool:
        """Whether it takes another stream now."""
        return len(self.streams) < self.max_streams and not self.going and not self.closing

    # --- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        super().connection_made(transport)
        self.open_with({frames.ENABLE_PUSH: 0, frames.MAX_HEADER_LIST_SIZE: MAX_LIST}, PREFACE)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the upstream."""
        self._heard_at = self.wheel.now
        super().data_received(data)

    def on_closed(self) -> None:
        """The connection is over."""
        self.close_reason = self.close_reason or "peer"
        self._owner.lost(self, self.close_reason)

    # --- frames

    def on_headers(self, number: int, block: bytes, end: int) -> None:
        """The head of a response, an interim one, or trailers."""
        stream = self.streams.get(number)
        heads = self._heads
        if self._decoder.generation != heads.generation or self._owner.reader is not heads.reader:
            heads.begin(self._decoder.generation, self._owner.reader)
        if stream is None or stream.read_end:
            self._stray_headers(stream, number, block)
        elif stream.headed:  # type: ignore[attr-defined]  # there are only `UpstreamStream`s here
            trailers = heads.trailers.get(block)
            if trailers is None:
                trailers = self._read_trailers(number, block)
            if trailers is not None and end:
                stream.read_end = True
                stream.caller.on_response_end(trailers)  # type: ignore[attr-defined]  # as above
            elif not end:
                self.reset(number, ErrorCode.PROTOCOL_ERROR)
        else:
            head = heads.heads.get(block)
            if head is None:
                head = self._read_head(number, block)
            if head is None:
                return
            if head.status < 200:
                self._take_interim(stream, head, end)  # type: ignore[arg-type]  # as above
                return
            stream.headed = True  # type: ignore[attr-defined]  # as above
            if end:
                stream.read_end = True
            stream.caller.on_response_head(head, end)  # type: ignore[attr-defined]  # as above

    def _read_head(self, number: int, block: bytes) -> "ResponseHead | None":
        head = self._read(number, block, self._owner.reader.read)
        if head is not None and self._heads.generation == self._decoder.generation:
            self._heads.keep_head(block, head)
        return head

    def _read_trailers(self, number: int, block: bytes) -> "Trailers | None":
        trailers = self._read(number, block, self._owner.reader.trailers)
        if trailers is not None and self._heads.generation == self._decoder.generation:
            self._heads.keep_trailers(block, trailers)
        return trailers

    def _read(self, number: int, block: bytes, read: Callable[[Fields], T]) -> T | None:
        """What a block that is new says; None when its stream has been ended for it."""
        try:
            return read(self._decoder.decode(block))
        except ListTooLarge:
            self._too_large(number)
        except Malformed:
            self.reset(number, ErrorCode.PROTOCOL_ERROR)
        return None

    def _stray_headers(self, stream: Stream | None, number: int, block: bytes) -> None:
        with suppress(ListTooLarge):
            self._decoder.decode(block)  # the table goes on
        if stream is None:
            self._unknown(number)
        else:
            self.reset(number, ErrorCode.STREAM_CLOSED)

    def _take_interim(self, stream: UpstreamStream, head: "ResponseHead", end: int) -> None:
        stream.interim += 1
        if end or stream.interim > MAX_INTERIM:
            self.reset(stream.number, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.caller.on_interim(head)

    def _too_large(self, number: int) -> None:
        stream = self.streams.get(number)
        if isinstance(stream, UpstreamStream):
            self.drop(stream, ErrorCode.ENHANCE_YOUR_CALM)
            why = f"more than {MAX_LIST} bytes of header"
            stream.caller.on_upstream_failed(Reason.RESPONSE_HEAD_TOO_LARGE, why, unseen=False)

    def on_peer_settings(self, name: int, value: int) -> None:
        """How many streams the upstream takes."""
        if name == frames.MAX_CONCURRENT_STREAMS:
            self.max_streams = value
            self._owner.room(self)
        elif name == frames.ENABLE_PUSH and value:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a server cannot enable push (RFC 9113 section 6.5.2)")

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        """The upstream leaves: what it has not looked at goes elsewhere, the rest is finished."""
        first = not self.going
        self.going = True
        if first:
            self.close_reason = "peer"
            self._owner.going(self)
        self.lose_streams("the upstream is leaving and did not look at the request", above=last)
        if not self.streams:
            self.close()

    def fault(self, fault: ConnectionFault) -> None:
        """Its calls fail for a bad response."""
        self.broken = True

    last_of_peer = 0  # push is off: an upstream opens none

    # --- time

    def on_idle(self) -> None:
        """The last stream is gone."""
        if self.going:
            self.retire_now()
            return
        self.idle_since = self.wheel.now
        until = self.idle_since + self.idle_limit
        if until < self.deadline:
            self.wheel.arm(self, until)

    def expire(self, now: float) -> None:
        """Idle for too long, or silent."""
        super().expire(now)
        if self.closing:
            return
        if not self.streams:
            if now >= self.idle_since + self.idle_limit:
                if self._owner.idle_expired(self):
                    self.close_reason = self.close_reason or "idle"
                    self.retire_now()
                else:
                    self.idle_since = now
                    self.wheel.arm(self, now + self.idle_limit)
            else:
                self.wheel.arm(self, self.idle_since + self.idle_limit)
        else:
            with self.outbox:
                self._listen(now)

    def _listen(self, now: float) -> None:
        """There are streams open: has anything been heard?"""
        heard, asked = self._heard_at, self._asked_at
        if asked > heard:  # a question is out
            if now >= asked + PING_TIMEOUT:
                self.close_reason = "timeout"
                self.abort()
                return
            due = asked + PING_TIMEOUT
        elif now >= heard + PING_AFTER and now >= asked + PING_AGAIN:
            self._asked_at = now
            self.send(frames.ping(_QUESTION))
            due = now + PING_TIMEOUT
        else:
            due = max(heard + PING_AFTER, asked + PING_AGAIN)
        self.wheel.arm(self, due)

    # --- ends

    def retire(self, reason: CloseReason) -> None:
        """Take no more streams; close when those there are have ended."""
        if self.going or self.closing:
            return
        self.going = True
        self.close_reason = reason
        if not self.streams:
            self.retire_now()

    def retire_now(self) -> None:
        """Say goodbye and close; there are no streams."""
        self.send(frames.goaway(0, ErrorCode.NO_ERROR))
        self.close()

    def forget(self, stream: Stream) -> None:
        """A stream is over; there is room for another one."""
        streams = self.streams
        full = len(streams) >= self.max_streams
        if streams.pop(stream.number, None) is not None:
            self.finished += 1
            if not streams:
                self.on_idle()
        if full:
            self._owner.room(self)


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"
