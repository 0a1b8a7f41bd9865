"""Which service is looked at next: the keyed queue. Decides synchronously; `runner` awaits.

Rules: a key is in work at most once at a time; what is added while it is in work is looked at once more afterwards;
added twice before its turn, it has one turn, at the earlier time; after a failure it comes back later and later,
without herds (equal jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); what is heard
of a failing key in the meantime does not shorten that wait, or a storm of events would undo it.

There are two classes. What somebody waits for (a service that was made or changed, drift, a write that failed) comes
first; what is in motion by itself, such as pods that start, has every fourth turn as long as others wait, and all turns
otherwise. Without it, a newcomer would wait for a look at each of a thousand services that have their pods made.

A key has some turns in a row and then one now and then: a service that changes all the time would have the next one as
soon as the last is over, each with a write of the very object that others write, which the API server repeats for them.
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

SHARE_IN_MOTION: Final = 4
"""One of so many turns is for what is in motion, while others wait."""

IN_A_ROW: Final = 10
PACE: Final = 0.2
"""So many turns a key has one after the other, and then one in so many seconds, until it was left alone for a while."""


class _Turns(Generic[K]):
    """The keys of one class by their turns."""

    def __init__(self) -> None:
        self.due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._serial = 0

    def add(self, key: K, due: float) -> None:
        """Give the key a turn, unless it has an earlier one."""
        if due < self.due.get(key, float("inf")):
            self.due[key] = due
            self._serial += 1
            heapq.heappush(self._heap, (due, self._serial, key))

    def first(self) -> float | None:
        """When the earliest turn is; drops those that were moved to an earlier one or forgotten."""
        while self._heap and self.due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def is_due(self, now: float) -> bool:
        """Whether a turn has come."""
        first = self.first()
        return first is not None and first <= now

    def take(self) -> K:
        """The key whose turn is first; there must be one."""
        self.first()
        key = heapq.heappop(self._heap)[2]
        del self.due[key]
        return key


class WorkQueue(Generic[K]):
    """Times are monotonic seconds, handed in by the caller."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waited_for: _Turns[K] = _Turns()
        self._in_motion: _Turns[K] = _Turns()
        self._contended = 0
        self._running: set[K] = set()
        self._again: dict[K, tuple[float, bool]] = {}
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}
        self._paid_until: dict[K, float] = {}
        """When a key has paid for the turns that it had, at `PACE` seconds each. With the next one it may be `IN_A_ROW`
        turns ahead, no more."""

    def __repr__(self) -> str:
        return f"<WorkQueue waiting={len(self)} running={len(self._running)} failing={len(self._failures)}>"

    def __len__(self) -> int:
        return len(self._waited_for.due.keys() | self._in_motion.due.keys())

    def overdue(self, now: float) -> int:
        """Keys whose turn has come and that nobody has taken yet."""
        return len({key for turns in self._classes() for key, due in turns.due.items() if due <= now})

    def add(self, key: K, now: float, delay: float = 0.0, *, in_motion: bool = False) -> None:
        """Give the key a turn `delay` seconds from now, or earlier if it has one; later if it had many."""
        paced = self._paid_until.get(key, now) - (IN_A_ROW - 1) * PACE
        due = max(now + delay, self._not_before.get(key, now), paced)
        if key in self._running:
            known = self._again.get(key)
            self._again[key] = (due, in_motion) if known is None else (min(due, known[0]), in_motion and known[1])
        else:
            (self._in_motion if in_motion else self._waited_for).add(key, due)

    def take(self, now: float) -> K | None:
        """The key whose turn it is, which is then in work; None if none is due."""
        waited_for, in_motion = self._waited_for.is_due(now), self._in_motion.is_due(now)
        if waited_for and in_motion:
            self._contended += 1
            waited_for = self._contended % SHARE_IN_MOTION != 0
        elif not waited_for and not in_motion:
            return None
        key = (self._waited_for if waited_for else self._in_motion).take()
        for turns in self._classes():
            turns.due.pop(key, None)
        self._running.add(key)
        self._paid_until[key] = max(now, self._paid_until.get(key, now)) + PACE
        return key

    def lag(self, now: float) -> float:
        """Seconds for which the key that is first in its class has been waiting; 0 if nobody waits."""
        due = self.next_due()
        return 0.0 if due is None else max(0.0, now - due)

    def failing(self) -> int:
        """Keys that could not be worked on the last time."""
        return len(self._failures)

    def next_due(self) -> float | None:
        """When the next turn is, at the earliest; None if nothing waits."""
        return min((due for turns in self._classes() if (due := turns.first()) is not None), default=None)

    def done(self, key: K, now: float, again_in: float | None) -> None:
        """The key was worked on well; `again_in` seconds it wants to be looked at unasked, None: it is gone."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self._finish(key, now, again_in, in_motion=again_in != 0)
        if again_in is None:
            self._paid_until.pop(key, None)

    def failed(self, key: K, now: float, at_least: float = 0.0) -> float:
        """The key could not be worked on; returns the seconds until its next turn, `at_least` those."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        bound = min(BACKOFF_MAX, BACKOFF_BASE * 2 ** min(failures, 30))
        wait = max(at_least, self._random.uniform(bound / 2, bound))
        self._not_before[key] = now + wait
        self._finish(key, now, wait, in_motion=False)
        return wait

    def _finish(self, key: K, now: float, again_in: float | None, *, in_motion: bool) -> None:
        self._running.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, now, max(0.0, again[0] - now), in_motion=again[1])
        if again_in is not None:
            self.add(key, now, again_in, in_motion=in_motion)

    def _classes(self) -> tuple[_Turns[K], _Turns[K]]:
        return self._waited_for, self._in_motion
