"""Keys in PostgreSQL: with the effect or not at all, for two at the same time, across a turn of the ring."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from nova_data.dedup import installing
from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.metrics import DedupMetrics
from nova_data.dedup.postgres import PostgresKeys
from nova_data.dedup.schema import SLOTS, slot_table
from nova_data.errors import DedupStoreError, DedupTransactionError
from nova_data.main import main
from nova_data.pool.connection import JoiningConnection
from tests.crowd import CROWD
from tests.loopback.support.postgresserver import Server as Postgres

from .pages import names_of

Effect = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True)
class Event:
    """What has a key."""

    idempotency_key: str


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    assert main(["dedup", "install", "--database", postgres.url]) == 0
    postgres.sql("CREATE TABLE effects (id bigserial, name text)")
    yield postgres.url
    postgres.sql("DROP TABLE effects; DROP TABLE dedup_keys")


@asynccontextmanager
async def pooled(url: str, size: int = 4, kind: type = JoiningConnection) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(
        url, min_size=size, max_size=size, command_timeout=10, connection_class=kind
    ) as pool:
        yield pool


@pytest.fixture(params=[JoiningConnection, asyncpg.Connection], ids=["joining", "asyncpg"])
def kind(request: pytest.FixtureRequest) -> type:
    """Of a pool's connections."""
    found: type = request.param
    return found


def writes(name: str) -> Effect:
    async def effect(connection: Any) -> None:
        await connection.execute("INSERT INTO effects (name) VALUES ($1)", name)

    return effect


async def effects(pool: Any) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM effects")
    return count


async def somebody_waits(pool: Any) -> None:
    """For a key that another one has."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with asyncio.timeout(10 * CROWD):
        while not await pool.fetchval(waiting):  # noqa: ASYNC110 - what it waits for is in the database
            await asyncio.sleep(0.01)


def run(url: str, work: Callable[[Any], Awaitable[None]], size: int = 4, kind: type = JoiningConnection) -> None:
    async def all_of_it() -> None:
        async with pooled(url, size, kind) as pool:
            await work(pool)

    asyncio.run(all_of_it())


def test_an_effect_takes_place_once_for_a_key_and_a_scope(database: str, kind: type) -> None:
    async def work(pool: Any) -> None:
        billing, mails = PostgresKeys(pool, scope="billing"), PostgresKeys(pool, scope="mails")
        assert [await billing.once("e1", writes("a")) for _ in range(3)] == [True, False, False]
        assert await mails.once("e1", writes("b"))
        assert await effects(pool) == 2

    run(database, work, kind=kind)


def test_what_an_effect_raises_undoes_the_key_as_well(database: str, kind: type) -> None:
    async def fails(connection: Any) -> None:
        await writes("half")(connection)
        raise LookupError("no")

    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        with pytest.raises(LookupError):
            await keys.once("e1", fails)
        assert await effects(pool) == 0
        assert await keys.once("e1", writes("whole"))

    run(database, work, kind=kind)


def test_of_two_at_the_same_time_one_waits_and_has_no_effect(database: str, kind: type) -> None:
    async def work(pool: Any) -> None:
        keys, inside, go_on = PostgresKeys(pool, scope="s"), asyncio.Event(), asyncio.Event()

        async def slow(connection: Any) -> None:
            await writes("first")(connection)
            inside.set()
            await go_on.wait()

        first = asyncio.create_task(keys.once("e1", slow))
        await inside.wait()
        second = asyncio.create_task(keys.once("e1", writes("second")))
        await somebody_waits(pool)
        go_on.set()
        assert [await first, await second] == [True, False]
        assert await effects(pool) == 1

    run(database, work, kind=kind)


def test_the_second_has_the_effect_when_the_first_one_fails(database: str, kind: type) -> None:
    async def work(pool: Any) -> None:
        keys, inside, go_on = PostgresKeys(pool, scope="s"), asyncio.Event(), asyncio.Event()

        async def slow(_: Any) -> None:
            inside.set()
            await go_on.wait()
            raise LookupError

        first = asyncio.create_task(keys.once("e1", slow))
        await inside.wait()
        second = asyncio.create_task(keys.once("e1", writes("second")))
        go_on.set()
        with pytest.raises(LookupError):
            await first
        assert await second

    run(database, work, kind=kind)


def test_a_hundred_at_once_have_one_effect(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        done = await asyncio.gather(*(keys.once(f"e{number % 10}", writes("x")) for number in range(100)))
        assert sum(done) == await effects(pool) == 10

    run(database, work, size=10)


def test_two_that_meet_at_a_turn_of_the_ring_have_one_effect(database: str) -> None:
    """The first one's key is not committed when the second comes, whose period writes to another slot."""

    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        async with pool.acquire() as one, pool.acquire() as two:
            async with one.transaction():
                assert await keys.first(one, "e1")
                await pool.execute(
                    "CREATE OR REPLACE FUNCTION nova_dedup_slot(later integer) RETURNS smallint LANGUAGE sql"
                    f" AS $$ SELECT ((floor(extract(epoch FROM clock_timestamp()) / nova_dedup_period())::bigint"
                    f" + 1 + later) % {SLOTS})::smallint $$"
                )
                second = asyncio.create_task(_first(keys, two, "e1"))
                await somebody_waits(pool)
            assert not await second
        assert await pool.fetchval("SELECT count(*) FROM dedup_keys") == 1

    run(database, work)


