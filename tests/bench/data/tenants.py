"""What one tenant's load costs another one, with shares of the pool and without.

A tenant asks 50 times a second for a query of 10 ms. Another one sends ten times what its share of the pool can carry:
50 callers at once, who come back 50 ms after each refusal. `quiet` is the first one alone, `shared` beside the other
with shares, `unshared` without. The database sleeps, so that neither its CPU nor the app's is what runs out.

`acquire_us` is CPU of the app's process for a connection taken and given back, asyncpg's own and with everything on.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import asyncpg

from nova_data.errors import PoolExhaustedError, TenantQuotaError
from nova_data.pool.database import Database
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.settings import PoolSettings

from .serving import at_a_rate, p50, p99, servers

RATE = 50
SECONDS = 10.0
CALLERS = 50
POOL = PoolSettings(size=10)


def measured() -> dict[str, Any]:
    """Latency and refusals of the first tenant, and the pool's own cost."""
    with servers() as (database,):
        quiet = asyncio.run(_victim(database.url, None, shares=True))
        shared = asyncio.run(_victim(database.url, CALLERS, shares=True))
        unshared = asyncio.run(_victim(database.url, CALLERS, shares=False))
        found = {"quiet": quiet, "shared": shared, "unshared": unshared}
        ratio = round(shared["p99_ms"] / quiet["p99_ms"], 3)
        return found | {"p99_ratio": ratio} | asyncio.run(_cost(database.url))


async def _victim(url: str, callers: int | None, *, shares: bool) -> dict[str, Any]:
    async with Database(url, settings=POOL) as database:
        refused = 0

        async def query(tenant: str, seconds: float) -> None:
            async with database.acquire(tenant=tenant if shares else None) as connection:
                await connection.execute(f"SELECT pg_sleep({seconds})")

        async def ask() -> None:
            nonlocal refused
            try:
                await query("victim", 0.01)
            except (PoolExhaustedError, TenantQuotaError):
                refused += 1

        async def flood() -> None:
            while True:
                with suppress(PoolExhaustedError, TenantQuotaError):
                    await query("noisy", 0.05)
                await asyncio.sleep(0.05)

        tasks = [asyncio.create_task(flood()) for _ in range(callers or 0)]
        await at_a_rate(RATE, 1.0, ask)
        refused = 0
        found = await at_a_rate(RATE, SECONDS, ask)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {"p50_ms": p50(found), "p99_ms": p99(found), "refused": refused, "asked": len(found)}


async def _cost(url: str, count: int = 3000) -> dict[str, float]:
    async with asyncpg.create_pool(url, min_size=1, max_size=10) as pool:
        bare = await _each(pool.acquire, count)
    async with Database(url, settings=POOL, metrics=DatabaseMetrics()) as database:
        own = await _each(lambda: database.acquire(tenant="a"), count)
    return {"acquire_bare_us": round(bare, 1), "acquire_us": round(own, 1)}


async def _each(acquire: Any, count: int) -> float:
    for _ in range(50):
        async with acquire():
            pass
    began = time.process_time()
    for _ in range(count):
        async with acquire():
            pass
    return (time.process_time() - began) / count * 1e6
