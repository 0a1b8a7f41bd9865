"""Which keys go in one batch, and when: the decision alone, without a clock or a call.

The first key opens a window; whatever comes within `length` seconds goes with it, and a batch that has `most` keys goes
at once. A key that is asked for twice in a window is loaded once. The order in a batch is that of arrival.
"""

from collections.abc import Hashable
from math import inf, isfinite
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

LENGTH: Final = 0.01
MOST: Final = 100


class Window(Generic[K]):
    """Keys that wait for their batch. `length` in seconds from 0, `most` from 1. Raises ValueError for others."""

    __slots__ = ("_keys", "_length", "_most", "due")

    def __init__(self, length: float = LENGTH, most: int = MOST) -> None:
        if not (length >= 0 and isfinite(length)):
            raise ValueError(f"window: expected seconds from 0, got {length}")
        if most < 1:
            raise ValueError(f"most: expected at least 1 key, got {most}")
        self._length = length
        self._most = most
        self._keys: dict[K, int] = {}
        self.due = inf
        """When the batch goes, in seconds; infinite while no key waits."""

    def add(self, key: K, now: float) -> list[K]:
        """A key is asked for: the batch that it makes full, or nothing yet."""
        if not self._keys:
            self.due = now + self._length
        self._keys[key] = self._keys.get(key, 0) + 1
        return self.take() if len(self._keys) >= self._most else []

    def drop(self, key: K) -> None:
        """One who asked for it does not want it any more; a key that nobody wants is not loaded."""
        wanted = self._keys.get(key, 0)
        if wanted > 1:
            self._keys[key] = wanted - 1
        elif wanted:
            del self._keys[key]
            if not self._keys:
                self.due = inf

    def take(self) -> list[K]:
        """All that wait, as one batch; empty where nobody does."""
        keys, self._keys, self.due = list(self._keys), {}, inf
        return keys

    def __contains__(self, key: K) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<Window keys={len(self)} due={self.due:g}>"
