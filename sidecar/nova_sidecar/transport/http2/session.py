"""What both ends of an HTTP/2 proxy have in common: one connection, its frames, settings, windows and streams.

A session knows nothing of requests: it reads frames, keeps the windows exactly, hands content to streams and header
blocks to the subclass. Every fault of the peer ends in one place: the stream (RST_STREAM) or the connection (GOAWAY),
with the code that RFC 9113 names.

Rules:

* A header block is decoded whatever becomes of its stream: the peer's table goes on with it.
* Content for a stream that is gone still counts for the connection's window, and is credited at once.
* While the transport's buffer is full, no content is written: it waits in the queues of the streams, whose senders get
  no credit. Answers to the peer's control frames go on, up to `MAX_UNSENT`; a peer that makes us write more without
  reading is cut off.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from nova_sidecar.policy.flood import CONTROL, EMPTY, RESET, SMALL_UPDATE, TRICKLE, FloodGuard
from nova_sidecar.transport.http2.outbox import Outbox
from nova_sidecar.transport.http2.stream import CONNECTION_WINDOW, WINDOW, Stream
from nova_sidecar.transport.tcp import reset_on_close
from nova_sidecar.transport.wheel import Timed, Wheel
from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST_WINDOW,
    PING,
    RST_STREAM,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    Frame,
    FrameReader,
    StreamFault,
)

MAX_UNSENT: Final = 4 * 1024 * 1024
"""Bytes that may wait in the transport before a peer that does not read is cut off."""
LINGER_TIMEOUT: Final = 1.0
"""Seconds a peer has to read our last words."""
_REMEMBERED: Final = 256
"""Streams reset from here that are remembered: what the peer had under way on them is no fault."""


def _unread(_: bytes) -> Iterator[Frame]:
    """What comes in while a connection is closed is not looked at."""
    return iter(())


class Session(Timed, asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_granted", "_resets", "_sent", "blocked", "closing", "finished", "guard", "initial", "last", "max_frame",
        "out", "outbox", "owed", "read_frames", "room", "streams", "transport", "waiting", "wheel", "window",
    )  # fmt: skip

    reset_cost = RESET
    """What a reset stream counts for the guard; nothing where the peer is the one that is asked."""

    def __init__(self, outbox: Outbox, wheel: Wheel, *, server: bool) -> None:
        super().__init__()
        self.outbox = outbox
        self.wheel = wheel
        self.transport: Any = None  # asyncio.Transport; Any spares a cast per write
        self.read_frames: Callable[[bytes], Iterator[Frame]] = FrameReader(preface=server).feed
        self.streams: dict[int, Stream] = {}
        self.last = 0
        """Highest number of a stream there has been."""
        self.closing = False
        self.guard = FloodGuard(wheel.now)
        self.finished = 0
        """Streams that ended as they should since the guard was last told."""
        self._resets: dict[int, None] = {}
        # to the peer
        self.out: list[bytes] = []
        """Frames for the next write; whoever puts in the first one touches the outbox."""
        self.blocked = False
        self.initial = DEFAULT_WINDOW
        self.window = DEFAULT_WINDOW
        self._granted = DEFAULT_WINDOW  # the window plus all content there has been
        self._sent = 0  # content there had been at the last PING
        self.max_frame = SMALLEST_MAX_FRAME
        self.waiting: dict[Stream, None] = {}
        """Streams with content that no window took."""
        # from the peer
        self.room = CONNECTION_WINDOW
        self.owed = 0

    # --- what a subclass gives

    def on_headers(self, number: int, block: bytes, end: int) -> None:
        """HEADERS from the peer."""
        raise NotImplementedError

    def on_peer_settings(self, name: int, value: int) -> None:
        """A setting that only one side cares for."""

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        """GOAWAY from the peer."""

    def on_pong(self, opaque: bytes) -> None:
        """The peer has answered a PING."""

    def on_idle(self) -> None:
        """The last stream is gone."""

    def on_closed(self) -> None:
        """The connection is over; every stream has been told."""

    def fault(self, fault: ConnectionFault) -> None:
        """The peer broke the protocol; the connection is about to be closed for it."""

    @property
    def last_of_peer(self) -> int:
        """Highest number of a stream that the peer has opened."""
        return self.last

    # --- events of the transport

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the peer."""
        outbox, streams = self.outbox, self.streams
        outbox.open = True
        try:
            for kind, flags, number, payload, flow in self.read_frames(data):
                if kind == HEADERS:
                    self.on_headers(number, payload, flags & END_STREAM)
                elif kind == DATA:
                    room = self.room = self.room - flow
                    stream = streams.get(number)
                    if (
                        stream is not None
                        and not stream.read_end
                        and room >= 0
                        and stream.room >= flow
                        and (payload or flags & END_STREAM)
                    ):
                        stream.room -= flow
                        stream.on_data(payload, flow, flags & END_STREAM)
                    else:
                        self._unusual_data(stream, number, flow)
                else:
                    self._control(kind, flags, number, payload)
                if self.closing:
                    break
            if self.owed >= CONNECTION_WINDOW // 2:
                self.repay()
        except ConnectionFault as fault:
            self.fail(fault)
        finally:
            outbox.flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is over."""
        self.closing = True
        self.wheel.remove(self)
        with self.outbox:
            self.lose_streams("the connection was closed before the response was complete")
        self.on_closed()

    def pause_writing(self) -> None:
        """asyncio: the peer reads too slowly."""
        self.blocked = True

    def resume_writing(self) -> None:
        """asyncio: the peer has caught up."""
        self.blocked = False
        with self.outbox:
            self.drain()

    def eof_received(self) -> bool:
        """asyncio: the peer sends no more; nothing can be finished with it."""
        return False

    # --- frames

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == RST_STREAM:
            self._reset_by_peer(number, frames.read_code(payload))
        elif kind == SETTINGS:
            self.charge(EMPTY if flags & frames.ACK else CONTROL)
            if not flags & frames.ACK:
                self._settings(payload)
        elif kind == PING:
            self._ping(flags, payload)
        elif kind == GOAWAY:
            self.charge(CONTROL)
            self.on_goaway(*frames.read_goaway(payload))
        else:
            self.charge(EMPTY)

    def _ping(self, flags: int, payload: bytes) -> None:
        """One PING between two pieces of content is free: gRPC clients measure the path with them, a thousand times a
        second on a busy stream (BDP estimation, grpc-java#8260)."""
        sent = self._granted - self.window
        if flags & frames.ACK:
            self.charge(EMPTY)
            self.on_pong(payload)
            return
        if sent == self._sent:
            self.charge(CONTROL)
        self._sent = sent
        self.send(frames.ping(payload, ack=True))

    def _window_update(self, number: int, payload: bytes) -> None:
        stream = self.streams.get(number) if number else None
        try:
            increment = frames.read_increment(number, payload)
        except StreamFault as fault:
            self._unknown(number)
            self.reset(number, fault.code)
            return
        if increment < SMALL_UPDATE:
            self.charge(TRICKLE)
        if number == 0:
            self.window += increment
            self._granted += increment
            if self.window > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            if self.waiting:
                self.drain()
        elif stream is None:
            self._unknown(number)
        else:
            stream.window += increment
            if stream.window > LARGEST_WINDOW:
                self.reset(number, ErrorCode.FLOW_CONTROL_ERROR)
            elif stream.queue is not None:
                stream.drain()

    def _reset_by_peer(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is None:  # it was over: no work is lost
            self.charge(min(EMPTY, self.reset_cost))
            self._unknown(number)
            return
        self.charge(self.reset_cost)
        del self.streams[number]
        stream.discard()
        stream.on_reset(code)
        if not self.streams:
            self.on_idle()

    def _settings(self, payload: bytes) -> None:
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                self._resize(value)
            elif name == frames.MAX_FRAME_SIZE:
                self.max_frame = value
            else:
                self.on_peer_settings(name, value)
        self.send(frames.SETTINGS_ACK)
        self.drain()

    def _resize(self, initial: int) -> None:
        """RFC 9113 section 6.9.2: the difference applies to every stream, below zero too."""
        more, self.initial = initial - self.initial, initial
        for stream in self.streams.values():
            stream.window += more
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")

    def _unusual_data(self, stream: Stream | None, number: int, flow: int) -> None:
        """DATA that nobody may or can take, or without content."""
        if self.room < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more content than the connection's window")
        if stream is None:
            self._unknown(number)
            self.owed += flow
            if number not in self._resets:
                self.reset(number, ErrorCode.STREAM_CLOSED)
        elif stream.read_end:
            self.owed += flow
            self.reset(number, ErrorCode.STREAM_CLOSED)
        elif stream.room < flow:
            self.owed += flow
            self.reset(number, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.charge(EMPTY)
            stream.room -= flow
            stream.credit(flow)

    def _unknown(self, number: int) -> None:
        """A frame for a stream that is not there. Raises ConnectionFault where there never was one."""
        if number > self.last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")

    def charge(self, cost: float) -> None:
        """Count a frame that costs work and carries none. Raises ConnectionFault where there are too many."""
        guard = self.guard
        if self.finished:
            guard.record(self.finished)
            self.finished = 0
        if guard.admit(cost, self.wheel.now) is not None:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def was_reset(self, number: int) -> bool:
        """Whether a stream was reset from here, so that what still comes on it is no fault."""
        return number in self._resets

    # --- writing

    def send(self, frame: bytes) -> None:
        """Put a frame into the next write."""
        if not self.out:
            self.outbox.touch(self)
        self.out.append(frame)

    def put(self, data: bytes) -> None:
        """Write to the transport; for the outbox."""
        transport = self.transport
        if transport is None or self.closing or transport.is_closing():
            return
        transport.write(data)
        if self.blocked and transport.get_write_buffer_size() > MAX_UNSENT:
            self.abort()

    def repay(self) -> None:
        """Give the peer its credit for the connection: what was passed on, or was for streams that are gone."""
        self.room += self.owed
        self.send(frames.window_update(0, self.owed))
        self.owed = 0

    def drain(self) -> None:
        """Send what waits, one frame of each stream in turn, as far as the windows go."""
        while self.waiting and not self.blocked:
            moved = False
            for stream in list(self.waiting):
                if stream.step():
                    moved = True
            if not moved:
                return

    def open_with(self, settings: dict[int, int], first: bytes = b"") -> None:
        """Our side of the preface: `first`, our settings, and the connection's window."""
        settings = {frames.INITIAL_WINDOW_SIZE: WINDOW, **settings}
        self.send(first + frames.settings(settings) + frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    # --- ends

    def forget(self, stream: Stream) -> None:
        """A stream is over on both sides."""
        streams = self.streams
        if streams.pop(stream.number, None) is not None:
            self.finished += 1
            if not streams:
                self.on_idle()

    def reset(self, number: int, code: int) -> None:
        """End a stream for a fault of the peer; whoever uses it is told. Raises ConnectionFault for too many."""
        self.charge(self.reset_cost)
        self.cancel(number, code)
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.discard()
            stream.on_reset(code)
            if not self.streams:
                self.on_idle()

    def cancel(self, number: int, code: int) -> None:
        """Write RST_STREAM, and remember it."""
        self.send(frames.rst_stream(number, code))
        resets = self._resets
        resets[number] = None
        if len(resets) > _REMEMBERED:
            del resets[next(iter(resets))]

    def drop(self, stream: Stream, code: int) -> None:
        """End a stream from here without telling it."""
        if self.streams.pop(stream.number, None) is None:
            return
        stream.discard()
        self.cancel(stream.number, code)
        if code == ErrorCode.NO_ERROR:  # answered before the peer had said everything
            self.finished += 1
        if not self.streams:
            self.on_idle()

    def lose_streams(self, why: str, above: int = -1) -> None:
        """Tell streams that nothing more will come; those `above` a number were never looked at."""
        lost = [stream for number, stream in self.streams.items() if number > above]
        for stream in lost:
            self.streams.pop(stream.number, None)
        for stream in lost:
            stream.discard()
            stream.on_lost(why, unseen=above >= 0)

    def fail(self, fault: ConnectionFault) -> None:
        """GOAWAY and close, for a fault of the peer (RFC 9113 section 5.4.1); nothing waits for it any more."""
        if self.closing:
            return
        self.fault(fault)
        self.send(frames.goaway(self.last_of_peer, fault.code, fault.why.encode()))
        self.close()
        self.lose_streams(fault.why)

    def close(self) -> None:
        """Close after what was written has been sent. A peer that may still be sending is given a moment to read it: a
        reset would destroy GOAWAY on its way."""
        if self.closing:
            return
        out, self.out = self.out, []
        if out:
            self.put(b"".join(out))
        self.closing = True
        self.read_frames = _unread
        if self.transport is None or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.wheel.arm(self, self.wheel.now + LINGER_TIMEOUT)
        else:
            self.transport.close()

    def expire(self, now: float) -> None:
        """The deadline of the connection is over; a subclass looks at its own before."""
        if self.closing:
            self.abort()

    def abort(self) -> None:
        """Break the connection at once."""
        self.closing = True
        self.read_frames = _unread
        self.wheel.remove(self)
        if self.transport is not None and not self.transport.is_closing():
            reset_on_close(self.transport)
            self.transport.abort()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} streams={len(self.streams)}{' closing' if self.closing else ''}>"
