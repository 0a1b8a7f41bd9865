"""How long a breaker stays open, each time it opens.

* openDuration the first time; twice as long after each probe that failed, up to maxOpenDuration. Closing forgets that.
* Spread upwards by up to 10 %, so that many sidecars do not probe at the same instant. It is never shorter than
  openDuration nor longer than maxOpenDuration; near that end it is spread downwards.
* ForcedOpen: without an end.
"""

from math import inf
from random import Random
from typing import Final

from nova_api.policies import BreakerPolicy

_SPREAD: Final = 0.1
_MOST_DOUBLINGS: Final = 32


class OpenTime:
    """The present or last open time of one breaker, and what all of them come to. Instants in monotonic seconds."""

    __slots__ = ("_before", "_doublings", "_rng", "_spread", "began", "until")

    def __init__(self, rng: Random, now: float) -> None:
        self._rng = rng
        self._before = 0.0  # seconds of those that are over
        self._doublings = 0
        self._spread = 0.0
        self.began = now
        self.until = now
        """The instant from which on a probe may pass."""

    def begin(self, policy: BreakerPolicy, now: float) -> None:
        """It opens."""
        self.began = now
        self._spread = self._rng.random()
        self.configure(policy)

    def configure(self, policy: BreakerPolicy) -> None:
        """Give the open time under way its length by this policy."""
        self.until = self.began + self._length(policy)

    def end(self, now: float) -> None:
        """It is open no more."""
        self._before += now - self.began

    def double(self) -> None:
        """A probe failed: the next one is twice as long."""
        self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)

    def forget(self) -> None:
        """It closed: the next one is a first one."""
        self._doublings = 0

    def total(self, now: float, *, under_way: bool) -> float:
        """Seconds of all open times so far, the one `under_way` included."""
        return self._before + (now - self.began) if under_way else self._before

    def left(self, now: float) -> float | None:
        """Seconds until a probe may pass; None: there is no telling."""
        return None if self.until == inf else max(0.0, self.until - now)

    def __repr__(self) -> str:
        return f"<OpenTime {self.began:.3f} to {self.until:.3f} doublings={self._doublings}>"

    def _length(self, policy: BreakerPolicy) -> float:
        if policy.mode == "ForcedOpen":
            return inf
        shortest, longest = float(policy.open_duration), float(policy.max_open_duration)
        low = min(shortest * 2.0**self._doublings, longest)
        high = low * (1 + _SPREAD)
        if high > longest:
            low, high = max(shortest, longest / (1 + _SPREAD)), longest
        return min(high, low + self._spread * (high - low))  # the sum may round up
