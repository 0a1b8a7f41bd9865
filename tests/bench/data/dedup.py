"""Events a minute that deduplication takes, per store, with a Bloom filter in front and without.

`EVENTS` different events, and each of them once more: `first_per_minute` are those that have their effect (a row in
PostgreSQL, a call of nothing for Redis), `again_per_minute` those that had it. `in_batches` asks for 100 keys in one
round trip, each batch in a transaction with its effects. The servers are on the other core.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.installing import install
from nova_data.dedup.postgres import PostgresKeys
from nova_data.dedup.redis import RedisKeys
from tests.loopback.support.redisservers import HOST
from tests.loopback.support.redisservers import Server as RedisServer

from .serving import servers

EVENTS = 6000
AT_ONCE = 16
BATCH = 100

Once = Callable[[str], Awaitable[object]]


def measured() -> dict[str, Any]:
    """Figures by store."""
    with servers() as (database,):
        found = asyncio.run(_postgres(database.url))
        with tempfile.TemporaryDirectory() as folder:
            here = os.sched_getaffinity(0)
            os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - here or here)  # its own core is the servers'
            try:
                server = RedisServer(Path(folder), "--appendonly", "yes", "--appendfsync", "everysec")
            finally:
                os.sched_setaffinity(0, here)
            try:
                found |= asyncio.run(_redis(server.port))
            finally:
                server.stop()
    return found


async def _postgres(url: str) -> dict[str, Any]:
    async with asyncpg.create_pool(url, min_size=AT_ONCE, max_size=AT_ONCE, command_timeout=30) as pool:
        async with pool.acquire() as connection:
            await install(connection)
        await pool.execute("CREATE TABLE effects (name text)")

        async def effect(connection: Any) -> None:
            await connection.execute("INSERT INTO effects VALUES ($1)", "x")

        found = {}
        for name, recent in (("postgres", None), ("postgres_bloom", RecentKeys(EVENTS))):
            keys = PostgresKeys(pool, scope=name, recent=recent)
            found[name] = await _twice(lambda key, keys=keys: keys.once(key, effect))
        found["postgres_in_batches"] = await _in_batches(pool)
    return found


async def _in_batches(pool: Any) -> dict[str, Any]:
    keys = PostgresKeys(pool, scope="batches")

    async def take(some: Sequence[str]) -> None:
        async with pool.acquire() as connection, connection.transaction():
            first = await keys.first_of(connection, some)
            await connection.execute("INSERT INTO effects SELECT 'x' FROM generate_series(1, $1)", sum(first))

    batches = [[f"e{number}" for number in range(begin, begin + BATCH)] for begin in range(0, EVENTS, BATCH)]

    async def all_of_them() -> float:
        began = time.perf_counter()
        for batch in batches:
            await take(batch)
        return time.perf_counter() - began

    return _figures(await all_of_them(), await all_of_them())


async def _redis(port: int) -> dict[str, Any]:
    async def effect() -> None:
        """Nothing: what a mail costs is not the question."""

    found = {}
    async with Redis(host=HOST, port=port) as client:
        for name, recent in (("redis", None), ("redis_bloom", RecentKeys(EVENTS))):
            keys = RedisKeys(client, scope=name.replace("_", "-"), recent=recent)
            found[name] = await _twice(lambda key, keys=keys: keys.once(key, effect))
    return found


async def _twice(once: Once) -> dict[str, Any]:
    return _figures(await _all(once), await _all(once))


async def _all(once: Once) -> float:
    """Seconds for all events, `AT_ONCE` at a time."""
    numbers = iter(range(EVENTS))

    async def worker() -> None:
        for number in numbers:
            await once(f"e{number}")

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - began


def _figures(first: float, again: float) -> dict[str, Any]:
    return {"first_per_minute": round(EVENTS / first * 60), "again_per_minute": round(EVENTS / again * 60)}
