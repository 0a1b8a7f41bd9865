"""Which entries leave a full cache: S3-FIFO (Yang, Zhang, Qiu, Yue and Vigfusson, "FIFO queues are all you need for
cache eviction", SOSP 2023).

Most of what a cache takes in is never asked for again, and under LRU each such entry pushes out one that is. So new
entries wait in a small queue (a tenth of the room). What was not asked for twice by its end leaves, and only its name
is remembered for a while, in the ghost queue; what was moves to the main queue, and so does what comes again while its
name is remembered. At the main queue's end an entry that was asked for goes round once more. A hit changes one number,
at most 3; nothing is moved.

Entries have sizes; `limit` bounds their sum. The property tests compare hit ratios with LRU's on Zipf traces.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SMALL_SHARE: Final = 10
"""The small queue has this part of the room."""
MOST_HITS: Final = 3
"""Hits that are told apart."""
GHOSTS: Final = 65_536
"""Names remembered, at most; never more than there are entries in the main queue, or 16."""


class _Slot(Generic[V]):
    __slots__ = ("hits", "size", "value")

    def __init__(self, value: V, size: int) -> None:
        self.value = value
        self.size = size
        self.hits = 0


class S3Fifo(Generic[K, V]):
    """See the module. `limit` in the unit of the sizes, bytes mostly."""

    __slots__ = ("_ghosts", "_limit", "_main", "_small", "_small_size", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._small: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._main: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_size = 0
        self.size = 0
        """Of all entries."""

    @property
    def limit(self) -> int:
        """The room there is."""
        return self._limit

    def configure(self, limit: int) -> list[tuple[K, V]]:
        """Take over another limit; what leaves for it."""
        self._limit = limit
        return self._make_room(0)

    def get(self, key: K) -> V | None:
        """The value, counted as a hit."""
        slot = self._main.get(key) or self._small.get(key)
        if slot is None:
            return None
        if slot.hits < MOST_HITS:
            slot.hits += 1
        return slot.value

    def put(self, key: K, value: V, size: int) -> list[tuple[K, V]]:
        """Take in a value in place of an earlier one; what leaves for it. One larger than the limit is not taken in,
        and leaves itself."""
        former = self._take(key)
        if size > self._limit:
            return [(key, value)]
        gone = self._make_room(size)
        slot = _Slot(value, size)
        mark = hash(key)
        if former is not None:
            slot.hits = former.hits
            known = True
        else:
            known = mark in self._ghosts
        if known:
            self._ghosts.pop(mark, None)
            self._main[key] = slot
        else:
            self._small[key] = slot
            self._small_size += size
        self.size += size
        return gone

    def pop(self, key: K) -> V | None:
        """Remove an entry."""
        slot = self._take(key)
        return None if slot is None else slot.value

    def clear(self) -> None:
        """Forget everything."""
        self._small.clear()
        self._main.clear()
        self._ghosts.clear()
        self._small_size = self.size = 0

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries, oldest of each queue first."""
        for queue in (self._small, self._main):
            for key, slot in queue.items():
                yield key, slot.value

    def _take(self, key: K) -> _Slot[V] | None:
        slot = self._main.pop(key, None)
        if slot is None:
            slot = self._small.pop(key, None)
            if slot is None:
                return None
            self._small_size -= slot.size
        self.size -= slot.size
        return slot

    def _make_room(self, wanted: int) -> list[tuple[K, V]]:
        gone: list[tuple[K, V]] = []
        while self.size + wanted > self._limit and (self._small or self._main):
            if self._small and (self._small_size * SMALL_SHARE >= self._limit or not self._main):
                self._age_small(gone)
            else:
                self._age_main(gone)
        return gone

    def _age_small(self, gone: list[tuple[K, V]]) -> None:
        key, slot = self._small.popitem(last=False)
        self._small_size -= slot.size
        if slot.hits > 1:
            slot.hits = 0
            self._main[key] = slot
            return
        self.size -= slot.size
        gone.append((key, slot.value))
        ghosts = self._ghosts
        ghosts[hash(key)] = None
        while len(ghosts) > min(GHOSTS, max(16, len(self._main) + len(self._small))):
            ghosts.popitem(last=False)

    def _age_main(self, gone: list[tuple[K, V]]) -> None:
        key, slot = self._main.popitem(last=False)
        if slot.hits > 0:
            slot.hits -= 1
            self._main[key] = slot
            return
        self.size -= slot.size
        gone.append((key, slot.value))

    def __contains__(self, key: K) -> bool:
        return key in self._main or key in self._small

    def __len__(self) -> int:
        return len(self._main) + len(self._small)

    def __repr__(self) -> str:
        return f"<S3Fifo {len(self._small)} + {len(self._main)} entries, {self.size} of {self._limit}>"
