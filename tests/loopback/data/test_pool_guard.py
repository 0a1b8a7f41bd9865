"""The guard around real pools: asyncpg's, psycopg's and aiohttp's, with a real PostgreSQL behind the first two."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psycopg
import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from psycopg_pool import AsyncConnectionPool

from nova_data.errors import PoolExhaustedError
from nova_data.pool_guard import PoolGuard
from nova_data.pool_metrics import PoolMetrics
from tests.crowd import CROWD
from tests.loopback.support.app import App
from tests.loopback.support.message import response
from tests.loopback.support.postgresserver import Server

DOCS = Path(__file__).resolve().parents[3] / "docs"
SIZE = 10
Query = Callable[[Any, str], Awaitable[Any]]


@asynccontextmanager
async def asyncpg_guard(url: str, **options: Any) -> AsyncIterator[PoolGuard[Any]]:
    async with asyncpg.create_pool(url, min_size=SIZE, max_size=SIZE) as pool:
        yield PoolGuard("main", size=SIZE, acquire=pool.acquire, release=pool.release, **options)


@asynccontextmanager
async def psycopg_guard(url: str, **options: Any) -> AsyncIterator[PoolGuard[Any]]:
    async with AsyncConnectionPool(url, min_size=SIZE, max_size=SIZE, open=False) as pool:
        await pool.wait(20)
        yield PoolGuard("main", size=SIZE, connect=pool.connection, **options)


@pytest.mark.parametrize("guarded", [asyncpg_guard, psycopg_guard])
def test_a_burst_gets_as_many_connections_as_the_threshold_allows(guarded: Any, postgres: Server) -> None:
    async def run() -> None:
        async with guarded(postgres.url) as guard:
            release = asyncio.Event()

            async def work() -> str:
                try:
                    async with guard.acquire() as connection:
                        await connection.execute("SELECT 1")
                        await release.wait()
                except PoolExhaustedError as error:
                    return error.cause
                return "served"

            tasks = [asyncio.create_task(work()) for _ in range(30)]
            done, _ = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result() for task in done} == {"threshold"}
            release.set()
            results = await asyncio.gather(*tasks)
            assert (results.count("served"), results.count("threshold")) == (9, 21)
            assert guard.gate.used == 0
            async with guard.acquire() as connection:
                await connection.execute("SELECT 1")

    asyncio.run(run())


@pytest.mark.parametrize("guarded", [asyncpg_guard, psycopg_guard])
def test_without_early_rejection_requests_wait_and_then_give_up(guarded: Any, postgres: Server) -> None:
    async def run() -> None:
        registry = CollectorRegistry()
        async with guarded(postgres.url, threshold=1.0, wait=1.0, metrics=PoolMetrics(registry)) as guard:
            release = asyncio.Event()

            async def work(until: asyncio.Event) -> str:
                try:
                    async with guard.acquire() as connection:
                        await connection.execute("SELECT 1")
                        await until.wait()
                except PoolExhaustedError as error:
                    return error.cause
                return "served"

            at_once = asyncio.Event()
            at_once.set()
            assert await asyncio.gather(*(work(at_once) for _ in range(2 * SIZE))) == ["served"] * 2 * SIZE
            holders = [asyncio.create_task(work(release)) for _ in range(SIZE)]
            async with asyncio.timeout(10 * CROWD):
                while guard.gate.held < SIZE:  # noqa: ASYNC110 - a count, not an event
                    await asyncio.sleep(0.005)
            assert await asyncio.gather(*(work(at_once) for _ in range(5))) == ["timeout"] * 5
            labels = {"pool": "main", "cause": "timeout"}
            assert registry.get_sample_value("db_pool_exhausted_total", labels) == 5
            assert registry.get_sample_value("db_pool_utilization_ratio", {"pool": "main"}) == 1.0
            release.set()
            assert await asyncio.gather(*holders) == ["served"] * SIZE
            assert await work(at_once) == "served"  # who gave up has kept no connection

    asyncio.run(run())


@pytest.mark.parametrize("guarded", [asyncpg_guard, psycopg_guard])
def test_requests_that_are_cancelled_lose_no_connection(guarded: Any, postgres: Server) -> None:
    async def run() -> None:
        async with guarded(postgres.url, threshold=1.0) as guard:

            async def work() -> None:
                async with guard.acquire() as connection:
                    await connection.execute("SELECT pg_sleep(30)")

            tasks = [asyncio.create_task(work()) for _ in range(3 * SIZE)]
            async with asyncio.timeout(10 * CROWD):
                while guard.gate.held < SIZE:  # noqa: ASYNC110 - a count, not an event
                    await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert guard.gate.used == 0

            async def again() -> None:
                async with guard.acquire() as connection:
                    await connection.execute("SELECT 1")

            await asyncio.gather(*(again() for _ in range(2 * SIZE)))

    asyncio.run(run())


def test_an_error_of_the_database_is_the_drivers_own_and_rolls_back(postgres: Server) -> None:
    postgres.sql("DROP TABLE IF EXISTS effects; CREATE TABLE effects (n int)")

    async def run() -> None:
        async with psycopg_guard(postgres.url) as guard:

            async def fail() -> None:
                async with guard.acquire() as connection:
                    await connection.execute("INSERT INTO effects VALUES (1)")
                    await connection.execute("SELECT 1 / 0")

            with pytest.raises(psycopg.errors.DivisionByZero):
                await fail()
            async with guard.acquire() as connection:
                await connection.execute("INSERT INTO effects VALUES (2)")
            assert guard.gate.exhausted == {"threshold": 0, "timeout": 0}

    asyncio.run(run())
    assert postgres.sql("SELECT n FROM effects") == "2"
    postgres.sql("DROP TABLE effects")


def test_a_database_that_is_gone_is_no_exhaustion_and_comes_back() -> None:
    server = Server()

    async def run() -> None:
        async with asyncpg_guard(server.url) as guard:
            async with guard.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1
            server.stop()
            for _ in range(2 * SIZE):  # more than the pool has: none of them may be lost
                with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                    async with guard.acquire() as connection:
                        await connection.fetchval("SELECT 1")
            assert guard.gate.used == 0
            assert guard.gate.exhausted == {"threshold": 0, "timeout": 0}
            server.start()
            async with guard.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1

    try:
        asyncio.run(run())
    finally:
        server.close()


def test_the_pool_tells_what_others_have_taken(postgres: Server) -> None:
    async def run() -> None:
        async with asyncpg.create_pool(postgres.url, min_size=0, max_size=4) as pool:
            guard = PoolGuard(
                "main", size=4, acquire=pool.acquire, release=pool.release,
                in_use=lambda: pool.get_size() - pool.get_idle_size(),
            )  # fmt: skip
            others = [await pool.acquire() for _ in range(4)]
            assert guard.gate.utilization == 1.0
            with pytest.raises(PoolExhaustedError):
                async with guard.acquire():
                    raise AssertionError
            for connection in others:
                await pool.release(connection)
            async with guard.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1

    asyncio.run(run())


def test_a_clients_connections_are_guarded_like_a_pool(app: Callable[..., App]) -> None:
    upstream = app(lambda _: response(body=b"found"))

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as session:
            url = "http://{}:{}/".format(*upstream.address)
            guard = PoolGuard("search", size=2, threshold=0.5, connect=lambda: session.get(url))
            async with guard.acquire() as one, guard.acquire() as two:
                assert [await one.text(), await two.text()] == ["found", "found"]
                with pytest.raises(PoolExhaustedError):
                    async with guard.acquire():
                        raise AssertionError

    asyncio.run(run())


def test_the_pages_example_serves_and_refuses(postgres: Server) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "pool-guard.md").read_text(), re.MULTILINE | re.DOTALL)
    page: dict[str, Any] = {}
    exec(compile(block, "pool-guard.md", "exec"), page)

    async def run() -> None:
        stopped = asyncio.Event()
        async with asyncpg.create_pool(postgres.url, min_size=1, max_size=1) as pool:
            serving = asyncio.create_task(page["serve"](pool, stopped))
            guard = PoolGuard("other", size=1, acquire=pool.acquire, release=pool.release)
            assert await page["order"](guard) == (200, 1)
            async with guard.acquire():
                assert await page["order"](guard) == (503, "retry-after: 1")
            stopped.set()
            await serving

    asyncio.run(run())
    names = {family.name for family in REGISTRY.collect()}
    assert {"db_pool_exhausted", "db_pool_utilization_ratio"} <= names
