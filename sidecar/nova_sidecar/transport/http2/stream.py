"""One stream on one connection, and the windows of both directions (RFC 9113 section 5.2).

Rules:

* What comes in is passed on at once as far as the other side's windows take it. The rest is kept in `queue`, and the
  sender gets its credit back only as it leaves: so nobody's slowness is stored here beyond one window a stream.
* Credit is given back in one WINDOW_UPDATE for half a window, not for every frame; on a stream that the peer has
  ended there is none to give.
* A window may become negative, by a change of SETTINGS; then nothing is sent until it is positive again.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from nova_sidecar.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    SMALLEST_MAX_FRAME,
    frame_header,
    headers,
    pack,
    window_update,
)

if TYPE_CHECKING:
    from nova_sidecar.transport.http2.session import Session

WINDOW: Final = 128 * 1024
"""Bytes that a peer may have under way to us on one stream; also the most that is kept for a stream."""
CONNECTION_WINDOW: Final = 4 * 1024 * 1024
"""The same for a whole connection."""
_HALF: Final = WINDOW // 2
_CONNECTION_HALF: Final = CONNECTION_WINDOW // 2


class Stream:
    """See the module. One on the client's connection and one on the upstream's make an exchange."""

    __slots__ = (
        "last", "number", "owed", "queue", "read_end", "room", "session", "source", "window", "wrote_end",
    )  # fmt: skip

    def __init__(self, session: "Session", number: int) -> None:
        self.session = session
        self.number = number
        # from the peer
        self.room = WINDOW
        """Bytes that the peer may still send."""
        self.owed = 0
        """Bytes that were passed on and that the peer has no credit for yet."""
        self.read_end = False
        """Whether the peer has sent its END_STREAM."""
        # to the peer
        self.window = session.initial
        """Bytes that the peer takes."""
        self.wrote_end = False
        """Whether our END_STREAM is out."""
        self.queue: deque[bytes] | None = None
        """What the windows did not take; then everything that follows has to wait behind it."""
        self.last: bytes | None = None
        """How it ends behind the queue: b"" with END_STREAM alone, else with this block of trailers."""
        self.source: Stream | None = None
        """Where the queue came from: it gets the credit as the queue leaves."""

    # --- what the session calls

    def on_data(self, data: bytes, flow: int, end: int) -> None:
        """DATA from the peer, with the bytes that count for the windows."""
        raise NotImplementedError

    def on_reset(self, code: int) -> None:
        """RST_STREAM from the peer; the session has forgotten the stream."""
        raise NotImplementedError

    def on_lost(self, why: str, *, unseen: bool) -> None:
        """The connection is over, or the peer will not look at this stream (`unseen`); the session has forgotten it."""
        raise NotImplementedError

    def on_progress(self) -> None:
        """Some of the queue has left."""

    def on_written(self) -> None:
        """The queue has left and our side of the stream is ended."""

    # --- to the peer

    def write(self, data: bytes, end: int, source: "Stream | None" = None) -> bool:
        """Send content. False: some of it waits, and `source` is credited as it leaves."""
        size = len(data)
        session = self.session
        if self.queue is None and size <= self.window and size <= session.window and not session.blocked:
            self.window -= size
            session.window -= size
            out = session.out
            if not out:
                session.outbox.touch(session)
            if end:
                self.wrote_end = True
            out += (pack(size >> 8, size & 0xFF, DATA, end, self.number), data)
            return True
        if self.queue is None:
            self.queue = deque()
            session.waiting[self] = None
        self.queue.append(data)
        self.source = source
        if end:
            self.last = b""
        self.drain()
        return self.queue is None

    def write_headers(self, block: bytes, end: int) -> None:
        """Send a header block: the head, or, after content, the trailers. Headers take no window."""
        session = self.session
        if self.queue is not None:
            self.last = block
            return
        out = session.out
        if not out:
            session.outbox.touch(session)
        if end:
            self.wrote_end = True
        size = len(block)
        if size <= SMALLEST_MAX_FRAME:  # every peer takes that much
            out += (pack(size >> 8, size & 0xFF, HEADERS, END_HEADERS | end, self.number), block)
        else:
            out.append(headers(self.number, block, end=bool(end), max_frame=session.max_frame))

    def drain(self) -> None:
        """Send what the windows take of the queue by now."""
        while self.queue is not None:
            if not self.step():
                return

    def step(self) -> bool:
        """One frame of the queue; False when it cannot leave now."""
        queue, session = self.queue, self.session
        if queue is None:
            return False
        data = queue[0]
        allowed = min(self.window, session.window, session.max_frame)
        if session.blocked or (data and allowed <= 0):
            return False
        if len(data) > allowed > 0:
            queue[0] = data[allowed:]
            data = data[:allowed]
        else:
            queue.popleft()
        size = len(data)
        self.window -= size
        session.window -= size
        end = not queue and self.last == b""
        session.send(frame_header(size, DATA, END_STREAM if end else 0, self.number) + data)
        if self.source is not None:
            self.source.credit(size)
        if not queue:
            self._emptied(end)
        self.on_progress()
        return True

    def _emptied(self, end: bool) -> None:
        self.queue = None
        self.session.waiting.pop(self, None)
        if self.last:
            self.write_headers(self.last, END_STREAM)
        elif end:
            self.wrote_end = True
        if self.wrote_end:
            self.on_written()

    def discard(self) -> None:
        """Forget the queue; its source gets the credit for its connection all the same."""
        queue, self.queue = self.queue, None
        if queue is None:
            return
        self.session.waiting.pop(self, None)
        if self.source is not None:
            self.source.credit(sum(map(len, queue)))

    # --- from the peer

    def credit(self, size: int) -> None:
        """Bytes from the peer have been passed on: it may send as many again."""
        session = self.session
        session.owed += size
        if session.owed >= _CONNECTION_HALF:
            session.repay()
        if not self.read_end:
            self.owed += size
            if self.owed >= _HALF and session.streams.get(self.number) is self:
                self.room += self.owed
                session.send(window_update(self.number, self.owed))
                self.owed = 0
