"""The pool of a service with a real PostgreSQL behind it: shares, leaks, slow statements, timeouts, and its end."""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from nova_data.errors import PoolExhaustedError, TenantQuotaError
from nova_data.pool.database import Database
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.settings import PoolSettings
from nova_data.pool.slow import SlowStatement
from tests.crowd import CROWD
from tests.loopback.support.postgresserver import Server

DOCS = Path(__file__).resolve().parents[3] / "docs"


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10 * CROWD):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def test_a_connection_has_its_timeouts_and_its_name(postgres: Server) -> None:
    async def run() -> None:
        async with Database(postgres.url, name="orders", settings=PoolSettings(statement_timeout=0.25)) as database:
            async with database.acquire() as connection:
                assert await connection.fetchval("SHOW statement_timeout") == "250ms"
                assert await connection.fetchval("SHOW application_name") == "orders"
                assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "30s"
                with pytest.raises(asyncpg.QueryCanceledError):
                    await connection.execute("SELECT pg_sleep(20)")
                assert await connection.fetchval("SELECT 1") == 1
            assert database.guard.gate.used == 0
            assert repr(database).startswith("<Database orders <PoolGate open held=0")

    asyncio.run(run())


def test_a_transaction_ends_with_its_block(postgres: Server) -> None:
    async def run() -> None:
        async with Database(postgres.url) as database:
            async with database.acquire() as connection:
                await connection.execute("CREATE TABLE parcels (id int)")

            async def fail() -> None:
                async with database.transaction() as connection:
                    await connection.execute("INSERT INTO parcels VALUES (1)")
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            async with database.transaction(readonly=True) as connection:
                assert await connection.fetchval("SELECT count(*) FROM parcels") == 0
            async with database.acquire() as connection:
                await connection.execute("DROP TABLE parcels")

    asyncio.run(run())


def test_one_tenant_leaves_room_for_the_others(postgres: Server) -> None:
    async def run() -> None:
        registry = CollectorRegistry()
        settings = PoolSettings(size=10, threshold=1.0)
        async with Database(postgres.url, settings=settings, metrics=DatabaseMetrics(registry)) as database:
            done = asyncio.Event()
            refused = 0

            async def slow() -> None:
                nonlocal refused
                try:
                    async with database.acquire(tenant="greedy") as connection:
                        await connection.execute("SELECT 1")
                        await done.wait()
                except TenantQuotaError as error:
                    refused += (error.pool, error.retry_after) == ("main", 1.0)

            tasks = [asyncio.create_task(slow()) for _ in range(30)]
            await soon(lambda: refused == 25)
            for tenant in ("anna", "ben"):
                async with database.acquire(tenant=tenant) as connection:
                    assert await connection.fetchval("SELECT 1") == 1
            done.set()
            await asyncio.gather(*tasks)
            assert (database.quota.total, database.guard.gate.used) == (0, 0)
            assert registry.get_sample_value("db_pool_tenant_refused_total", {"pool": "main"}) == 25

    asyncio.run(run())


def test_a_tenant_that_found_the_pool_full_gets_the_next_connection(postgres: Server) -> None:
    async def run() -> None:
        async with Database(postgres.url, settings=PoolSettings(size=4, threshold=0.9)) as database:
            leave = {name: asyncio.Event() for name in ("a1", "a2", "b1", "b2")}

            async def hold(name: str) -> None:
                async with database.acquire(tenant=name[0]):
                    await leave[name].wait()

            tasks = [asyncio.create_task(hold(name)) for name in leave]
            await soon(lambda: database.guard.gate.held == 4)
            with pytest.raises(PoolExhaustedError):
                async with database.acquire(tenant="c"):
                    raise AssertionError
            leave["a1"].set()
            await tasks[0]
            with pytest.raises(TenantQuotaError):  # it was faster, but the next one is another's
                async with database.acquire(tenant="a"):
                    raise AssertionError
            async with database.acquire(tenant="c") as connection:
                assert await connection.fetchval("SELECT 1") == 1
            for event in leave.values():
                event.set()
            await asyncio.gather(*tasks)
            assert database.quota.total == 0

    asyncio.run(run())


def test_a_callers_own_deadline_shortens_the_wait(postgres: Server) -> None:
    async def run() -> None:
        async with Database(postgres.url, settings=PoolSettings(size=1, threshold=1.0, wait=30)) as database:
            async with database.acquire():
                with pytest.raises(PoolExhaustedError) as caught:
                    async with database.acquire(within=0.05):
                        raise AssertionError
            assert caught.value.cause == "timeout"
            assert database.guard.gate.used == 0

    asyncio.run(run())


