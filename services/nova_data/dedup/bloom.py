"""Which keys this process may have seen: a Bloom filter that forgets by time, without a clock of its own.

A Bloom filter (Bloom 1970, Communications of the ACM 13 (7)) answers "no" or "maybe" from a few bits per key. For `n`
keys and a share `p` of wrong "maybe"s it has m = -n ln p / (ln 2)² bits and sets k = m / n · ln 2 of them for each key;
the positions come from two hashes (Kirsch, Mitzenmacher 2006, "Less Hashing, Same Performance").

Rules:

* "No" means that *this process* has not seen the key. Another one may have, before a rebalance say. So "no" spares a
  look into the store, and never the conditional write that decides.
* "Maybe" is asked of the store. A filter that holds more than its `n` says it more often, which costs time and nothing
  else.
* It is a ring of generations. The youngest takes what is added; all are asked; each period the oldest is emptied. So a
  key is known for a lifetime at least, and for one period more at most.

The digests are uniform already, so their halves are the two hashes.
"""

from math import ceil, inf, log
from typing import Final

GENERATIONS: Final = 3
"""Two for a lifetime, and one that is filled meanwhile."""


def bits(capacity: int, error: float) -> int:
    """Bits of a filter for so many keys (from 1) with this share of wrong answers (between 0 and 1)."""
    return max(8, ceil(-capacity * log(error) / log(2) ** 2))


def hashes(capacity: int, error: float) -> int:
    """How many bits a key sets."""
    return max(1, round(bits(capacity, error) / capacity * log(2)))


class Bloom:
    """One generation. Keys are 16 bytes that are as good as random. Raises ValueError for a size that is none."""

    __slots__ = ("_bits", "_field", "_hashes", "capacity", "count")

    def __init__(self, capacity: int, error: float) -> None:
        if capacity < 1 or not 0 < error < 1:
            raise ValueError(f"expected a capacity from 1 and an error between 0 and 1, got {capacity} and {error}")
        self.capacity = capacity
        self.count = 0
        """Keys that were added."""
        self._bits = bits(capacity, error)
        self._hashes = hashes(capacity, error)
        self._field = bytearray((self._bits + 7) // 8)

    def add(self, key: bytes) -> None:
        """Know a key."""
        at, step, size, field = *_halves(key), self._bits, self._field
        for _ in range(self._hashes):
            at %= size
            field[at >> 3] |= 1 << (at & 7)
            at += step
        self.count += 1

    def __contains__(self, key: bytes) -> bool:
        at, step, size, field = *_halves(key), self._bits, self._field
        for _ in range(self._hashes):
            at %= size
            if not field[at >> 3] & 1 << (at & 7):
                return False
            at += step
        return True

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return len(self._field)

    def __repr__(self) -> str:
        return f"<Bloom {self.count}/{self.capacity} bytes={self.bytes}>"


class RecentKeys:
    """The ring; see the module. `capacity` is the number of keys in a `lifetime`, which is in seconds as `now` is, of a
    clock that does not step."""

    __slots__ = ("_capacity", "_error", "_generations", "_period", "_until")

    def __init__(self, capacity: int, error: float = 0.01, *, lifetime: float = 86400.0) -> None:
        if not 0 < lifetime < inf:
            raise ValueError(f"lifetime: expected more than 0 s, got {lifetime}")
        self._capacity = max(1, ceil(capacity / (GENERATIONS - 1)))
        self._error = error
        self._period = lifetime / (GENERATIONS - 1)
        self._until = -inf
        self._generations = [Bloom(self._capacity, error)]

    def add(self, key: bytes, now: float) -> None:
        """Know a key from now on."""
        self._turn(now)
        self._generations[0].add(key)

    def maybe(self, key: bytes, now: float) -> bool:
        """Whether it may have been added within a lifetime."""
        self._turn(now)
        return any(key in generation for generation in self._generations)

    @property
    def bytes(self) -> int:
        """Memory of all generations."""
        return sum(generation.bytes for generation in self._generations)

    def _turn(self, now: float) -> None:
        if now < self._until:
            return
        missed = 0 if self._until == -inf else 1 + int((now - self._until) // self._period)
        for _ in range(min(missed, GENERATIONS)):
            self._generations.insert(0, Bloom(self._capacity, self._error))
        del self._generations[GENERATIONS:]
        self._until = now + self._period if missed == 0 else self._until + missed * self._period

    def __repr__(self) -> str:
        return f"<RecentKeys {self._generations!r}>"


def _halves(key: bytes) -> tuple[int, int]:
    """Two hashes; the second is odd, so that no key steps on the spot."""
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little") | 1
