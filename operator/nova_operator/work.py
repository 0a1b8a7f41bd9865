"""Which service is looked at next: the keyed queue. Decides synchronously; `runner` awaits.

Rules: a key is in work at most once at a time; what is added while it is in work is looked at once more afterwards;
added twice before its turn, it has one turn, at the earlier time; after a failure it comes back later and later,
without herds (equal jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); what is heard
of a failing key in the meantime does not shorten that wait, or a storm of events would undo it.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from random import Random
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_BASE: Final = 0.2
BACKOFF_MAX: Final = 60.0
"""Most seconds until a key that failed is tried again: after its first failure, doubled with each, up to the last."""


class WorkQueue(Generic[K]):
    """Times are monotonic seconds, handed in by the caller."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = 0
        self._running: set[K] = set()
        self._again: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}

    def __repr__(self) -> str:
        return f"<WorkQueue waiting={len(self._due)} running={len(self._running)} failing={len(self._failures)}>"

    def __len__(self) -> int:
        return len(self._due)

    def overdue(self, now: float) -> int:
        """Keys whose turn has come and that nobody has taken yet."""
        return sum(due <= now for due in self._due.values())

    def add(self, key: K, now: float, delay: float = 0.0) -> None:
        """Give the key a turn `delay` seconds from now, or earlier if it has one."""
        due = max(now + delay, self._not_before.get(key, now))
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
        elif due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._serial += 1
            heapq.heappush(self._heap, (due, self._serial, key))

    def take(self, now: float) -> K | None:
        """The key whose turn it is, which is then in work; None if none is due."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:  # else it was moved to an earlier turn or forgotten
                del self._due[key]
                self._running.add(key)
                return key
        return None

    def lag(self, now: float) -> float:
        """Seconds for which the key whose turn is next has been waiting for it; 0 if nobody waits."""
        return max(0.0, now - self._heap[0][0]) if self._heap else 0.0

    def failing(self) -> int:
        """Keys that could not be worked on the last time."""
        return len(self._failures)

    def next_due(self) -> float | None:
        """When the next turn is, at the earliest; None if nothing waits."""
        return self._heap[0][0] if self._heap else None

    def done(self, key: K, now: float, again_in: float | None) -> None:
        """The key was worked on well; `again_in` seconds it wants to be looked at unasked, None: it is gone."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self._finish(key, now, again_in)

    def failed(self, key: K, now: float, at_least: float = 0.0) -> float:
        """The key could not be worked on; returns the seconds until its next turn, `at_least` those."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        bound = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** min(failures, 30))
        wait = max(at_least, self._random.uniform(bound / 2, bound))
        self._not_before[key] = now + wait
        self._finish(key, now, wait)
        return wait

    def _finish(self, key: K, now: float, again_in: float | None) -> None:
        self._running.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, now, max(0.0, again - now))
        if again_in is not None:
            self.add(key, now, again_in)
