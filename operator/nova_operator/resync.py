"""Finds what the watches did not tell: everything there is, is listed once in a while.

A watch that works tells of everything, so at rest nothing has to be asked for. But what is between the two may lose
something, be it a proxy, a cache of the API server's or a fault of ours, and what nobody told would never be put back.
So each kind is listed for all services together, as often for a thousand as for one, and services to which that is news
are looked at.

* The kinds take turns, evenly over the time: a list of a thousand services' pods is 10 MB, and all kinds at once would
  be a burst for both sides.
* A watch goes on while its kind is listed; `mirror` sorts out which of the two knows better.
* A list that fails is left until its next turn, for the watch is still there.

A service may be in doubt all the same, after an error or while something is in its way: then `reconcile` asks for its
objects by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final

import structlog

from nova_operator.cluster import ClusterError
from nova_operator.kinds import Kind

JITTER: Final = 0.2
"""Share by which a pause may be shorter, so that operators that were started together do not stay so."""

log = structlog.get_logger()


class Resync:
    """`list_anew` takes over all there is of a kind in a namespace, or in all for None; each has its turn at least once
    in `every` seconds."""

    def __init__(
        self, list_anew: Callable[[Kind, str | None], Awaitable[object]], every: float, random: Random
    ) -> None:
        self._list_anew = list_anew
        self._every = every
        self._random = random

    def __repr__(self) -> str:
        return f"<Resync every={self._every}>"

    async def run(self, places: Sequence[tuple[Kind, str | None]]) -> None:
        """List them in turns, until cancelled; the first after its pause."""
        while True:
            for kind, namespace in places:
                await asyncio.sleep(self.pause(len(places)))
                await self._list(kind, namespace)

    def pause(self, places: int) -> float:
        """Seconds from one list to the next."""
        return self._every / places * self._random.uniform(1 - JITTER, 1)

    async def _list(self, kind: Kind, namespace: str | None) -> None:
        try:
            await self._list_anew(kind, namespace)
        except ClusterError as error:
            log.warning("objects not listed", error=str(error))
