"""Finds out what went while a watch was closed.

When the API server no longer knows how far a watch has come (410 Gone), Kopf lists the kind anew and tells one by one
what there is; what is not there any more it does not tell. So whenever it has listed a kind, the operator asks for the
complete list itself. That is read after Kopf's, and what goes later, the watch tells. A kind of which nothing is left
at all gives no sign, so when the watches were opened anew, the kinds that stayed silent are listed too; where a single
watch was, the periodic reconcile finds out.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from nova_operator.cluster import ClusterError
from nova_operator.kinds import Kind

SETTLE: Final = 0.5
"""Seconds for which objects are let arrive: a list is told object by object."""

QUIET: Final = 2.0
"""Seconds after the watches were opened, in which Kopf has listed every kind."""

RETRY: Final = 2.0
"""Seconds until a list that failed is asked for again."""

log = structlog.get_logger()


class Relist:
    """`read` takes over all objects of a kind. Raises ClusterError; then it is asked again."""

    def __init__(self, read: Callable[[Kind], Awaitable[None]]) -> None:
        self._read = read
        self._due: set[Kind] = set()
        self._told: set[Kind] = set()
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Relist due={sorted(kind.plural for kind in self._due)}>"

    def told(self, kind: Kind) -> None:
        """An object of this kind was told because it was listed."""
        self._told.add(kind)
        self._due.add(kind)
        self._wake.set()

    def opening(self) -> None:
        """All watches are about to be opened."""
        self._told.clear()

    def opened(self, kinds: Iterable[Kind]) -> None:
        """Those of these kinds were opened, `QUIET` seconds ago."""
        for kind in set(kinds) - self._told:
            self.told(kind)

    async def run(self) -> None:
        """Read what is due, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(SETTLE)
            self._wake.clear()
            for kind in tuple(self._due):
                self._due.discard(kind)
                if not await self._read_one(kind):
                    self.told(kind)
                    await asyncio.sleep(RETRY)

    async def _read_one(self, kind: Kind) -> bool:
        try:
            await self._read(kind)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False  # only a call inside was cancelled, by Kopf as it stopped
        except ClusterError as error:
            log.warning("objects not listed", error=str(error), retry_in=RETRY)
            return False
        return True
