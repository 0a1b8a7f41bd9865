"""Reads that go to a replica: how often, how fresh, and what the token of a write costs.

One primary, one replica, 100 writes a second; after each write the same caller reads what it wrote, at once.

* `own_on_replica`: of those reads, how many the replica served (it is waited for, 50 ms at most).
* `write_ms` against `write_bare_ms`: with and without asking where the log stands after the commit.
* `lag_p99_ms`: how far the replica was behind at most, as the app knew it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings
from nova_data.split.choice import Route, SplitSettings
from nova_data.split.database import SplitDatabase
from nova_data.split.metrics import SplitMetrics
from nova_data.split.session import OwnWrites

from .serving import p50, p99, servers, took

WRITES = 1_000
PAUSE = 0.01
POOL = PoolSettings(size=8, threshold=1.0, wait=60)


def measured() -> dict[str, Any]:
    """Where reads went, and how long reads and writes took."""
    with servers(replicas=1) as (primary, replica):
        primary.sql("CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'anna')")
        return asyncio.run(_measure(primary.url, replica.url))


async def _measure(primary: str, replica: str) -> dict[str, Any]:
    registry = CollectorRegistry()
    made = SplitDatabase(
        Database(primary, settings=POOL),
        [Database(replica, name="replica-1", settings=POOL)],
        settings=SplitSettings(),
        metrics=SplitMetrics(registry),
    )
    async with made as database:
        wrong = 0

        async def write(number: int) -> None:
            async with database.write() as connection:
                await connection.execute("UPDATE users SET name = $1 WHERE id = 1", str(number))

        async def bare(number: int) -> None:
            async with database.primary.transaction() as connection:
                await connection.execute("UPDATE users SET name = $1 WHERE id = 1", str(number))

        async def read(number: int) -> None:
            nonlocal wrong
            async with database.read() as connection:
                wrong += await connection.fetchval("SELECT name FROM users WHERE id = 1") != str(number)

        writes, alone, reads, lags = [], [], [], []
        (only,) = database.choice.replicas
        for number in range(WRITES):
            with OwnWrites():
                writes.append(await took(lambda n=number: write(n)))
                reads.append(await took(lambda n=number: read(n)))
            alone.append(await took(lambda n=number: bare(n)))
            lags.append(database.choice.lag(only, asyncio.get_running_loop().time()) * 1000)
            await asyncio.sleep(PAUSE)
        went = {
            str(route): registry.get_sample_value(
                "nova_data_split_reads_total", {"database": "main", "route": str(route)}
            )
            or 0.0
            for route in Route
        }
        on_replica = went[str(Route.REPLICA)] + went[str(Route.WAITED)]
        return {
            "own_reads": WRITES,
            "own_reads_that_missed_the_write": wrong,
            "own_on_replica": round(on_replica / WRITES, 4),
            "routes": {route: round(count) for route, count in went.items() if count},
            "own_read_p50_ms": p50(reads),
            "own_read_p99_ms": p99(reads),
            "write_ms": p50(writes),
            "write_bare_ms": p50(alone),
            "lag_p99_ms": p99(lags),
        }
