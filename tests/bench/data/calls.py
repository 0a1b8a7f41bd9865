"""Shared and batched calls beside the same calls without them, in one run on one database.

* `coalescing`: 100 callers ask the same query of 20 ms at once, again and again, as a dashboard does.
* `batching`: pages of 50 authors each, 20 pages at once; `alone` loads author by author on the same pool of 20.
* `…_us`: CPU of the app's process for a call that follows, and for a key in a batch, with nothing behind them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from nova_data.calls.batching import Batcher
from nova_data.calls.coalescing import Coalescer
from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings

from .serving import p50, p99, servers, took

CALLERS = 100
ROUNDS = 20
PAGES = 20
KEYS = 50
POOL = PoolSettings(size=20, threshold=1.0, wait=60)


def coalescing() -> dict[str, Any]:
    """Queries that run and what callers wait, shared and not."""
    with servers() as (database,):
        return asyncio.run(_coalescing(database.url))


async def _coalescing(url: str) -> dict[str, Any]:
    async with Database(url, settings=POOL) as database:
        ran = 0

        async def query() -> int:
            nonlocal ran
            ran += 1
            async with database.acquire() as connection:
                found: int = await connection.fetchval("SELECT count(*) FROM pg_class, pg_sleep(0.02)")
                return found

        alone = await _waves(query)
        ran_alone, ran = ran, 0
        calls: Coalescer[int] = Coalescer()
        shared = await _waves(lambda: calls.call("total", query))
        return {
            "calls": CALLERS * ROUNDS,
            "queries_alone": ran_alone,
            "queries_shared": ran,
            "reduction": round(1 - ran / ran_alone, 4),
            "alone_p99_ms": p99(alone),
            "shared_p99_ms": p99(shared),
            "follower_us": round(await _follower_us(), 1),
        }


async def _waves(call: Any) -> list[float]:
    found: list[float] = []
    for _ in range(ROUNDS):
        found += await asyncio.gather(*(took(call) for _ in range(CALLERS)))
    return found


async def _follower_us(count: int = 20_000) -> float:
    calls: Coalescer[None] = Coalescer()
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    began = time.process_time()
    tasks = [asyncio.create_task(calls.call("a", wait)) for _ in range(count)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    return (time.process_time() - began) / count * 1e6


def batching() -> dict[str, Any]:
    """Queries and time for a page, batched and not."""
    with servers() as (database,):
        database.sql("CREATE TABLE authors AS SELECT n AS id, 'author ' || n AS name FROM generate_series(0, 9999) n")
        database.sql("ALTER TABLE authors ADD PRIMARY KEY (id)")
        return asyncio.run(_batching(database.url))


async def _batching(url: str) -> dict[str, Any]:
    async with Database(url, settings=POOL) as database:
        queries = 0

        async def load(keys: Sequence[int]) -> dict[int, str]:
            nonlocal queries
            queries += 1
            async with database.acquire() as connection:
                rows = await connection.fetch("SELECT id, name FROM authors WHERE id = ANY($1::int[])", keys)
                return {row["id"]: row["name"] for row in rows}

        async def one(key: int) -> str:
            return (await load([key]))[key]

        async def pages(get: Any) -> list[float]:
            async def page(number: int) -> None:
                await asyncio.gather(*(get(number * 37 % 5000 + each) for each in range(KEYS)))

            return await asyncio.gather(*(took(lambda n=number: page(n)) for number in range(PAGES)))

        await pages(one)  # connections, statements
        queries = 0
        alone = await pages(one)
        queries_alone, queries = queries, 0
        batched = await pages(Batcher(load).load)
        return {
            "loads": PAGES * KEYS,
            "queries_alone": queries_alone,
            "queries_batched": queries,
            "reduction": round(1 - queries / queries_alone, 4),
            "alone_page_p50_ms": p50(alone),
            "batched_page_p50_ms": p50(batched),
            "key_us": round(await _key_us(), 1),
        }


async def _key_us(count: int = 20_000) -> float:
    async def load(keys: Sequence[int]) -> Sequence[int]:
        return keys

    batcher: Batcher[int, int] = Batcher(load)
    began = time.process_time()
    await asyncio.gather(*(batcher.load(key) for key in range(count)))
    return (time.process_time() - began) / count * 1e6
