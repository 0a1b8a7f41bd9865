"""Token buckets by the Generic Cell Rate Algorithm, and a table of them that cannot be made to grow or to forget.

A bucket of `burst` permits that regains one per interval T needs a single number: the instant at which it would be full
again, called TAT (ITU-T I.371 annex A, "virtual scheduling": theoretical arrival time). A request at `now` begins from
max(TAT, now) and moves it by T; it conforms while TAT is then at most burst * T ahead of now. A refused request moves
nothing, so whoever keeps asking is served at the rate and not locked out.

Rules:

* Times are whole nanoseconds. Sums of floats would drift, and then a window could hold one request too many. T is
  rounded up: never more than burst + rate * t requests pass in any time t.
* A bucket whose TAT is over is full and says nothing that an absent one would not, so that it may be dropped; one that
  is not full never is. Nobody gets a new bucket by inventing keys until the table has forgotten the old one.
* The table holds `most` keys. Beyond that new keys share `_SLOTS` buckets, by a hash that callers cannot know: they
  are limited together with others, more strictly than alone. A key that finds room later begins with what its shared
  bucket says.
* A TAT that is further ahead than the bucket is deep was charged under another quota, before the policy changed: it
  stands for an empty bucket, and is moved there, so that a higher rate helps at once whoever is limited. Shared buckets
  stay as they are, since buckets of all depths share them.
* A permit may be given back, where another bucket refuses the request that has taken it. What came back by itself
  meanwhile is not given twice: with others' charges in between, less the time since, which they may have made use of.
* Every step takes constant time: a new key looks at two of the oldest, drops those that are full and sends the
  others to the end of the line.
"""

from collections import OrderedDict
from math import ceil
from typing import Final

SECOND: Final = 1_000_000_000
"""Nanoseconds in a second."""
_SLOTS: Final = 1024
_LOOKS: Final = 2


class Quota:
    """What a bucket holds: `burst` permits, and one more each `interval` nanoseconds up to that. Never changed."""

    __slots__ = ("burst", "interval", "tolerance", "window")

    def __init__(self, rate: int, period: float, burst: int | None = None, *, parts: int = 1) -> None:
        """`rate` permits in `period` seconds; `parts` is into how many it is divided, of which this is one. A part
        holds one permit at least."""
        whole = burst or rate
        self.interval = -(-round(period * SECOND) * parts // rate)
        self.burst = max(1, whole // parts)
        self.tolerance = self.burst * self.interval
        """How far TAT may be ahead."""
        self.window = max(1, ceil(self.tolerance / SECOND))
        """Seconds in which an empty bucket is full again."""

    def left(self, tat: int, now: int) -> int:
        """Permits that are there."""
        return self.burst if tat <= now else max(0, (self.tolerance - (tat - now)) // self.interval)

    def wait(self, tat: int, now: int) -> int:
        """Nanoseconds until there is a permit; 0: there is one."""
        return max(0, tat + self.interval - self.tolerance - now)

    def __repr__(self) -> str:
        return f"<Quota {self.burst} per {self.tolerance / SECOND:g} s>"


class Buckets:
    """The TAT of each key, in nanoseconds of the clock that callers read. See the module."""

    __slots__ = ("_most", "_slots", "_tats", "overflows")

    def __init__(self, most: int) -> None:
        self._tats: OrderedDict[bytes, int] = OrderedDict()
        self._slots = [0] * _SLOTS
        self._most = most
        self.overflows = 0
        """Permits taken from shared buckets, because there was no room for one of the key's own."""

    def configure(self, most: int) -> None:
        """Take over another size; what is beyond it leaves as it fills up."""
        self._most = most

    def tat(self, key: bytes) -> int:
        """The TAT of this key's bucket; what lies in the past stands for a full one."""
        found = self._tats.get(key)
        return self._slots[hash(key) % _SLOTS] if found is None else found

    def level(self, key: bytes, quota: Quota, now: int) -> int:
        """The same for a bucket of this quota: `now` at least, and for a key's own at most its tolerance later."""
        tats = self._tats
        found = tats.get(key)
        if found is None:
            return max(self._slots[hash(key) % _SLOTS], now)
        empty = now + quota.tolerance
        if found > empty:
            tats[key] = found = empty
        return max(found, now)

    def take(self, key: bytes, quota: Quota, now: int) -> bool:
        """Take a permit, where there is one."""
        tat = self.level(key, quota, now) + quota.interval
        if tat - now > quota.tolerance:
            return False
        self.put(key, tat, now)
        return True

    def give_back(self, key: bytes, quota: Quota, tat: int, since: int, now: int) -> None:
        """Give back a permit that was taken at `since`, which made TAT `tat`."""
        if tat <= now:
            return
        held = self.tat(key)
        back = quota.interval if held == tat else quota.interval - (now - since)
        if back <= 0:
            return
        if key in self._tats:
            self._tats[key] = held - back
        else:
            self._slots[hash(key) % _SLOTS] = held - back

    def put(self, key: bytes, tat: int, now: int) -> None:
        """Set the TAT of a key's bucket."""
        tats = self._tats
        if key not in tats:
            self._make_room(now)
            if len(tats) >= self._most:
                self._slots[hash(key) % _SLOTS] = tat
                self.overflows += 1
                return
        tats[key] = tat

    def _make_room(self, now: int) -> None:
        tats = self._tats
        for _ in range(min(_LOOKS, len(tats))):
            oldest = next(iter(tats))
            if tats[oldest] <= now:
                del tats[oldest]
            else:
                tats.move_to_end(oldest)

    def __len__(self) -> int:
        """Keys that have a bucket of their own."""
        return len(self._tats)

    def __repr__(self) -> str:
        return f"<Buckets {len(self)}/{self._most}>"
