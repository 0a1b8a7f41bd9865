"""Content without a row goes: of uploads that were interrupted, and of erasures that were.

An upload writes its content first, so content that is young may get its row at any moment. Any number of processes may
sweep at once.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from nova_services.backing import lasting
from nova_services.logs import get_logger
from nova_services.media.metrics import MediaMetrics
from nova_services.media.records import Records
from nova_services.media.shelf import Shelf

EVERY: Final = 3600.0
"""Seconds between sweeps, with jitter."""
GRACE: Final = 3600.0
"""Seconds for which content may be without a row: far more than an upload may take."""


async def sweep(shelf: Shelf, records: Records, metrics: MediaMetrics, *, now: datetime, grace: float = GRACE) -> int:
    """Look once; how much was removed. Raises what the two do."""
    removed = await shelf.tidy(now - timedelta(seconds=grace))
    metrics.swept.inc(removed)
    async for some in shelf.listed():
        old = [media for media, came in some if came < now - timedelta(seconds=grace)]
        for media in set(old) - await records.known(old):
            await shelf.remove(media)
            metrics.swept.inc()
            removed += 1
    return removed


async def sweeping(
    shelf: Shelf, records: Records, metrics: MediaMetrics, random: Random, *, every: float = EVERY, grace: float = GRACE
) -> None:
    """Look again and again, until it is cancelled."""
    while True:
        await asyncio.sleep(every * (0.5 + random.random()))
        try:
            if removed := await sweep(shelf, records, metrics, now=datetime.now(UTC), grace=grace):
                get_logger().info("contents swept", removed=removed)
        except Exception as error:
            if lasting(error) is None:
                raise
            get_logger().warning("contents not swept", error=type(error).__name__)