async def _first(keys: PostgresKeys, connection: Any, key: str) -> bool:
    async with connection.transaction():
        return await keys.first(connection, key)


def test_repeatable_read_is_refused_and_serializable_is_not(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        async with pool.acquire() as connection:
            with pytest.raises(asyncpg.PostgresError, match="READ COMMITTED or SERIALIZABLE"):
                async with connection.transaction(isolation="repeatable_read"):
                    await keys.first(connection, "e1")
            async with connection.transaction(isolation="serializable"):
                assert await keys.first(connection, "e1")

    run(database, work)


def test_a_key_is_taken_in_a_transaction_alone(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        async with pool.acquire() as connection:
            with pytest.raises(DedupTransactionError, match="in the transaction of its effect"):
                await keys.first(connection, "e1")
            with pytest.raises(DedupTransactionError):
                await keys.first_of(connection, ["e1"])
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            with pytest.raises(DedupTransactionError):
                await keys.first(connection, "e1")
            async with connection.transaction():
                assert await keys.first(connection, "e1")

    run(database, work)


def test_many_keys_in_one_round_trip(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        assert await keys.once("b", writes("x"))
        async with pool.acquire() as connection, connection.transaction():
            assert await keys.first_of(connection, ["a", "b", "c", "a"]) == [True, False, True, False]
            assert await keys.first_of(connection, []) == []

    run(database, work)


def test_an_error_that_an_effect_takes_no_notice_of_undoes_it_and_is_told(database: str, kind: type) -> None:
    async def careless(connection: Any, *_: Any) -> None:
        await writes("half")(connection)
        with suppress(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1 / 0")

    async def careful(connection: Any) -> None:
        await writes("half")(connection)
        with suppress(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute("SELECT 1 / 0")

    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await keys.once("e1", careless)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await keys.once_of([Event("e1")], careless)
        assert await effects(pool) == 0
        assert await keys.once("e1", careful)
        assert await effects(pool) == 1

    run(database, work, kind=kind)


def test_many_events_in_one_transaction_all_or_nothing(database: str, kind: type) -> None:
    seen: list[list[str]] = []

    async def effect(connection: Any, new: list[Event]) -> None:
        seen.append([event.idempotency_key for event in new])
        for event in new:
            await writes(event.idempotency_key)(connection)
            if event.idempotency_key == "poison":
                raise LookupError

    def events(*names: str) -> list[Event]:
        return [Event(name) for name in names]

    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s", recent=RecentKeys(100))
        assert await keys.once("b", writes("b"))
        assert await keys.once_of(events("a", "b", "c", "a"), effect) == [True, False, True, False]
        assert await keys.once_of(events("b", "c"), effect) == [False, False]
        assert await keys.once_of([], effect) == []
        with pytest.raises(LookupError):
            await keys.once_of(events("d", "poison", "e"), effect)
        assert await keys.once_of(events("d", "e"), effect) == [True, True]
        assert seen == [["a", "c"], ["d", "poison", "e"], ["d", "e"]]
        assert await effects(pool) == 5
        assert not await keys.once("d", writes("d"))

    run(database, work, kind=kind)


def test_a_key_costs_one_round_trip_and_the_effects_own(database: str) -> None:
    async def work(pool: Any) -> None:
        sent: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: sent.append(record.query))
        keys = PostgresKeys(pool, scope="s")
        assert [await keys.once("e1", writes("x")) for _ in range(2)] == [True, False]
        assert len(sent) == 1 + 3 + 2, sent  # the reset of the connection that was looked at; the first time; again

    run(database, work, size=1)


def test_batches_in_any_order_do_not_wait_for_each_other_in_a_circle(database: str) -> None:
    async def work(pool: Any) -> None:
        keys, names = PostgresKeys(pool, scope="s"), [f"e{number}" for number in range(200)]

        async def batch(some: list[str]) -> int:
            async with pool.acquire() as connection, connection.transaction():
                return sum(await keys.first_of(connection, some))

        counts = await asyncio.gather(*(batch(names if turn % 2 else names[::-1]) for turn in range(8)))
        assert sum(counts) == len(names)

    run(database, work, size=8)


def test_psycopg_takes_part(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        async with await psycopg.AsyncConnection.connect(database) as connection:
            assert await keys.first(connection, "e1")
            await connection.rollback()
            assert await keys.first(connection, "e1")
        assert not await keys.once("e1", writes("x"))

    run(database, work)


def test_the_filter_spares_transactions_and_decides_nothing(database: str) -> None:
    registry = CollectorRegistry()

    async def work(pool: Any) -> None:
        here = PostgresKeys(pool, scope="s", recent=RecentKeys(1000), metrics=DedupMetrics(registry))
        elsewhere = PostgresKeys(pool, scope="s")
        assert await elsewhere.once("e1", writes("x"))
        assert not await here.once("e1", writes("x"))  # the filter says no, the database yes
        assert [await here.once("e2", writes("x")) for _ in range(3)] == [True, False, False]
        assert await pool.execute("DELETE FROM dedup_keys") == "DELETE 2"
        assert await here.once("e2", writes("x"))  # it says maybe, the database no

    run(database, work)

    def counted(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"scope": "s", **labels})

    assert counted("nova_dedup_bloom_total", answer="no") == 2
    assert counted("nova_dedup_bloom_total", answer="maybe") == 3
    assert counted("nova_dedup_keys_total", result="first") == 2
    assert counted("nova_dedup_keys_total", result="duplicate") == 3
    assert counted("nova_dedup_keys_total", result="failed") == 0


def test_a_database_that_leaves_is_an_outage(database: str, kind: type) -> None:
    async def leaves(connection: Any) -> None:
        await connection.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")

    async def late(_: Any) -> None:
        raise TimeoutError

    async def wrong(connection: Any) -> None:
        await connection.fetchval("SELECT $1::int", "no number")

    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        with pytest.raises(DedupStoreError, match="the database of the keys: "):
            await keys.once("e1", leaves)
        with pytest.raises(asyncpg.DataError):
            await keys.once("e1", wrong)
        with pytest.raises(TimeoutError):
            await keys.once("e1", late)
        assert await keys.once("e1", writes("x"))
        await pool.close()
        with pytest.raises(DedupStoreError):
            await keys.once("e2", writes("x"))

    run(database, work, kind=kind)


class _Order:
    """A message of the page's."""

    idempotency_key = "e1"

    def json(self) -> dict[str, int]:
        return {"id": 42}


def test_the_pages_example(database: str) -> None:
    page = names_of("deduplication.md")
    in_postgres = names_of("deduplication.md", first=1)

    async def work(pool: Any) -> None:
        await pool.execute("CREATE TABLE charges (order_id int)")
        handle = in_postgres["handler"](pool)
        assert [await handle(_Order()) for _ in range(2)] == [True, False]
        assert await pool.fetchval("SELECT count(*) FROM charges") == 1
        await pool.execute("DROP TABLE charges")

    assert page["recent"].bytes < 11_000_000

    async def with_the_pages_pool() -> None:
        async with await page["pool"](database) as pool:
            await work(pool)

    asyncio.run(with_the_pages_pool())


# --- the ring


def test_keys_are_known_for_their_lifetime_and_pruned_after_it(database: str) -> None:
    async def work(pool: Any) -> None:
        keys = PostgresKeys(pool, scope="s")
        async with pool.acquire() as connection:
            assert await keys.once("now", writes("x"))
            slot = await connection.fetchval("SELECT nova_dedup_slot(0)")
            digest = await connection.fetchval("SELECT digest FROM dedup_keys")
            await connection.execute("DELETE FROM dedup_keys")
            for age in range(SLOTS):  # the same key, as if it had come in another period
                await connection.execute("INSERT INTO dedup_keys VALUES ($1, $2)", (slot - age) % SLOTS, digest)
                assert not await keys.once("now", writes("x"))
                there = await installing.prune(connection)
                assert there is (age == SLOTS - 1), age
                await connection.execute("DELETE FROM dedup_keys")
            assert await keys.once("now", writes("x"))

    run(database, work)


def test_pruning_gives_up_soon_where_somebody_holds_the_table(database: str) -> None:
    async def work(pool: Any) -> None:
        async with pool.acquire() as holder, pool.acquire() as connection:
            slot = await connection.fetchval("SELECT nova_dedup_slot(1)")
            await connection.execute("INSERT INTO dedup_keys VALUES ($1, $2)", slot, uuid.uuid4())
            async with holder.transaction():
                await holder.execute(f"LOCK TABLE {slot_table(slot)} IN ACCESS SHARE MODE")
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await installing.prune(connection, lock_timeout=0.05)
            assert await installing.prune(connection, lock_timeout=0.05)

    run(database, work)


# --- the command


def test_the_command_shows_forgets_and_prunes(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(pool: Any) -> None:
        assert await PostgresKeys(pool, scope="billing").once("e1", writes("x"))

    run(database, work)
    capsys.readouterr()
    words = ["--database", database]
    assert main(["dedup", "status", *words]) == 0
    assert "24 h" in capsys.readouterr().out
    assert main(["dedup", "forget", *words, "--scope", "billing", "e1", "e2"]) == 1
    assert capsys.readouterr().out.splitlines() == ["e1: forgotten", "e2: was not known"]
    run(database, work)
    assert main(["dedup", "prune", *words]) == 0
    assert main(["dedup", "install", *words, "--lifetime", "48h"]) == 0
    assert main(["dedup", "status", *words, "--json"]) == 0
    assert '"lifetimeSeconds": 172800.0' in capsys.readouterr().out


def test_a_database_without_the_table_says_what_to_do(postgres: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dedup", "status", "--database", postgres.url]) == 1
    assert "`nova-data dedup install` makes the table" in capsys.readouterr().err
