"""A bounded memo of parsed heads.

Clients repeat themselves: the same head, byte for byte, comes over many connections. Parsing it once and looking it up
by its bytes afterwards costs 0.1 µs instead of several. Values are immutable and hold nothing of a connection.

Two generations bound it without bookkeeping per hit: new entries go into the young one; when that is full it becomes
the old one, and the old one is dropped. What is still in use moves to the young one when it is found in the old.
"""

from typing import Final, Generic, TypeVar

V = TypeVar("V")

GENERATION_BYTES: Final = 256 * 1024
"""Bytes of keys in one generation; values are about as large again."""
LARGEST_KEY: Final = 4096
_ENTRY_COST: Final = 512


class Memo(Generic[V]):
    """Maps the bytes of a head to what was read from it. `young` may be read directly on the fast path."""

    __slots__ = ("_old", "_room", "young")

    def __init__(self) -> None:
        self.young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}
        self._room = GENERATION_BYTES

    def get(self, key: bytes) -> V | None:
        """The remembered value, or None."""
        found = self.young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: bytes, value: V) -> None:
        """Remember a value; keys that are too long are not remembered."""
        if len(key) > LARGEST_KEY:
            return
        self._room -= len(key) + _ENTRY_COST
        if self._room < 0:
            self._old = self.young
            self.young = {}
            self._room = GENERATION_BYTES
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young.keys() | self._old.keys())
