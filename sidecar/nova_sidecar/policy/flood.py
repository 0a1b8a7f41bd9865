"""Frames that cost work and carry none: how many of them a peer of an HTTP/2 connection may send.

HTTP/2 lets a peer make us work without ever holding what we count. A stream that is opened and reset at once never
counts among the concurrent ones, yet the request goes to the app (rapid reset, CVE-2023-44487); the same works by
making us reset it, with a frame that is an error (MadeYouReset, CVE-2025-8671). PING and SETTINGS want answers, empty
DATA and CONTINUATION and small WINDOW_UPDATEs want nothing but our attention (CVE-2019-9511 to 9518).

So every such frame takes from a bucket what its kind costs, and a peer that empties it is cut off. Useful work fills
it again: a finished stream gives back what half a reset costs, so a client that cancels every third of its calls may
go on for ever at any rate, as hedging clients do, while one that resets nearly all of them has what drips into the
bucket, 100 resets a second, and 1000 at once. Only rare frames come here: DATA with content, HEADERS and the
WINDOW_UPDATEs that follow from content are never asked about.
"""

from typing import Final

from nova_sidecar.policy.reasons import Reason, Reject

CAPACITY: Final = 2000.0
"""What a peer may spend at once."""
REFILL: Final = 200.0
"""What comes back per second."""

RESET: Final = 2.0
"""A stream that ends with RST_STREAM, by the peer or by us for the peer's fault: the work behind it may be lost."""
CONTROL: Final = 2.0
"""PING and SETTINGS that are to be answered. One PING after content that was sent is for the caller to leave out: gRPC
measures the path so."""
EMPTY: Final = 1.0
"""DATA without content that does not end a stream, and frames that are read and ignored: PRIORITY, extensions, unasked
acknowledgements."""
TRICKLE: Final = 0.25
"""WINDOW_UPDATE of less than `SMALL_UPDATE` bytes."""
EARNED: Final = 1.0
"""What a stream that ends as it should gives back."""

SMALL_UPDATE: Final = 5
"""Bytes below which WINDOW_UPDATE is a trickle. A peer may send one for each message it reads, at any rate, and the
smallest message of gRPC has five bytes."""

_FLOOD: Final = Reject(Reason.FLOOD)


class FloodGuard:
    """The bucket of one connection; `now` in monotonic seconds."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float = 0.0) -> None:
        self._left = CAPACITY
        self._at = now

    def admit(self, cost: float, now: float) -> Reject | None:
        """Take a frame's cost out of the bucket; a refusal when it is empty: the connection is to be closed."""
        left = self._left + (now - self._at) * REFILL
        self._at = now
        self._left = left = (left if left < CAPACITY else CAPACITY) - cost
        return None if left >= 0.0 else _FLOOD

    def record(self, streams: int = 1) -> None:
        """Streams have ended as they should."""
        self._left = min(CAPACITY, self._left + streams * EARNED)

    def snapshot(self, now: float) -> dict[str, float]:
        """What is left in the bucket."""
        return {"left": min(CAPACITY, self._left + (now - self._at) * REFILL), "capacity": CAPACITY}

    def __repr__(self) -> str:
        return f"<FloodGuard left={self._left:.0f}>"
