"""Content without a row goes: of uploads that were interrupted, and of erasures that were.

An upload writes its content first, so content that is young may get its row at any moment. Any number of processes may
sweep at once.

Where most contents have no row, it is the database that is wrong, a new one or another one's, and not the contents:
then nothing is removed, and a line says so.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

from nova_services.backing import lasting
from nova_services.logs import get_logger
from nova_services.media.metrics import MediaMetrics
from nova_services.media.records import Records
from nova_services.media.shelf import Shelf

EVERY: Final = 3600.0
"""Seconds between sweeps, with jitter."""
GRACE: Final = 3600.0
"""Seconds for which content may be without a row: far more than an upload may take."""
FEW: Final = 20
"""Contents without a row that are removed whatever their share."""


class SuspectError(Exception):
    """So many contents have no row that the database must be the wrong one."""


def suspect(orphans: int, known: int) -> bool:
    """Whether so many contents without a row, beside so many with one, are too many to believe."""
    return orphans > max(FEW, known)


async def sweep(shelf: Shelf, records: Records, metrics: MediaMetrics, *, now: datetime, grace: float = GRACE) -> int:
    """Look once; how much was removed. Raises SuspectError, and what the two do."""
    removed = await shelf.tidy(now - timedelta(seconds=grace))
    metrics.swept.inc(removed)
    orphans: list[UUID] = []
    known = 0
    async for some in shelf.listed():
        old = {media for media, came in some if came < now - timedelta(seconds=grace)}
        there = await records.known(list(old))
        orphans += old - there
        known += len(there)
    if suspect(len(orphans), known):
        raise SuspectError(f"{len(orphans)} contents have no row, and {known} have one")
    for media in orphans:
        await shelf.remove(media)
        metrics.swept.inc()
    return removed + len(orphans)


async def sweeping(
    shelf: Shelf, records: Records, metrics: MediaMetrics, random: Random, *, every: float = EVERY, grace: float = GRACE
) -> None:
    """Look again and again, until it is cancelled."""
    while True:
        await asyncio.sleep(every * (0.5 + random.random()))
        try:
            if removed := await sweep(shelf, records, metrics, now=datetime.now(UTC), grace=grace):
                get_logger().info("contents swept", removed=removed)
        except SuspectError as error:
            get_logger().error("contents not swept", error=str(error))
        except Exception as error:
            if lasting(error) is None:
                raise
            get_logger().warning("contents not swept", error=type(error).__name__)
