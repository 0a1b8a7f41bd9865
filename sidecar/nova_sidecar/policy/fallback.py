"""What a caller gets when the upstream has failed for good.

First the last good response to the same request, if it is young enough: an old answer is mostly better than none. Then
a fixed answer, where the policy has one. Then the error. What was answered so says it, in a field and in a metric: a
fallback that nobody notices hides an outage.

Responses are kept in memory, so memory is what bounds them: the least recently used leave (LRU), every step is O(1),
and what is still being received counts too. No single response may take more than a quarter.
"""

from collections import OrderedDict
from enum import StrEnum
from typing import Final, Generic, TypeVar

K = TypeVar("K")
Varies = tuple[tuple[bytes, bytes | None], ...]
"""Fields of a request that its response depends on, with their values (RFC 9110 section 12.5.5)."""

FALLBACK: Final = b"x-nova-fallback"
"""Field of an answer that stands in for the upstream's; its value is the `Kind`."""
ENTRY_COST: Final = 512
"""Bytes that an entry takes beside its head and body: objects and tables."""
LARGEST: Final = 4
"""One response takes at most this part of the memory."""


class Kind(StrEnum):
    """What stood in for the upstream's answer."""

    STALE = "stale"
    STATIC = "static"


class Kept:
    """A good response of the past."""

    __slots__ = ("age", "at", "body", "head", "size", "varies")

    def __init__(self, head: bytes, body: bytes, at: float, age: int, varies: Varies = (), *, asked: int = 0) -> None:
        self.head = head
        """Status line and fields, without those that say its length and age."""
        self.body = body
        self.at = at
        """When it came."""
        self.age = age
        """Seconds it was old then (RFC 9111 section 5.1)."""
        self.varies = varies
        self.size = len(head) + len(body) + asked + ENTRY_COST
        """Bytes it counts for; `asked` are those of its request that are kept with it, which callers choose."""

    def __repr__(self) -> str:
        return f"<Kept {len(self.body)} bytes at {self.at}>"


class KeptResponses(Generic[K]):
    """Responses by request, the least recently used first; `limit` bounds their bytes."""

    __slots__ = ("_entries", "_limit", "bytes", "held")

    def __init__(self, limit: int) -> None:
        self._entries: OrderedDict[K, Kept] = OrderedDict()
        self._limit = limit
        self.bytes = 0
        """Of all that is kept."""
        self.held = 0
        """Of responses on their way that will be kept."""

    def configure(self, limit: int) -> None:
        """Take over another limit; what is too much leaves."""
        self._limit = limit
        self._make_room()

    @property
    def largest(self) -> int:
        """Most bytes of one response."""
        return self._limit // LARGEST

    def keep(self, key: K, response: Kept) -> None:
        """Keep a response in place of an earlier one; nothing when it is too large."""
        entries = self._entries
        former = entries.pop(key, None)
        if former is not None:
            self.bytes -= former.size
        size = response.size
        if size <= self._limit // LARGEST:
            entries[key] = response
            self.bytes += size
            if self.bytes + self.held > self._limit:
                self._make_room()

    def find(self, key: K, now: float, young: float) -> Kept | None:
        """The response to this request, if it came less than `young` seconds ago; an older one leaves."""
        found = self._entries.get(key)
        if found is None:
            return None
        if now - found.at >= young:
            del self._entries[key]
            self.bytes -= found.size
            return None
        self._entries.move_to_end(key)
        return found

    def hold(self, size: int) -> None:
        """Count bytes of a response on its way; what is kept makes room for them."""
        self.held += size
        self._make_room()

    def let_go(self, size: int) -> None:
        """Count them no more."""
        self.held -= size

    @property
    def full(self) -> bool:
        """Whether even what is on its way is too much."""
        return self.held > self._limit

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _make_room(self) -> None:
        entries = self._entries
        while entries and self.bytes + self.held > self._limit:
            self.bytes -= entries.popitem(last=False)[1].size

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<KeptResponses {len(self)} of {self.bytes} bytes, {self.held} on their way>"
