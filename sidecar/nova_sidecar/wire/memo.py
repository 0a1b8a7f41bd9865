"""A bounded memo of parsed heads.

Clients repeat themselves: the same head, byte for byte, comes over many connections. Parsing it once and looking it up
by its bytes afterwards costs 0.1 µs instead of several. Values are immutable and hold nothing of a connection.

Heads that carry something of their own (a trace id) never come twice. So a head is only remembered when it is seen for
the second time within a while; until then just a hash of it is kept, and such traffic costs the memo nothing.

Two generations bound it without bookkeeping per hit: new entries go into the young one; when that is full it becomes
the old one, and the old one is dropped. What is still in use moves to the young one when it is found in the old.
"""

from collections.abc import Hashable, Sized
from typing import Final, Generic, Protocol, TypeVar

K = TypeVar("K", bound="Key")
V = TypeVar("V")


class Key(Sized, Hashable, Protocol):
    """The bytes of a head, or its fields."""


GENERATION_BYTES: Final = 256 * 1024
"""Bytes of keys in one generation; values are about as large again."""
LARGEST_KEY: Final = 4096
_ENTRY_COST: Final = 512
_SEEN: Final = 512


class Memo(Generic[K, V]):
    """Maps a head, its bytes or its fields, to what was read from it. `young` may be read directly on the fast path."""

    __slots__ = ("_old", "_room", "_seen", "young")

    def __init__(self) -> None:
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._room = GENERATION_BYTES
        self._seen: set[int] = set()

    def get(self, key: K) -> V | None:
        """The remembered value, or None."""
        found = self.young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self._put(key, found)
        return found

    def offer(self, key: K, value: V) -> None:
        """Remember a value if its key was offered before; keys that are too long are not remembered."""
        seen, mark = self._seen, hash(key)
        if mark in seen:
            if len(key) <= LARGEST_KEY:
                self._put(key, value)
            return
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(mark)

    def _put(self, key: K, value: V) -> None:
        self._room -= len(key) + _ENTRY_COST
        if self._room < 0:
            self._old = self.young
            self.young = {}
            self._room = GENERATION_BYTES
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young.keys() | self._old.keys())
