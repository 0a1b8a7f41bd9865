"""A request's body on its way: what is held until there is a connection, and what is kept for a further attempt.

A client that sends a byte now and then is never silent, and would hold its place at the app for as long as it likes.
So a body that is under way must also keep up a rate, low enough for any real uplink: `LEAST_RATE`, taken over the time
for which silence is allowed. Times in which the app or upstream does not read do not count.
"""

from math import inf
from typing import Final

from nova_sidecar.wire.chunked import LAST_CHUNK, chunk
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.request import RequestHead

HOLD: Final = 64 * 1024
"""Bytes taken from a client while there is no connection to pass them to; then reading stops."""
LEAST_RATE: Final = 512
"""Bytes per second that a client must send of a body while it holds a place."""


class RequestBody:
    """The body of one request. `pieces` are all bytes from its start while `replayable`, else those not yet sent."""

    __slots__ = (
        "_chunked", "_limit", "_measured", "_since", "done", "look_at", "pieces", "replayable", "size", "trailers",
    )  # fmt: skip

    def __init__(self, head: RequestHead, limit: int) -> None:
        self._chunked = head.length == CHUNKED
        self._limit = limit
        self.pieces: list[bytes] = []
        self.size = 0
        self.replayable = limit > 0 and head.length <= limit
        self.done = False
        self.trailers = b""
        self.look_at = inf
        """The instant from which on `too_slow` has something to say."""
        self._since = 0.0
        self._measured = 0

    def measure(self, received: int, now: float, span: float) -> None:
        """Measure the client's rate anew; `received` bytes are there by now, look after `span` seconds."""
        self._since = now
        self._measured = received
        self.look_at = now + span

    def too_slow(self, received: int, now: float) -> bool:
        """Whether the client has sent less than it must since `measure`."""
        return received - self._measured < LEAST_RATE * (now - self._since)

    def hold(self, data: bytes) -> bool:
        """Keep what cannot be sent yet; True when it is enough for now."""
        self.pieces.append(data)
        self.size += len(data)
        return self.size > HOLD

    def passing(self, data: bytes) -> bytes:
        """Content that goes out now, framed; kept too as long as it fits the limit."""
        if self.replayable:
            self.size += len(data)
            if self.size > self._limit:
                self.replayable = False
                self.pieces = []
            else:
                self.pieces.append(data)
        return chunk(data) if self._chunked else data

    def end(self, trailers: bytes) -> bytes:
        """The body is complete; what to send for that."""
        self.done = True
        self.trailers = trailers
        return self._ending()

    def opening(self) -> bytes:
        """Everything there is so far, framed: what a new attempt sends behind the head."""
        pieces = self.pieces
        framed = b"".join([chunk(piece) for piece in pieces] if self._chunked else pieces)
        if not self.replayable or self.size > self._limit:
            self.replayable = False
            self.pieces = []
        return framed + self._ending() if self.done else framed

    def _ending(self) -> bytes:
        return LAST_CHUNK + self.trailers + b"\r\n" if self._chunked else b""
