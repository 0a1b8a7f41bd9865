"""Preferences of 5 000 users: reads of the database with the cache and its write back, beside none, in one run.

50 000 requests, a few users far more often than most (Pareto, 0.9); each reads preferences, one in fifty changes them.
What is counted is calls of the function that reads the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from random import Random
from typing import Any

from nova_data.cache.freshness import Freshness
from nova_data.cache.read_through import ReadThrough
from nova_data.cache.write_back import WriteBack
from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings

from .serving import servers

USERS = 5_000
REQUESTS = 50_000
CHANGES = 50
POOL = PoolSettings(size=4, threshold=1.0, wait=60)
READ = "SELECT theme FROM preferences WHERE user_id = $1"
WRITE = "INSERT INTO preferences VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET theme = excluded.theme"


def measured() -> dict[str, Any]:
    """Reads and writes of the table, and requests a second."""
    with servers() as (database,):
        database.sql(
            "CREATE TABLE preferences (user_id int PRIMARY KEY, theme text NOT NULL);"
            f"INSERT INTO preferences SELECT n, 'light' FROM generate_series(0, {USERS - 1}) n"
        )
        return asyncio.run(_measure(database.url))


async def _measure(url: str) -> dict[str, Any]:
    async with Database(url, settings=POOL) as database:

        async def load(user: int) -> str | None:
            async with database.acquire() as connection:
                found: str | None = await connection.fetchval(READ, user)
                return found

        async def save_many(values: Mapping[int, str]) -> None:
            async with database.transaction() as connection:
                await connection.executemany(WRITE, list(values.items()))

        cache = ReadThrough("preferences", load, Freshness(ttl=300), entries=USERS)
        began = time.perf_counter()
        async with WriteBack(cache, save_many, flush_after=1.0) as store:
            for number, user in _requests():
                await store.get(user)
                if number % CHANGES == 0:
                    store.set(user, f"theme {number}")
        cached = time.perf_counter() - began
        began = time.perf_counter()
        few = REQUESTS // 10
        for number, user in _requests(few):
            await load(user)
            if number % CHANGES == 0:
                await save_many({user: f"theme {number}"})
        alone = time.perf_counter() - began
        return {
            "requests": REQUESTS,
            "reads": cache.loads,
            "read_reduction": round(1 - cache.loads / REQUESTS, 4),
            "writes": store.saves,
            "write_reduction": round(1 - store.saves / (REQUESTS // CHANGES), 4),
            "requests_per_second": round(REQUESTS / cached),
            "requests_per_second_alone": round(few / alone),
        }


def _requests(count: int = REQUESTS) -> list[tuple[int, int]]:
    random = Random(4)
    return [(number, min(USERS - 1, int(random.paretovariate(0.9)) - 1)) for number in range(count)]
