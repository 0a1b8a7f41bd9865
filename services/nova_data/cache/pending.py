"""What was changed and is not saved yet: what goes next, and when. No clock, no loop.

    put ──▶ waiting ── take ──▶ under way ── saved ──▶ gone
               ▲                    │
               └────── failed ──────┘      and after a pause, which grows, it is taken again

Rules:

* Of several changes of one key the last one is saved; a change while an older one is under way waits for its turn.
* A value waits `after` seconds at most before it goes, and goes earlier when a batch is full.
* What could not be saved is kept, until it is: nothing is given up here. Memory is bounded by `limit` keys; a key
  beyond them is refused, so that whoever changes it knows.
* After a failure there is a pause, longer each time (`PAUSES`); it counts for all keys, since a save fails for what all
  of them share.
"""

from collections.abc import Hashable, Mapping
from math import inf
from random import Random
from typing import Final, Generic, TypeVar

from nova_data.backoff import Backoff

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PAUSES: Final = Backoff(base=0.5, longest=30.0)


class Pending(Generic[K, V]):
    """See the module. `after` in seconds above 0; `most` keys in a batch and `limit` in all, from 1.

    Raises ValueError, with field and rule, for others.
    """

    __slots__ = ("_after", "_failures", "_limit", "_most", "_not_before", "_under_way", "_waiting")

    def __init__(self, *, after: float, most: int, limit: int) -> None:
        if not after > 0:
            raise ValueError(f"flush_after: expected seconds above 0, got {after}")
        if most < 1 or limit < most:
            raise ValueError(f"batch: expected 1 up to the limit ({limit}), got {most}")
        self._after = after
        self._most = most
        self._limit = limit
        self._waiting: dict[K, tuple[float, V]] = {}  # since when, and what; who has waited longest comes first
        self._under_way: dict[K, V] = {}
        self._failures = 0
        self._not_before = -inf

    def put(self, key: K, value: V, now: float) -> bool:
        """Whether there is room for a change; one that replaces another waits since that one came."""
        since, known = self._waiting.get(key), key in self._under_way
        if since is None and not known and len(self) >= self._limit:
            return False
        self._waiting[key] = (now if since is None else since[0], value)
        return True

    def get(self, key: K, default: V) -> V:
        """What was put for a key and is not saved yet."""
        found = self._waiting.get(key)
        return found[1] if found is not None else self._under_way.get(key, default)

    def pause(self, now: float) -> float:
        """Seconds until `take` gives something; 0 for now, infinite while nothing waits or a batch is under way."""
        if not self._waiting or self._under_way:
            return inf
        due = next(iter(self._waiting.values()))[0] + self._after
        if len(self._waiting) >= self._most:
            due = -inf
        return max(0.0, max(due, self._not_before) - now)

    def take(self) -> dict[K, V]:
        """The next batch, which is under way now; empty while another one is. It need not be due."""
        if self._under_way:
            return {}
        keys = [key for key, _ in zip(self._waiting, range(self._most), strict=False)]
        self._under_way = {key: self._waiting.pop(key)[1] for key in keys}
        return dict(self._under_way)

    def saved(self) -> None:
        """The batch under way is saved."""
        self._under_way = {}
        self._failures = 0
        self._not_before = -inf

    def failed(self, now: float, random: Random) -> None:
        """It is not: it goes on waiting, but for what was changed meanwhile."""
        again = {key: (now - self._after, value) for key, value in self._under_way.items() if key not in self._waiting}
        self._under_way = {}
        self._waiting = again | self._waiting
        self._failures += 1
        self._not_before = now + PAUSES.wait(self._failures, random)

    def all(self) -> Mapping[K, V]:
        """Everything that is not saved."""
        return self._under_way | {key: value for key, (_, value) in self._waiting.items()}

    def __len__(self) -> int:
        return len(self._waiting) + sum(key not in self._waiting for key in self._under_way)

    def __repr__(self) -> str:
        return f"<Pending waiting={len(self._waiting)} under_way={len(self._under_way)} failures={self._failures}>"
