"""Whether it is worth asking the other side (Kafka, or what a handler needs), without a clock of its own.

What counts as a failure is the caller's to say: the relay's is a round of which Kafka took nothing, the consumer's is
an outage (`nova_data.consumer.outage`).
"""

from random import Random
from typing import Final, Literal

from nova_data.backoff import Backoff

State = Literal["closed", "open", "half_open"]
STATES: Final[tuple[State, ...]] = ("closed", "open", "half_open")


class Breaker:
    """Closed while the other side answers; opened by a failure, for a time from `base` that doubles with each probe
    that fails, up to `longest`. Times in seconds of a monotonic clock.

        closed ── a failure ──▶ open
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
        """The other side did nothing of what it was asked."""
        self.failures += 1
        self.until = now + self._backoff.wait(self.failures, self._rng)
        self._move("open")

    def succeeded(self) -> None:
        """It did something of it, or answered a probe."""
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
