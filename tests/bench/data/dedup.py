"""Events a minute that deduplication takes, per store, with a Bloom filter in front and without.

`EVENTS` different events, and each of them once more: `first_per_minute` are those that have their effect (a row in
PostgreSQL, a call of nothing for Redis), `again_per_minute` those that had it. `asyncpg` is with asyncpg's own
connections, which have more round trips; the others in PostgreSQL are with those of `nova_data.pool.connection`.
`in_batches` asks for 100 keys in one round trip, each batch in a transaction with its effects. What is compared takes
turns, `ROUNDS` of them, and the median counts. The servers are on the other core.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.installing import install
from nova_data.dedup.postgres import PostgresKeys
from nova_data.dedup.redis import RedisKeys
from nova_data.pool.connection import JoiningConnection
from tests.loopback.support.redisservers import HOST
from tests.loopback.support.redisservers import Server as RedisServer

from .serving import servers

EVENTS = 6000
AT_ONCE = 16
BATCH = 100
ROUNDS = 3

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
    async with AsyncExitStack() as stack:
        pools = {
            "postgres": await stack.enter_async_context(_pool(url, JoiningConnection)),
            "postgres_asyncpg": await stack.enter_async_context(_pool(url, asyncpg.Connection)),
        }
        async with pools["postgres"].acquire() as connection:
            await install(connection)
        await pools["postgres"].execute("CREATE TABLE effects (name text)")
        found: dict[str, list[dict[str, Any]]] = {}
        for turn in range(ROUNDS):
            for name, pool in pools.items():
                keys = PostgresKeys(pool, scope=f"{name}-{turn}")
                found.setdefault(name, []).append(await _twice(lambda key, keys=keys: keys.once(key, _effect)))
            keys = PostgresKeys(pools["postgres"], scope=f"bloom-{turn}", recent=RecentKeys(EVENTS))
            found.setdefault("postgres_bloom", []).append(await _twice(lambda key, keys=keys: keys.once(key, _effect)))
            found.setdefault("postgres_in_batches", []).append(await _in_batches(pools["postgres"], f"batches-{turn}"))
        return {name: _median(turns) for name, turns in found.items()}


def _pool(url: str, connection_class: type) -> Any:
    return asyncpg.create_pool(
        url, min_size=AT_ONCE, max_size=AT_ONCE, command_timeout=30, connection_class=connection_class
    )


async def _effect(connection: Any) -> None:
    await connection.execute("INSERT INTO effects VALUES ($1)", "x")


async def _in_batches(pool: Any, scope: str) -> dict[str, Any]:
    keys = PostgresKeys(pool, scope=scope)
    batches = [[_Event(f"e{number}") for number in range(begin, begin + BATCH)] for begin in range(0, EVENTS, BATCH)]

    async def effect(connection: Any, new: Sequence[Any]) -> None:
        await connection.executemany("INSERT INTO effects VALUES ($1)", [("x",) for _ in new])

    async def all_of_them() -> float:
        began = time.perf_counter()
        for batch in batches:
            await keys.once_of(batch, effect)
        return time.perf_counter() - began

    return _figures(await all_of_them(), await all_of_them())


@dataclass(frozen=True)
class _Event:
    idempotency_key: str


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


def _median(turns: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: round(statistics.median(turn[name] for turn in turns)) for name in turns[0]}


def _figures(first: float, again: float) -> dict[str, Any]:
    return {"first_per_minute": round(EVENTS / first * 60), "again_per_minute": round(EVENTS / again * 60)}
