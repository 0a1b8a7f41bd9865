"""Real PostgreSQL servers with streaming replication: a replica that lags, dies, is promoted, a primary that dies."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from nova_data.errors import PoolExhaustedError
from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings
from nova_data.split.choice import Route, SplitSettings
from nova_data.split.database import SplitDatabase
from nova_data.split.metrics import SplitMetrics
from nova_data.split.session import OwnWrites, current
from tests.crowd import CROWD
from tests.loopback.support.postgresserver import Server

DOCS = Path(__file__).resolve().parents[3] / "docs"
QUICK = SplitSettings(max_lag=1.5, patience=0.05, interval=0.5, orphaned=30)
PATIENT = SplitSettings(max_lag=20, patience=10)
IMPATIENT = SplitSettings(max_lag=20, patience=0)
POOL = PoolSettings(size=4, threshold=1.0, wait=10)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary with a table of one row, and its replica."""
    primary = Server(synchronous_commit="on")
    try:
        primary.sql("CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL); INSERT INTO users VALUES (1, 'anna')")
        replica = Server(primary)
        try:
            yield primary, replica
        finally:
            replica.close()
    finally:
        primary.close()


class Split:
    """A split database, and where its reads went."""

    def __init__(self, database: SplitDatabase, registry: CollectorRegistry) -> None:
        self.database = database
        self._registry = registry

    def count(self, route: Route) -> float:
        labels = {"database": "main", "route": str(route)}
        return self._registry.get_sample_value("nova_data_split_reads_total", labels) or 0.0

    async def name(self) -> tuple[str, Route]:
        """What is read, and where."""
        before = {route: self.count(route) for route in Route}
        async with self.database.read() as connection:
            found: str = await connection.fetchval("SELECT name FROM users WHERE id = 1")
        (went,) = [route for route in Route if self.count(route) > before[route]]
        return found, went

    async def rename(self, name: str) -> None:
        async with self.database.write() as connection:
            await connection.execute("UPDATE users SET name = $1 WHERE id = 1", name)

    async def until(self, route: Route) -> None:
        await soon(self._goes(route))

    def _goes(self, route: Route) -> Callable[[], Awaitable[bool]]:
        async def goes() -> bool:
            return (await self.name())[1] is route

        return goes


@asynccontextmanager
async def opened(primary: Server, replica: Server, settings: SplitSettings, **pool: Any) -> AsyncIterator[Split]:
    registry = CollectorRegistry()
    replicas = [Database(replica.url, name="replica-1", settings=PoolSettings(**pool) if pool else POOL)]
    made = SplitDatabase(
        Database(primary.url, settings=POOL), replicas, settings=settings, metrics=SplitMetrics(registry)
    )
    async with made as database:
        yield Split(database, registry)


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15 * CROWD):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def paused(replica: Server) -> AsyncIterator[None]:
    """A replica that receives and does not replay."""
    await asyncio.to_thread(replica.sql, "SELECT pg_wal_replay_pause()")
    try:
        await soon(lambda: _is_paused(replica))
        yield
    finally:
        await asyncio.to_thread(replica.sql, "SELECT pg_wal_replay_resume()")


async def _is_paused(replica: Server) -> bool:
    return await asyncio.to_thread(replica.sql, "SELECT pg_get_wal_replay_pause_state()") == "paused"


Pair = tuple[Server, Server]


def test_reads_go_to_the_replica_and_are_read_only_everywhere(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, PATIENT) as split:
            assert (await split.name())[1] is Route.REPLICA
            async with split.database.read() as connection:
                assert await connection.fetchval("SELECT pg_is_in_recovery()")
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await connection.execute("DELETE FROM users")
            async with split.database.write() as connection:
                assert not await connection.fetchval("SELECT pg_is_in_recovery()")
            for replica in split.database.choice.replicas:
                split.database.choice.lost(replica)
            async with split.database.read() as connection:
                assert not await connection.fetchval("SELECT pg_is_in_recovery()")
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await connection.execute("DELETE FROM users")
            assert repr(split.database).startswith("<SplitDatabase main <Choice <PrimaryLog samples=")

    asyncio.run(run())


def test_who_has_written_reads_it_and_others_may_read_what_was(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, IMPATIENT) as split:
            await split.rename("before")
            await split.until(Route.REPLICA)  # it has replayed that
            async with paused(pair[1]):
                with OwnWrites() as seen:
                    await split.rename("after")
                    assert await split.name() == ("after", Route.OWN_WRITE)
                    assert (await asyncio.gather(split.name()))[0] == ("after", Route.OWN_WRITE)  # in its tasks, too
                with OwnWrites():
                    assert await split.name() == ("before", Route.REPLICA)
                with OwnWrites(seen.token):  # the next request of the same client
                    assert await split.name() == ("after", Route.OWN_WRITE)
                with OwnWrites("FFFFFFFF/0"):  # made up
                    assert await split.name() == ("before", Route.REPLICA)
            with OwnWrites(seen.token):
                await split.until(Route.REPLICA)
                assert await split.name() == ("after", Route.REPLICA)

    asyncio.run(run())


def test_a_replica_that_is_nearly_there_is_waited_for(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, PATIENT) as split:
            async with paused(pair[1]):
                await split.rename("soon")
                reading = asyncio.create_task(split.name())
                pool = split.database._databases[split.database.choice.replicas[0]]
                await soon(lambda: _held(pool))
                assert not reading.done()
            assert await reading == ("soon", Route.WAITED)

    asyncio.run(run())


async def _held(pool: Database) -> bool:
    return pool.guard.gate.held == 1


