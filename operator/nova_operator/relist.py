"""Finds out which NovaServices went while their watch was closed.

When the API server no longer knows how far a watch has come (410 Gone), Kopf lists the kind anew and tells one by one
what there is; what is not there any more it does not tell. So whenever it has listed the services, the operator asks
for the complete list itself. That is read after Kopf's, and what goes later, the watch tells. Where none is left at
all Kopf gives no sign, so when the watches were opened anew and it stayed silent, they are listed too; where only its
own watch was, `resync` finds out. The operator's own watches (`watch`) list for themselves.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from nova_operator.cluster import ClusterError

SETTLE: Final = 0.5
"""Seconds for which services are let arrive: a list is told object by object."""

QUIET: Final = 2.0
"""Seconds after the watches were opened, in which Kopf has listed the services."""

RETRY: Final = 2.0
"""Seconds until a list that failed is asked for again."""

log = structlog.get_logger()


class Relist:
    """`read` takes over all services. Raises ClusterError; then it is asked again."""

    def __init__(self, read: Callable[[], Awaitable[None]]) -> None:
        self._read = read
        self._told = False
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Relist {'due' if self._wake.is_set() else 'done'}>"

    def told(self) -> None:
        """A service was told because it was listed."""
        self._told = True
        self._wake.set()

    def opening(self) -> None:
        """The watch is about to be opened."""
        self._told = False

    def opened(self) -> None:
        """It was opened, `QUIET` seconds ago."""
        if not self._told:
            self.told()

    async def run(self) -> None:
        """Read what is due, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(SETTLE)
            self._wake.clear()
            if not await self._read_all():
                self._wake.set()
                await asyncio.sleep(RETRY)

    async def _read_all(self) -> bool:
        try:
            await self._read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False  # only a call inside was cancelled, by Kopf as it stopped
        except ClusterError as error:
            log.warning("objects not listed", error=str(error), retry_in=RETRY)
            return False
        return True
