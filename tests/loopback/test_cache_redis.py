"""The cache's second tier: real Redis servers between sidecars, killed, filled with rubbish, and told to forget."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from nova_api.proxy import Store
from nova_api.request_policies.cache import CachePolicy
from nova_api.units import Duration
from nova_sidecar.store.subscriber import FIRST_WAIT
from nova_sidecar.wire import entries

from .support.inprocess import Bench, bench, run
from .support.redisservers import HOST, Server
from .test_cache import FRESH, desk, later, says


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def fields(url: str, *, timeout: float = 1.0, **policy: Any) -> dict[str, Any]:
    store = Store(url=url, timeout=Duration(timeout))
    return {"store": store, "cache": CachePolicy(**{"mode": "Enforce", "tier": "Redis", **policy})}


def at(server: Server) -> str:
    return f"redis://{HOST}:{server.port}/0"


def entry_keys(server: Server) -> list[bytes]:
    return [key for key in list(server.keys()) if b":entry:" in key]


class Pods:
    """Several sidecars with an app each, over one Redis."""

    def __init__(self, count: int, url: str, *says_what: str, **policy: Any) -> None:
        self._count = count
        self._fields = fields(url, **policy)
        self._says = says_what or (FRESH,)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> list[Bench]:
        made = [
            await self._stack.enter_async_context(bench(says(*self._says), **self._fields)) for _ in range(self._count)
        ]
        for one in made:
            await one.until(lambda one=one: connected(one))  # type: ignore[misc]  # bound now
        return made

    async def __aexit__(self, *why: object) -> None:
        await self._stack.aclose()


def connected(one: Bench) -> bool:
    tier = desk(one).tier
    return tier is not None and tier._subscriber.connected


def joins_in_vain(one: Bench) -> bool:
    """Whether it has tried to join the channel, and could not."""
    tier = desk(one).tier
    return tier is not None and tier._subscriber._wait > FIRST_WAIT


def lookups(one: Bench) -> dict[str, int]:
    tier = desk(one).tier
    assert tier is not None
    return {str(how): count for how, count in tier.counts.items() if count}


async def written(one: Bench, count: int = 1) -> None:
    await one.until(lambda: lookups(one).get("written", 0) >= count)


def test_what_one_pod_has_stored_another_finds(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis), FRESH, "vary: accept") as (one, other):
            await one.get("/item", "accept: a")
            later(one, 20)
            await written(one)
            got = await other.get("/item", "accept: a")
            assert (got.body, got["cache-status"]) in (
                (b"1", 'nova; hit; ttl=59; detail="redis"'),
                (b"1", 'nova; hit; ttl=60; detail="redis"'),
            )
            assert not other.app.asked
            assert (await other.get("/item", "accept: a")).body == b"1"
            assert lookups(other)["hit"] == 1, "and has it itself from then on"
            assert (await other.get("/item", "accept: b")).body == b"1"
            assert len(other.app.asked) == 1, "another variant is another response"
            assert all(key.startswith(b"nova:{default/shop:cache}:") for key in list(redis.keys()))

    run(scene())


def test_an_invalidation_reaches_all_pods(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(3, at(redis)) as pods:
            for one in pods:
                await one.get("/a/1")
                await one.get("/a/2")
                await one.get("/b")
            await written(pods[0], 3)
            await pods[1].get("/a/1", method="POST")
            for one in pods:
                await one.until(lambda one=one: desk(one).responses.names(b"web\napp\t\n/a/1") is None)  # type: ignore[misc]  # as above
                assert (await one.get("/b"))["age"] is not None
            assert (await pods[2].get("/a/1"))["age"] is None, "nor is it found in Redis"
            pods[0].proxy.purge_cache(pattern=b"/a/*")
            for one in pods:
                await one.until(lambda one=one: desk(one).responses.names(b"web\napp\t\n/a/2") is None)  # type: ignore[misc]  # as above
                assert (await one.get("/b"))["age"] is not None

    run(scene())


def test_what_was_under_way_while_it_was_invalidated_is_not_stored_in_redis(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis)) as (one, other):
            hold = asyncio.Event()

            async def handle(asked: Any) -> None:
                await hold.wait()
                asked.answer("200 OK", FRESH, body=b"old")

            one.app.handle = handle
            client = await one.ask()
            await one.app.until(1)
            # the count alone, so that this pod does not hear of it
            redis.command("INCR", "nova:{default/shop:cache}:target:" + sha256(b"/item").hexdigest())
            hold.set()
            assert (await client.answer()).body == b"old"
            await one.until(lambda: lookups(one).get("dropped", 0) == 1)
            assert (await other.get()).body == b"1"

    run(scene())


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"x",
        b"0.0\n",
        b"0.0\nNV1E",
        b"0.0\nNV1N",
        b"0.0\nNV1Nvary:\r\n",
        b"0.0\n" + b"\0" * 200,
        b"0.0\nNV1E" + b"\xff" * 400,
    ],
)
def test_rubbish_in_redis_is_a_miss(redis: Server, rubbish: bytes) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis)) as (one, other):
            await one.get()
            await written(one)
            (key,) = entry_keys(redis)
            redis.command("SET", key, rubbish)
            assert (await other.get()).body == b"1"
            assert len(other.app.asked) == 1

    run(scene())


def test_an_entry_with_a_poisoned_head_is_refused(redis: Server) -> None:
    """Whoever can write to Redis can set bodies, but cannot split responses, frame them anew, or set cookies."""

    async def scene() -> None:
        async with Pods(2, at(redis)) as (one, other):
            await one.get()
            await written(one)
            (key,) = entry_keys(redis)
            stored = next(stored for _, stored in desk(one).responses._entries.items())
            good = stored.head
            for line in (
                b"content-length: 0",
                b"Set-Cookie: a=1",
                b"transfer-encoding: chunked",
                b"a: b\r\n\r\nHTTP/1.1 200 OK",
            ):
                stored.head = good + line + b"\r\n"
                redis.command("SET", key, b"0.0\n" + entries.encode(stored, 0.0, desk(one).wall()))
                got = await other.get()
                assert got["age"] is None
                desk(other).responses.clear()
            assert lookups(other)["refused"] == 4

    run(scene())


def test_an_entry_larger_than_may_be_is_not_fetched(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis)) as (one, other):
            await one.get()
            await written(one)
            (key,) = entry_keys(redis)
            redis.command("SET", key, b"0.0\n" + b"x" * 5_000_000)
            assert (await other.get()).body == b"1"
            assert lookups(other) == {"miss": 1, "written": 1} or lookups(other) == {"miss": 1}

    run(scene())


def test_a_redis_that_is_killed_fails_no_request(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis), timeout=0.3) as (one, other):
            await one.get("/a")
            await written(one)
            redis.stop()
            answers = [await each.get(f"/{number}") for number in range(20) for each in (one, other)]
            assert {answer.status for answer in answers} == {200}
            assert (await one.get("/a"))["age"] is not None, "each has its own"
            await one.until(lambda: not connected(one))
            redis.start()
            await one.until(lambda: connected(one))
            assert len(desk(one).responses) == 0, "what was missed meanwhile is not known: everything is forgotten"

    run(scene(), seconds=90)


@pytest.mark.parametrize("by_hand", [False, True], ids=["by a request", "by hand"])
def test_what_was_invalidated_while_redis_was_away_is_not_taken_from_it_afterwards(
    tmp_path: Path, by_hand: bool
) -> None:
    """It still has it: it keeps what it was told on disk."""
    redis = Server(tmp_path, "--appendonly", "yes")

    async def scene() -> None:
        async with Pods(2, at(redis), timeout=0.3) as (one, other):
            await one.get("/a")
            await written(one)
            redis.stop()
            if by_hand:
                one.proxy.purge_cache(pattern=b"/*")
            else:
                await one.get("/a", method="POST")
            tier = desk(one).tier
            assert tier is not None
            await one.until(lambda: len(tier.owed) == 1)
            redis.start()
            assert len(entry_keys(redis)) == 1
            assert (await one.get("/a"))["age"] is None
            await one.until(lambda: not len(tier.owed))
            assert (await other.get("/a"))["age"] is None

    try:
        run(scene(), seconds=90)
    finally:
        redis.stop()


def test_a_redis_that_comes_later_than_the_pod_makes_everything_be_forgotten(redis: Server) -> None:
    """Pods that had it sooner may have changed something meanwhile."""

    async def scene() -> None:
        redis.stop()
        async with bench(says(FRESH), **fields(at(redis), timeout=0.3)) as one:
            await one.get("/a")
            assert len(desk(one).responses) == 1
            await one.until(lambda: joins_in_vain(one))
            redis.start()
            await one.until(lambda: connected(one))
            assert len(desk(one).responses) == 0

    run(scene(), seconds=90)


def test_a_channel_that_was_cut_off_makes_everything_be_forgotten(redis: Server) -> None:
    """The client connects anew by itself, and what was said meanwhile is lost."""

    async def scene() -> None:
        async with Pods(1, at(redis)) as (one,):
            await one.get("/a")
            await written(one)
            assert len(desk(one).responses) == 1
            assert redis.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            await one.until(lambda: len(desk(one).responses) == 0)
            await one.until(lambda: connected(one))

    run(scene())


def test_who_looks_into_redis_while_it_is_switched_off_is_served(redis: Server) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), **fields(at(redis), timeout=1.0)) as one:
            await one.until(lambda: connected(one))
            redis.command("CLIENT", "PAUSE", "60000")
            client = await one.ask()
            await one.until(lambda: one.proxy.in_flight == 1)
            await one.reload(cache=CachePolicy(mode="Enforce"))
            assert desk(one).tier is None
            got = await client.answer()
            assert (got.status, got.body) == (200, b"1")

    run(scene())


def test_a_response_is_written_with_the_counts_of_its_own_target(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(2, at(redis)) as (one, other):
            await other.get("/a", method="POST")
            await one.until(lambda: bool(redis.keys()))
            hold = asyncio.Event()

            async def handle(asked: Any) -> None:
                if asked.target == "/a":
                    await hold.wait()
                asked.answer("200 OK", FRESH, "etag: 1", body=b"1")

            one.app.handle = handle
            client = await one.ask("/a")
            await one.app.until(1)
            await one.get("/b")
            hold.set()
            await client.answer()
            await written(one, 2)
            later(one, 61)
            await one.get("/a")
            await written(one, 3)
            await one.get("/b")
            await written(one, 4)

    run(scene())


def test_messages_of_others_break_nothing(redis: Server) -> None:
    async def scene() -> None:
        async with Pods(1, at(redis)) as (one,):
            await one.get("/a")
            for message in (b"", b"t", b"x/a", b"p" + b"*" * 50, b"p" + b"a" * 5000, b"t/b", b"\xff\xfe"):
                redis.command("PUBLISH", "nova:{default/shop:cache}:changes", message)
            redis.command("PUBLISH", "nova:{default/shop:cache}:changes", b"t/a")
            await one.until(lambda: len(desk(one).responses) == 0)

    run(scene())


def test_switched_to_redis_and_back_by_reloads(redis: Server) -> None:
    async def scene() -> None:
        async with bench(says(FRESH), cache=CachePolicy(mode="Enforce")) as one:
            await one.get()
            assert desk(one).tier is None
            await one.reload(**fields(at(redis)))
            await one.until(lambda: connected(one))
            assert (await one.get())["age"] is not None
            await one.reload(store=None)
            assert desk(one).tier is None
            assert (await one.get())["age"] is not None

    run(scene())
