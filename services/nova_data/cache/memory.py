"""The answers of one process: a bounded number, and who was not asked for longest leaves. No clock, no loop."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from nova_data.cache.freshness import Entry

K = TypeVar("K", bound=Hashable)


class Memory(Generic[K]):
    """At most `limit` entries, from 1. Raises ValueError for others. Every step is O(1)."""

    __slots__ = ("_entries", "_limit", "evicted")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"entries: expected at least 1, got {limit}")
        self._limit = limit
        self._entries: OrderedDict[K, Entry] = OrderedDict()
        self.evicted = 0
        """Entries that left for others."""

    def get(self, key: K) -> Entry | None:
        """The entry, which was asked for now."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: K, entry: Entry) -> None:
        """Keep an entry, in place of one that may be there."""
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
            self.evicted += 1

    def drop(self, key: K) -> None:
        """Keep none for this key."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Memory entries={len(self)} limit={self._limit} evicted={self.evicted}>"
