"""What the relay decides, without a clock, a database or a broker: `now` and randomness come in as arguments.

* `Pace`: when to look for events of which nobody told.
* `share`: how many slots a relay should hold.

When what failed is tried again, and whether Kafka is worth asking, `nova_data.backoff` and `nova_data.breaker` decide.
"""

from math import ceil


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
