"""What has been kept for long enough goes, some rows at a time, so that nobody waits for it.

    rules = [Rule("read", remove_read), Rule("old", remove_old)]
    async with background(retaining(stand.database, rules, metrics, every=600, random=Random()), "retention"): ...

    async def remove_read(connection, now, most):     # in a transaction; returns how many went
        return len(await connection.fetch("DELETE FROM … WHERE … < $1 … LIMIT $2 … RETURNING true", now - KEPT, most))

A transaction removes `BATCH` rows at most and waits for no lock longer than `LOCK`. Of all processes one is at a rule
at a time (an advisory lock of the transaction); the others leave it alone until their next sweep. What a sweep does not
come to, since it takes `MOST` batches at most, waits for the next one, so that it never is a load of its own.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from nova_data.database import bound_locks
from nova_data.pool.database import Connection, Database
from nova_services.logs import get_logger

EVERY: Final = 600.0
"""Seconds between two sweeps of a process, at most."""
BATCH: Final = 500
MOST: Final = 100
LOCK: Final = 1.0
"""Seconds."""
_LOCKS: Final = 0x52657465
"""Of the advisory locks: `Rete`. The second key is a hash of the rule's name."""
_ALONE: Final = "SELECT pg_try_advisory_xact_lock($1, hashtext($2))"
Remove = Callable[[Connection, datetime, int], Awaitable[int]]
"""Removes what is too old at a moment, so many at most, in a transaction; how many went."""


class Rule(NamedTuple):
    """What goes; `what` is the label of its metrics, and the same in all processes."""

    what: str
    remove: Remove


class RetentionMetrics:
    """`nova_retention_*`, by rule; every series is there with zero."""

    def __init__(self, registry: CollectorRegistry, rules: Sequence[Rule]) -> None:
        self.removed = Counter(
            "nova_retention_removed", "Rows that were removed, being too old.", ("what",), registry=registry
        )
        self.failures = Counter(
            "nova_retention_failures", "Sweeps that broke off; the next one goes on.", ("what",), registry=registry
        )
        for rule in rules:
            self.removed.labels(rule.what)
            self.failures.labels(rule.what)


async def sweep(
    database: Database, rule: Rule, metrics: RetentionMetrics, *, now: datetime, batch: int = BATCH, most: int = MOST
) -> int:
    """Remove what is too old at `now`, `most` batches of it at most; how many rows went. Raises what `Database` and
    asyncpg do; what went before that is gone."""
    removed = 0
    for _ in range(most):
        gone = await _some(database, rule, now, batch)
        metrics.removed.labels(rule.what).inc(gone)
        removed += gone
        if not gone:
            break
    return removed


async def _some(database: Database, rule: Rule, now: datetime, batch: int) -> int:
    async with database.transaction() as connection:
        if not await connection.fetchval(_ALONE, _LOCKS, rule.what):
            return 0
        await bound_locks(connection, LOCK)
        return await rule.remove(connection, now, batch)


async def retaining(
    database: Database,
    rules: Sequence[Rule],
    metrics: RetentionMetrics,
    *,
    every: float = EVERY,
    random: Random,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Sweep until it is cancelled, at moments that no two processes share. What fails is tried again the next time."""
    while True:
        await asyncio.sleep(every * random.uniform(0.5, 1.0))
        for rule in rules:
            try:
                if removed := await sweep(database, rule, metrics, now=clock()):
                    get_logger().info("rows expired", what=rule.what, removed=removed)
            except Exception as error:
                metrics.failures.labels(rule.what).inc()
                get_logger().warning("rows kept for longer", what=rule.what, error=type(error).__name__)
