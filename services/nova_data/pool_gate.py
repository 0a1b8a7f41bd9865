"""Whether a pool has room: the decision alone, without a clock or a pool.

A pool of connections to a database is a queue that nobody sees. While it is full every further request waits in it,
holds its memory and its caller's patience meanwhile, and is answered late or not at all. So who comes while more than
`threshold` of the pool is in use is refused at once; the rest of the pool is what absorbs the moment until the refusals
are felt. The sidecar bounds requests by the same rule (`backpressure`).

Rules:

* In use is what is held and what is being taken: a burst that comes within one turn of the event loop is counted as it
  comes, not when the pool has served it.
* Utilization is looked at before a request is let in, so that a pool of one can be used at all.
* At a threshold of 1 nobody is refused early; who comes waits for the pool, within the guard's bound.
* What others take past the gate counts too, where the pool tells how much that is.
"""

from collections.abc import Callable
from typing import Final

from nova_data.errors import Cause

THRESHOLD: Final = 0.85
CAUSES: Final[tuple[Cause, ...]] = ("threshold", "timeout")


class PoolGate:
    """Counts one pool. Usage: `admit`; if that is None, `took` or `gave_up`; after `took`, `gave_back`.

    `size` is the most connections that the pool gives out, from 1; `in_use`, where the pool knows it, how many it has
    given out, to whomever. `threshold` is above 0 and at most 1. Raises ValueError for others.
    """

    __slots__ = ("_in_use", "_size", "asking", "exhausted", "held", "threshold")

    def __init__(
        self, size: int | Callable[[], int], *, threshold: float = THRESHOLD, in_use: Callable[[], int] | None = None
    ) -> None:
        self._size = size
        self._in_use = in_use
        self.threshold = checked(threshold)
        self.held = 0
        """Connections that were given out through the gate."""
        self.asking = 0
        """Requests that were let in and have no connection yet."""
        self.exhausted: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        """Requests that got none."""
        if not callable(size) and size < 1:
            raise ValueError(f"expected a pool of at least 1, got {size}")

    @property
    def size(self) -> int:
        """Most connections there are, now."""
        return max(1, self._size() if callable(self._size) else self._size)

    @property
    def used(self) -> int:
        """Connections in use, those that are being taken included."""
        own = self.held + self.asking
        return own if self._in_use is None else max(own, self._in_use() + self.asking)

    @property
    def utilization(self) -> float:
        """Share of the pool that is in use, from 0 to 1; requests that wait for a connection make it no more than 1."""
        return min(1.0, self.used / self.size)

    @property
    def full(self) -> bool:
        """Whether a request that comes now is refused."""
        return self.threshold < 1 and self.used / self.size > self.threshold

    def admit(self) -> Cause | None:
        """Let a request in to the pool (None), or refuse it."""
        if self.full:
            self.exhausted["threshold"] += 1
            return "threshold"
        self.asking += 1
        return None

    def took(self) -> None:
        """It has its connection."""
        self.asking -= 1
        self.held += 1

    def late(self) -> None:
        """None came in time; `gave_up` follows."""
        self.exhausted["timeout"] += 1

    def gave_up(self) -> None:
        """It asks no longer, and has none."""
        self.asking -= 1

    def gave_back(self) -> None:
        """It needs its connection no more."""
        self.held -= 1

    def __repr__(self) -> str:
        state = "full" if self.full else "open"
        return f"<PoolGate {state} held={self.held} asking={self.asking} size={self.size}>"


def checked(threshold: float) -> float:
    """The threshold, if it is one. Raises ValueError."""
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a threshold above 0 and at most 1, got {threshold}")
    return threshold
