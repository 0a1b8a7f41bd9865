"""The caches with a real Redis behind them and a real PostgreSQL that counts what is read."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from nova_data.cache.freshness import Freshness
from nova_data.cache.read_through import ReadThrough
from nova_data.cache.tier import RedisTier
from nova_data.cache.write_back import WriteBack
from nova_data.errors import UnsavedError
from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings
from tests.crowd import CROWD
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.redisservers import Server as RedisServer

DOCS = Path(__file__).resolve().parents[3] / "docs"
FRESH = Freshness(ttl=60, stale=60, early=0)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


def client(server: RedisServer) -> Redis:
    return Redis(host="127.0.0.1", port=server.port)


@asynccontextmanager
async def shop(postgres: Postgres) -> AsyncIterator[Database]:
    """A database with preferences of 500 users."""
    async with Database(postgres.url, settings=PoolSettings(size=4, threshold=1.0, wait=20)) as database:
        async with database.acquire() as connection:
            await connection.execute(
                "CREATE TABLE preferences (user_id int PRIMARY KEY, theme text NOT NULL, language text NOT NULL);"
                "INSERT INTO preferences SELECT n, 'light', 'en' FROM generate_series(0, 499) n"
            )
        try:
            yield database
        finally:
            async with database.acquire() as connection:
                await connection.execute("DROP TABLE preferences")


class Loads:
    """A source that counts."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.count = 0

    async def __call__(self, _: str) -> Any:
        self.count += 1
        return self.value


def tiered(
    loads: Loads, redis: Redis, name: str, freshness: Freshness = FRESH, **options: Any
) -> ReadThrough[str, Any]:
    return ReadThrough(name, loads, freshness, redis=RedisTier(redis, name, dict[str, str], timeout=2.0), **options)