def test_patience_ends(pair: Pair) -> None:
    async def run() -> None:
        settings = SplitSettings(max_lag=20, patience=0.03)
        async with opened(*pair, settings) as split, paused(pair[1]):
            await split.rename("never there")
            assert await split.name() == ("never there", Route.OWN_WRITE)
            pool = split.database._databases[split.database.choice.replicas[0]]
            assert pool.guard.gate.used == 0  # the connection that waited is back

    asyncio.run(run())


def test_a_replica_that_is_too_far_behind_does_not_serve_and_a_quiet_primarys_does(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, QUICK) as split:
            quiet = asyncio.get_running_loop().time() + 2.0
            while asyncio.get_running_loop().time() < quiet:  # nobody writes for longer than the lag that is allowed
                assert (await split.name())[1] is Route.REPLICA
                await asyncio.sleep(0.05)
            async with paused(pair[1]):
                await split.rename("fresh")
                with OwnWrites():  # somebody else
                    await split.until(Route.LAGGING)
                    assert await split.name() == ("fresh", Route.LAGGING)
            with OwnWrites():
                await split.until(Route.REPLICA)
                assert await split.name() == ("fresh", Route.REPLICA)

    asyncio.run(run())


def test_a_replica_that_applies_late_is_never_read_beyond_the_bound(pair: Pair) -> None:
    """It applies everything 3 s late, and the bound is 1.5 s: what a read lacks was written within that."""
    primary, _ = pair

    async def run(late: Server) -> None:
        async with opened(primary, late, QUICK) as split:
            routes: set[Route] = set()
            written: list[tuple[float, str]] = []
            while len(written) < 5 or time.monotonic() < written[0][0] + 3:
                name = f"number {len(written)}"
                await split.rename(name)
                written.append((time.monotonic(), name))
                with OwnWrites():
                    began = time.monotonic()
                    found, route = await split.name()
                routes.add(route)
                names = [each for _, each in written]
                lacking = written[names.index(found) + 1 if found in names else 0 :]
                assert all(at >= began - QUICK.max_lag for at, _ in lacking)
                await asyncio.sleep(0.02)
            assert Route.LAGGING in routes

    late = Server(primary, recovery_min_apply_delay="3s")
    try:
        asyncio.run(run(late))
    finally:
        late.close()


def test_a_replica_that_dies_is_not_missed_and_serves_again_when_it_is_back(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, PATIENT) as split:
            await split.rename("anna")
            await split.until(Route.REPLICA)
            reading = asyncio.create_task(
                split.database.run(lambda connection: connection.fetchval("SELECT name FROM users, pg_sleep(1)"))
            )
            pool = split.database._databases[split.database.choice.replicas[0]]
            await soon(lambda: _held(pool))
            await asyncio.to_thread(pair[1].stop)
            assert await reading == "anna"  # it was lost in the middle, and read again on the primary
            for _ in range(20):
                assert (await split.name())[0] == "anna"
            await asyncio.to_thread(pair[1].start)
            await split.until(Route.REPLICA)

    asyncio.run(run())


def test_reads_go_on_while_the_primary_is_gone(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, QUICK) as split:
            await split.rename("ben")
            with OwnWrites():
                await split.until(Route.REPLICA)
                await asyncio.to_thread(pair[0].stop)
                try:
                    gone = asyncio.get_running_loop().time() + 2.5  # more than the lag that is allowed
                    while asyncio.get_running_loop().time() < gone:
                        assert await split.name() == ("ben", Route.REPLICA)
                        await asyncio.sleep(0.05)
                    with pytest.raises(OSError):  # noqa: PT011  # what the kernel says of a port that nobody has
                        await split.rename("never")
                    assert current().token == "primary" or current().token is None
                finally:
                    await asyncio.to_thread(pair[0].start)
                await soon(lambda: _can(split.rename("carl")))
                assert (await split.name())[0] == "carl"

    asyncio.run(run())


async def _can(attempt: Awaitable[None]) -> bool:
    try:
        await attempt
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


def test_a_replica_that_was_promoted_does_not_serve(pair: Pair) -> None:
    primary, _ = pair

    async def run(other: Server) -> None:
        async with opened(primary, other, PATIENT) as split:
            await split.rename("dora")
            await split.until(Route.REPLICA)
            await asyncio.to_thread(other.sql, "SELECT pg_promote()")
            await split.until(Route.DOWN)
            await asyncio.to_thread(other.sql, "UPDATE users SET name = 'of another world'")
            assert await split.name() == ("dora", Route.DOWN)

    other = Server(primary)
    try:
        asyncio.run(run(other))
    finally:
        other.close()


def test_a_full_replica_refuses_and_leaves_the_primary_to_the_writes(pair: Pair) -> None:
    async def run() -> None:
        async with opened(*pair, PATIENT, size=1, threshold=0.5) as split:
            async with split.database.read():
                with pytest.raises(PoolExhaustedError) as caught:
                    async with split.database.read():
                        raise AssertionError
            assert caught.value.pool == "replica-1"
            await split.rename("eva")

    asyncio.run(run())


def test_each_database_has_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="a name for each database, got main, main"):
        SplitDatabase(Database("postgresql://a/a"), [Database("postgresql://b/b")])


def test_the_example_in_the_docs_works(pair: Pair) -> None:
    async def run() -> None:
        scope: dict[str, Any] = {}
        text = (DOCS / "read-write-split.md").read_text()
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(code, scope)
        async with scope["shop"](pair[0].url, pair[1].url) as database:
            cookies: dict[str, str] = {}
            async with paused(pair[1]):
                await scope["rename"](database, cookies, 1, "frida")
                assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", cookies["seen"])
                assert await scope["show"](database, cookies, 1) == "frida"

    asyncio.run(run())
