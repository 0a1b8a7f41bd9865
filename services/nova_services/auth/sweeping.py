"""Removes sessions that are over, with their tokens: a bounded number at a time, so that nobody waits for it.

A session is kept until it expires, also one that was ended before, and `KEEP` seconds more: for so long a token of it
that comes again is told from one that never was.
"""

import asyncio
from random import Random
from typing import Final

from nova_services.auth.accounts import Accounts
from nova_services.auth.metrics import AuthMetrics
from nova_services.logs import get_logger

EVERY: Final = 600.0
"""Seconds between two sweeps of a process; several processes pass over each other's rows."""
KEEP: Final = 86400.0
BATCH: Final = 500
"""Sessions of one transaction."""
MOST: Final = 20
"""Batches of one sweep: what is left waits for the next, so that a sweep never is a load of its own."""


async def sweep(accounts: Accounts, *, keep: float = KEEP, batch: int = BATCH, most: int = MOST) -> int:
    """Remove what is over, `most` batches at most; how many sessions went. Raises what `Database` does."""
    removed = 0
    for _ in range(most):
        gone = await accounts.remove_expired(keep=keep, most=batch)
        removed += gone
        if gone < batch:
            break
    return removed


async def sweeping(accounts: Accounts, metrics: AuthMetrics, *, every: float = EVERY, random: Random) -> None:
    """Sweep for ever, at moments that no two processes share. What fails is tried again the next time."""
    while True:
        await asyncio.sleep(every * random.uniform(0.5, 1.0))
        try:
            metrics.swept(await sweep(accounts))
        except Exception as error:
            get_logger().warning("expired sessions kept", error=type(error).__name__)
