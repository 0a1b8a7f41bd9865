"""What the relay decides, without a clock, a database or a broker: `now` and randomness come in as arguments.

* `Backoff`: when an event that failed is tried again, and when it is given up.
* `Breaker`: whether Kafka is worth asking.
* `Pace`: when to look for events of which nobody told.
* `share`: how many slots a relay should hold.
"""

from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Final, Literal

State = Literal["closed", "open", "half_open"]
STATES: Final[tuple[State, ...]] = ("closed", "open", "half_open")
_MOST_DOUBLINGS: Final = 32


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `base` up to `longest` seconds, drawn evenly from the upper half of each, so that what
    failed together does not come back together; after `attempts` failures an event is quarantined."""

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


class Breaker:
    """Closed while Kafka takes events; opened by a round in which it took none, for a time that doubles with each
    probe that fails. Times in seconds of a monotonic clock.

        closed ── a round without a single acknowledgement ──▶ open
        open ── its time is over ──▶ half_open
        half_open ── a probe succeeds ──▶ closed
        half_open ── a probe fails ──▶ open, twice as long
    """

    __slots__ = ("_backoff", "_rng", "failures", "state", "transitions", "until")

    def __init__(self, rng: Random, *, base: float = 0.5, longest: float = 15.0) -> None:
        self._rng = rng
        self._backoff = Backoff(base, longest)
        self.state: State = "closed"
        self.failures = 0
        """In a row."""
        self.until = 0.0
        """The instant from which on a probe is due, while open."""
        self.transitions: dict[State, int] = dict.fromkeys(STATES, 0)
        """How often it came into each state."""

    def failed(self, now: float) -> None:
        """Kafka took nothing."""
        self.failures += 1
        self.until = now + self._backoff.wait(self.failures, self._rng)
        self._move("open")

    def succeeded(self) -> None:
        """It took something, or answered a probe."""
        self.failures = 0
        self._move("closed")

    def probe(self, now: float) -> float:
        """Seconds until a probe is due; at 0 the breaker is half open, and `failed` or `succeeded` must follow."""
        if self.state == "open" and now >= self.until:
            self._move("half_open")
        return max(0.0, self.until - now) if self.state == "open" else 0.0

    def _move(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.transitions[state] += 1

    def __repr__(self) -> str:
        return f"<Breaker {self.state} failures={self.failures}>"


class Pace:
    """Waits between looks for events that nobody announced: `shortest` after some were found, then twice as long each
    time, `longest` at most. In seconds."""

    __slots__ = ("_longest", "_shortest", "wait")

    def __init__(self, shortest: float = 0.02, longest: float = 1.0) -> None:
        self._shortest, self._longest = shortest, longest
        self.wait = shortest
        """Until the next look."""

    def looked(self, *, found: bool) -> None:
        """There was a look."""
        self.wait = self._shortest if found else min(self.wait * 2, self._longest)


def share(slots: int, relays: int) -> int:
    """How many of the slots one of so many relays holds at most, so that all are held."""
    return ceil(slots / max(1, relays))