def test_a_connection_that_is_kept_is_told_with_the_place_that_took_it(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(database: Database, password: str, done: asyncio.Event) -> None:
        async with database.acquire() as connection:
            await connection.execute("SELECT $1::text", password)
            await done.wait()

    async def run() -> None:
        registry = CollectorRegistry()
        settings = PoolSettings(leak_after=0.1)
        async with Database(postgres.url, settings=settings, metrics=DatabaseMetrics(registry)) as database:
            done = asyncio.Event()
            task = asyncio.create_task(forgetful(database, "hunter2", done))
            await soon(lambda: database.observer.leaks.missing == 1)
            assert registry.get_sample_value("db_pool_missing", {"pool": "main"}) == 1
            done.set()
            await task
            assert registry.get_sample_value("db_pool_missing", {"pool": "main"}) == 0
            assert registry.get_sample_value("db_pool_leaks_total", {"pool": "main"}) == 1
            assert registry.get_sample_value("db_pool_held_seconds_count", {"pool": "main"}) == 1

    with caplog.at_level(logging.WARNING, "nova_data.pool"):
        asyncio.run(run())
    (line,) = [record.getMessage() for record in caplog.records if "is held for" in record.getMessage()]
    assert re.search(r"the pool main is held for \d+\.\d s, taken in \S*forgetful \(\S*test_database\.py:\d+\)", line)
    assert "hunter2" not in line


def test_a_slow_statement_is_told_without_its_values(postgres: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        registry = CollectorRegistry()
        settings = PoolSettings(slow_after=0.05)
        async with Database(postgres.url, settings=settings, metrics=DatabaseMetrics(registry)) as database:
            async with database.acquire() as connection:
                await connection.fetchval("SELECT 'anna', $1::text, pg_sleep(0.06)", "ben")
                await connection.fetchval("SELECT 'carl', $1::text, pg_sleep(0.06)", "dora")
            await soon(lambda: database.observer.slow.count >= 2)
            assert (
                registry.get_sample_value("db_statement_slow_total", {"pool": "main"}) == database.observer.slow.count
            )

    with caplog.at_level(logging.WARNING, "nova_data.pool"):
        asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if "a statement" in record.getMessage()]
    assert [line.endswith("SELECT ?, $1::text, pg_sleep(?)") for line in lines].count(True) == 1  # two, told once
    assert not any(name in line for line in lines for name in ("anna", "ben", "carl", "dora"))


def test_whoever_wants_to_be_told_is_told_instead_of_the_log(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        told: list[SlowStatement] = []
        settings = PoolSettings(slow_after=0.001)
        async with Database(postgres.url, settings=settings, on_slow=told.append) as database:
            async with database.acquire() as connection:
                await connection.execute("SELECT pg_sleep(0.01)")
            await soon(lambda: any("pg_sleep(?)" in each.statement for each in told))

    with caplog.at_level(logging.WARNING, "nova_data.pool"):
        asyncio.run(run())
    assert caplog.records == []


def test_an_app_starts_without_its_database_and_finds_it_later(postgres: Server) -> None:
    async def run() -> None:
        server = Server()
        try:
            server.stop()
            async with Database(server.url, settings=PoolSettings(wait=20)) as database:
                with pytest.raises(OSError):  # noqa: PT011  # ConnectionRefusedError or its kin, as the kernel has it
                    async with database.acquire():
                        raise AssertionError
                assert database.guard.gate.used == 0
                await asyncio.to_thread(server.start)
                async with database.acquire() as connection:
                    assert await connection.fetchval("SELECT 1") == 1
                async with database.acquire() as connection:
                    assert await connection.fetchval("SELECT 1") == 1
                    await asyncio.to_thread(server.stop)  # what was done is done, and giving it back is no error
                assert database.guard.gate.used == 0
                await asyncio.to_thread(server.start)
                async with database.acquire() as connection:  # the connections there were are noticed as dead
                    assert await connection.fetchval("SELECT 1") == 1
        finally:
            server.close()

    asyncio.run(run())


def test_whoever_is_cancelled_gives_everything_back(postgres: Server) -> None:
    async def run() -> None:
        async with Database(postgres.url, settings=PoolSettings(size=2, threshold=1.0)) as database:

            async def work() -> None:
                async with database.acquire(tenant="a") as connection:
                    await connection.execute("SELECT pg_sleep(20)")

            tasks = [asyncio.create_task(work())]
            await soon(lambda: database.guard.gate.held == 1)
            tasks[0].cancel()
            assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [
                asyncio.CancelledError
            ]
            assert (database.guard.gate.used, database.quota.total, database.observer.leaks.missing) == (0, 0, 0)
            async with database.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1

    asyncio.run(run())


def test_a_database_is_used_within_its_block(postgres: Server) -> None:
    async def run() -> None:
        database = Database(postgres.url)
        with pytest.raises(RuntimeError, match="the database main is not open"):
            async with database.acquire():
                raise AssertionError
        with pytest.raises(ValueError, match="expected a name"):
            Database(postgres.url, name="my database")

    asyncio.run(run())


def test_the_example_in_the_docs_works(postgres: Server) -> None:
    async def run() -> None:
        text = (DOCS / "database-pool.md").read_text()
        code = next(
            block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "async def serve" in block
        )
        scope: dict[str, Any] = {}
        exec(code, scope)
        async with Database(postgres.url, settings=scope["SETTINGS"]) as database:
            assert await scope["order"](database, "acme") == (200, "1")
            blocked = asyncio.Event()

            async def hold() -> None:
                async with database.acquire(tenant="acme"):
                    await blocked.wait()

            most = int(database.places * 0.5)
            tasks = [asyncio.create_task(hold()) for _ in range(most)]
            await soon(lambda: database.guard.gate.held == most)
            assert (await scope["order"](database, "acme"))[0] == 429
            blocked.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
