"""How many connections of a pool one tenant may have: the decision alone, without a clock or a pool.

A pool serves who comes, and who comes most often is served most. One tenant whose queries are slow, or who asks ten
times as often as the others, then has the whole pool, and all others wait for it. Two rules keep it from that:

* **A bound**: nobody has more than `share` of the places, however empty the rest of the pool is. So who comes next
  finds one, even if nobody gives any back.
* **An equal part**: while more than `CALM` of the places are taken, nobody gets a further one beyond the places divided
  by the tenants that are there. Who has more keeps what it has, and what it gives back goes to others.

A tenant is there while it has a connection or waits for one, and for `MEMORY` seconds after the pool turned it away:
else one that finds no place would not count, and would never find one. Everybody may have one, however many tenants
there are; the pool itself bounds them all.

Each step takes the same time however many tenants there are, but for those that are forgotten, each of which was
remembered once. Memory is bounded by connections in use and `REMEMBERED`, whatever names callers invent.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

CALM: Final = 0.5
"""Share of the places up to which only the bound counts."""
MEMORY: Final = 1.0
REMEMBERED: Final = 1024
"""Tenants that were turned away and are remembered, at most."""


class TenantQuota:
    """Counts one pool. Each `enter` that returned True owes one `leave` or `turned_away` for the same tenant.

    `share` is above 0 and at most 1. Raises ValueError for others.
    """

    __slots__ = ("_away", "_held", "refused", "share", "total")

    def __init__(self, share: float = 0.5) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a share above 0 and at most 1, got {share}")
        self.share = share
        self.total = 0
        """Connections that all tenants together have or wait for."""
        self.refused = 0
        self._held: dict[Hashable, int] = {}
        self._away: OrderedDict[Hashable, float] = OrderedDict()
        """When each was turned away; the longest ago comes first."""

    def enter(self, name: Hashable, *, places: int, now: float) -> bool:
        """Whether the tenant may have one more connection of a pool that gives out so many. `now` in seconds."""
        self._forget(now)
        held = self._held.get(name, 0)
        if held and not self._fits(held, places):
            self.refused += 1
            return False
        self._away.pop(name, None)
        self._held[name] = held + 1
        self.total += 1
        return True

    def _fits(self, held: int, places: int) -> bool:
        if held + 1 > self.share * places:
            return False
        return self.total + 1 <= CALM * places or (held + 1) * len(self) <= places

    def leave(self, name: Hashable) -> None:
        """One of its connections is back, or its wait is over. Raises RuntimeError when it has none."""
        held = self._held.get(name, 0)
        if not held:
            raise RuntimeError("leave without an admission")
        self.total -= 1
        if held > 1:
            self._held[name] = held - 1
        else:
            del self._held[name]

    def turned_away(self, name: Hashable, now: float) -> None:
        """The pool had none for it; `leave` is not owed any more."""
        self.leave(name)
        if name not in self._held:
            self._away[name] = now
            self._away.move_to_end(name)

    def _forget(self, now: float) -> None:
        away = self._away
        while away:
            name, since = next(iter(away.items()))
            if len(away) <= REMEMBERED and now - since <= MEMORY:
                return
            del away[name]

    def __len__(self) -> int:
        """Tenants that are there."""
        return len(self._held) + len(self._away)

    def __repr__(self) -> str:
        return f"<TenantQuota tenants={len(self)} total={self.total} refused={self.refused}>"