def test_what_one_process_has_loaded_the_others_need_not(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with client(redis_server) as redis:
            loads = [Loads({"name": "anna@example.com"}) for _ in range(3)]
            caches = [tiered(each, redis, "users") for each in loads]
            for cache in caches:
                assert await cache.get("anna@example.com") == {"name": "anna@example.com"}
            assert [each.count for each in loads] == [1, 0, 0]
            await caches[0].put("anna@example.com", {"name": "new"})
            assert await tiered(Loads(None), redis, "users").get("anna@example.com") == {"name": "new"}
            await caches[0].drop("anna@example.com")
            assert await caches[0].get("anna@example.com") == {"name": "anna@example.com"}
            assert loads[0].count == 2
            keys = redis_server.keys()
            assert len(keys) == 1
            assert re.fullmatch(rb"nova:cache:users:[0-9a-f]{32}", keys[0])

    asyncio.run(run())


def test_an_answer_is_as_old_in_one_process_as_in_another(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with client(redis_server) as redis:
            freshness = Freshness(ttl=100, stale=100, early=0)
            await tiered(Loads({"a": "1"}), redis, "ages", freshness).get("key")
            stored = redis_server.keys()
            (name,) = [key for key in stored if b"ages" in key]
            redis_server.command("PEXPIRE", name, 130_000)  # it was loaded 70 s ago
            now = 1000.0
            loads = Loads({"a": "2"})
            other = tiered(loads, redis, "ages", freshness, clock=lambda: now)
            assert await other.get("key") == {"a": "1"}
            now = 1029.0
            assert (await other.get("key"), loads.count) == ({"a": "1"}, 0)
            redis_server.command("PEXPIRE", name, 99_000)
            now = 1031.0  # 101 s old: served, and loaded behind it
            assert await other.get("key") == {"a": "1"}
            await eventually(other, {"a": "2"})

    asyncio.run(run())


def test_of_several_processes_one_loads_anew(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with client(redis_server) as redis:
            now = 1000.0
            loads = [Loads({"a": "1"}), Loads({"a": "2"}), Loads({"a": "3"})]
            caches = [tiered(each, redis, "anew", clock=lambda: now) for each in loads]
            for cache in caches:
                assert await cache.get("key") == {"a": "1"}
            stored = redis_server.keys()
            (name,) = [key for key in stored if b"anew" in key]
            redis_server.command("PEXPIRE", name, 59_000)  # it is 61 s old, in Redis as well
            now = 1061.0
            assert await caches[1].get("key") == {"a": "1"}
            await eventually(caches[1], {"a": "2"})
            for cache in (caches[0], caches[2]):
                assert await cache.get("key") == {"a": "1"}
                await eventually(cache, {"a": "2"})
            assert [each.count for each in loads] == [1, 1, 0]

    asyncio.run(run())


def test_a_redis_that_did_not_hear_of_a_change_is_not_believed(tmp_path: Path) -> None:
    async def run() -> None:
        server = RedisServer(tmp_path)
        try:
            async with client(server) as redis:
                now = 1000.0
                loads = Loads({"a": "old"})
                cache = tiered(loads, redis, "users", clock=lambda: now)
                assert await cache.get("key") == {"a": "old"}
                loads.value = {"a": "new"}
                await asyncio.to_thread(server.stop)
                await cache.drop("key")
                await asyncio.to_thread(server.start)
                tier = cache._redis
                assert tier is not None
                server.command("SET", tier.key("key"), b'{"a":"old"}', "PX", 100_000)
                now += 3
                assert await cache.get("key") == {"a": "new"}
                assert await tiered(Loads(None), redis, "users").get("key") == {"a": "new"}  # now Redis has it, too
        finally:
            server.stop()

    asyncio.run(run())


class LateTier(RedisTier):
    """One to which what is put first comes late, and then all the same, as it does by a connection that is slow."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client, "late", dict[str, str], timeout=2.0)
        self.asked, self.there = asyncio.Event(), asyncio.Event()
        self.goes, self.answers = asyncio.Event(), asyncio.Event()

    async def put(self, key: Any, value: Any, freshness: Freshness, now: float) -> bool:
        if self.asked.is_set():
            return await super().put(key, value, freshness, now)
        self.asked.set()
        await self.goes.wait()
        done = await super().put(key, value, freshness, now)
        self.there.set()
        await self.answers.wait()
        return done


def test_what_is_dropped_while_redis_is_told_of_it_does_not_come_back_from_there(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with client(redis_server) as redis:
            loads, tier = Loads({"a": "old"}), LateTier(redis)
            cache = ReadThrough("late", loads, FRESH, redis=tier)
            early = asyncio.create_task(cache.get("key"))
            await tier.asked.wait()
            loads.value = {"a": "new"}
            await cache.drop("key")
            tier.goes.set()
            await tier.there.wait()
            assert await cache.get("key") == {"a": "new"}
            tier.answers.set()
            assert await early == {"a": "old"}
            assert await tiered(Loads({"a": "newest"}), redis, "late").get("key") != {"a": "old"}

    asyncio.run(run())


async def eventually(cache: ReadThrough[str, Any], expected: Any) -> None:
    async with asyncio.timeout(10 * CROWD):
        while True:
            if await cache.get("key") == expected:
                return
            await asyncio.sleep(0.01)


def test_what_is_missing_and_what_cannot_be_read_is_known(redis_server: RedisServer) -> None:
    async def run() -> None:
        async with client(redis_server) as redis:
            assert await tiered(Loads(None), redis, "odd").get("nobody") is None
            other = Loads({"a": "b"})
            assert await tiered(other, redis, "odd").get("nobody") is None
            assert other.count == 0
            await tiered(Loads({"a": "b"}), redis, "odd").get("somebody")
            stored = redis_server.keys()
            for key in stored:
                redis_server.command("SET", key, b"\xffnonsense", "PX", 60_000)
            assert await tiered(other, redis, "odd").get("somebody") == {"a": "b"}
            assert other.count == 1

    asyncio.run(run())


def test_without_redis_everything_works_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        server = RedisServer(tmp_path)
        try:
            async with client(server) as redis:
                now = 1000.0
                loads = Loads({"a": "b"})
                cache = tiered(loads, redis, "users", clock=lambda: now)
                assert await cache.get("1") == {"a": "b"}
                await asyncio.to_thread(server.stop)
                for number in range(2, 50):
                    assert await cache.get(str(number)) == {"a": "b"}
                tier = cache._redis
                assert tier is not None
                assert tier.failures == 1  # then it was left alone
                await asyncio.to_thread(server.start)
                now += 3
                assert await cache.get("50") == {"a": "b"}
                assert len(server.keys()) == 1
        finally:
            server.stop()

    asyncio.run(run())


def test_preferences_are_read_by_a_twentieth(postgres: Postgres) -> None:
    """Ten thousand requests of 500 users, some far more often than others; each reads preferences, one in fifty
    changes them. PostgreSQL counts what it reads of the table, and has the last choice of everybody at the end."""

    async def run() -> None:
        scope = examples()
        random = Random(4)
        async with shop(postgres) as database:
            before = await scans(database)
            cache = scope["preferences"](database)
            chosen: dict[int, str] = {}
            changes = requests = 0
            async with WriteBack(cache, scope["saving"](database), flush_after=0.2) as store:
                for _ in range(10_000):
                    requests += 1
                    user = min(499, int(random.paretovariate(0.9)) - 1)
                    found = await store.get(user)
                    assert found.theme == chosen.get(user, "light")
                    if requests % 50 == 0:
                        chosen[user] = f"theme {requests}"
                        changes += 1
                        store.set(user, scope["Preferences"](theme=chosen[user]))
            assert requests == 10_000
            assert cache.loads <= 500
            assert 1 - cache.loads / requests >= 0.95
            assert (await scans(database)) - before < 500 + changes  # upserts look each row up as well
            async with database.acquire() as connection:
                rows = await connection.fetch("SELECT user_id, theme FROM preferences WHERE theme <> 'light'")
            assert {row["user_id"]: row["theme"] for row in rows} == chosen

    asyncio.run(run())


async def scans(database: Database) -> int:
    async with database.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        found = await connection.fetchval(
            "SELECT coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'preferences'"
        )
        return int(found)


def test_changes_survive_a_database_that_is_gone_for_a_while() -> None:
    async def run() -> None:
        server = Postgres(synchronous_commit="on")  # its tables are to survive it
        try:
            scope = examples()
            async with shop(server) as database:
                async with WriteBack(
                    scope["preferences"](database), scope["saving"](database), flush_after=0.05
                ) as store:
                    await asyncio.to_thread(server.stop)
                    store.set(7, scope["Preferences"](theme="dark"))
                    with pytest.raises(OSError):  # noqa: PT011  # what the kernel says of a port that nobody has
                        await store.flush()
                    assert (await store.get(7)).theme == "dark"
                    await asyncio.to_thread(server.start)
                async with database.acquire() as connection:
                    assert await connection.fetchval("SELECT theme FROM preferences WHERE user_id = 7") == "dark"
        finally:
            server.close()

    asyncio.run(run())


def test_what_the_database_never_takes_is_handed_back(postgres: Postgres) -> None:
    async def run() -> None:
        scope = examples()
        told: dict[int, Any] = {}
        async with shop(postgres) as database:

            async def work() -> None:
                save = scope["saving"](database)
                cache = scope["preferences"](database)
                async with WriteBack(cache, save, close_within=0.2, on_unsaved=told.update) as store:
                    store.set(7, scope["Preferences"](theme=None))  # NOT NULL

            with pytest.raises(UnsavedError):
                await work()
            assert list(told) == [7]

    asyncio.run(run())


def examples() -> dict[str, Any]:
    """What the page's code defines."""
    scope: dict[str, Any] = {"__name__": "examples"}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "data-cache.md").read_text(), re.DOTALL):
        exec(code, scope)
    return scope


def test_the_examples_in_the_docs_work(postgres: Postgres, redis_server: RedisServer) -> None:
    async def run() -> None:
        scope = examples()
        async with shop(postgres) as database, client(redis_server) as redis:
            assert (await scope["choose"](database, 7)).theme == "dark"
            cache = scope["preferences"](database, redis)
            assert [(await cache.get(user)) for user in (7, 8)] == [
                scope["Preferences"](theme="dark"),
                scope["Preferences"](),
            ]
            assert await cache.get(777) is None

    asyncio.run(run())
