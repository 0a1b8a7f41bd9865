"""Points in time as log lines carry them."""

import time
from typing import Final

_MILLIS: Final = tuple(f".{millis:03}Z" for millis in range(1000))


class Stamper:
    """Turns seconds since the epoch into RFC 3339, UTC, with milliseconds: ``2026-01-31T09:00:00.250Z``.

    The part down to the second is kept, since thousands of lines share it; a stamp then costs a comparison and a
    concatenation instead of a calendar calculation.
    """

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def stamp(self, now: float) -> str:
        """The text for `now`, seconds since the epoch, cut (not rounded) to the millisecond."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._prefix + _MILLIS[int((now - second) * 1000)]
