"""How far a replica is behind its primary, in seconds: no clock, no connection.

`pg_last_xact_replay_timestamp()` says when the last transaction was committed that the replica has replayed. On a
primary that nobody writes to that becomes older and older, while the replica lacks nothing. So the lag is measured by
the log itself: the primary is asked now and then where its log stands (`heard`), and a replica that has replayed it up
to a sample lacks nothing that was committed before that sample was asked for. Its lag is at most the age of the latest
such sample.

            heard 10 s      heard 11 s      heard 12 s      now 12.4 s
    log ───────┬───────────────┬──────●────────┬──────────────▶
                                      replayed: it has all that was committed before 11 s; its lag is at most 1.4 s

That is a bound, never less than the truth, and as good as samples are frequent. While the primary cannot be asked,
replicas fall behind by the clock, though nobody can write either: for `orphaned` seconds what counts is then how far
they were behind when the primary was heard last.
"""

from bisect import bisect_right
from collections import deque
from math import inf
from typing import Final

SAMPLES: Final = 256
"""Positions of the primary that are remembered, the latest ones."""


class PrimaryLog:
    """Where the primary's log stood, and when. `silent` is after how many seconds without a sample it is unheard, and
    `orphaned` for how many more its replicas go on as they were."""

    __slots__ = ("_at", "_orphaned", "_positions", "_silent")

    def __init__(self, silent: float, orphaned: float) -> None:
        self._silent = silent
        self._orphaned = orphaned
        self._at: deque[float] = deque(maxlen=SAMPLES)
        self._positions: deque[int] = deque(maxlen=SAMPLES)

    def heard(self, position: int, asked: float) -> None:
        """The primary, asked at this instant, said where its log stands.

        A position before the last one is that of another primary, which took over without all of the log: what was
        heard of the former one says nothing about it.
        """
        if self._positions and position < self._positions[-1]:
            self._at.clear()
            self._positions.clear()
        self._at.append(asked)
        self._positions.append(position)

    @property
    def position(self) -> int:
        """Where its log stood last; 0 while it was never heard."""
        return self._positions[-1] if self._positions else 0

    def silent(self, now: float) -> bool:
        """Whether it was not heard for too long."""
        return not self._at or now - self._at[-1] > self._silent

    def lag(self, replayed: int, now: float) -> float:
        """How far a replica that has replayed so much is behind at most, in seconds; infinite where nobody knows."""
        known = bisect_right(self._positions, replayed)
        if not known:
            return inf
        if self.silent(now) and now - self._at[-1] <= self._silent + self._orphaned:
            now = self._at[-1]
        return now - self._at[known - 1]

    def __repr__(self) -> str:
        return f"<PrimaryLog samples={len(self._at)} position={self.position}>"
