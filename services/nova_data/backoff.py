"""How long to wait before another attempt, without a clock: the policy of all that the data tools try again."""

from dataclasses import dataclass
from random import Random
from typing import Final

_MOST_DOUBLINGS: Final = 32


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `base` up to `longest` seconds, drawn evenly from the upper half of each, so that what
    failed together does not come back together; after `attempts` failures there is no other attempt."""

    base: float = 1.0
    longest: float = 60.0
    attempts: int = 10

    def next(self, failures: int, rng: Random) -> float | None:
        """Seconds until the next attempt after so many failures, from 1; None: there is none."""
        return None if failures >= self.attempts else self.wait(failures, rng)

    def wait(self, failures: int, rng: Random) -> float:
        """The same for what is never given up."""
        bound = min(self.base * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.longest)
        return bound * (0.5 + rng.random() / 2)
