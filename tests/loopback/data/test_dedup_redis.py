"""Keys in Redis: claimed, confirmed, given back; and what becomes of them when Redis or a process dies in between."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.metrics import DedupMetrics
from nova_data.dedup.redis import RedisKeys
from nova_data.errors import ClaimedError, DedupStoreError
from tests.crowd import CROWD
from tests.loopback.support.redisservers import HOST, Server

Work = Callable[[Redis], Awaitable[None]]
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def clean(server: Server) -> None:
    server.command("FLUSHALL")


def run(server: Server, work: Work) -> None:
    async def all_of_it() -> None:
        async with Redis(host=HOST, port=server.port) as client:
            await work(client)

    asyncio.run(all_of_it())


class Effects:
    """Counts itself."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


def test_an_effect_takes_place_once_for_a_key_and_a_scope(server: Server) -> None:
    async def work(client: Redis) -> None:
        effect, mails, calls = Effects(), RedisKeys(client, scope="mails"), RedisKeys(client, scope="calls")
        assert [await mails.once("e1", effect) for _ in range(3)] == [True, False, False]
        assert await calls.once("e1", effect)
        assert effect.count == 2
        lifetimes = [await client.pttl(key) for key in await client.keys("nova:dedup:*")]
        assert len(lifetimes) == 2
        assert all(86_300_000 < one <= 86_400_000 for one in lifetimes)

    run(server, work)


def test_while_one_is_at_it_another_is_told_when_to_ask_again(server: Server) -> None:
    async def work(client: Redis) -> None:
        one, two = RedisKeys(client, scope="s", lease=2.0), RedisKeys(client, scope="s", lease=2.0)
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            inside.set()
            await go_on.wait()

        first = asyncio.create_task(one.once("e1", slow))
        await inside.wait()
        with pytest.raises(ClaimedError) as refused:
            await two.once("e1", Effects())
        assert refused.value.retry_after == 0.5
        go_on.set()
        assert await first
        assert not await two.once("e1", Effects())

    run(server, work)


def test_a_claim_is_renewed_while_the_effect_runs(server: Server) -> None:
    async def work(client: Redis) -> None:
        one, two = RedisKeys(client, scope="s", lease=0.3), RedisKeys(client, scope="s", lease=0.3)
        begun, ended = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            begun.set()
            await ended.wait()

        first = asyncio.create_task(one.once("e1", slow))
        await begun.wait()
        (name,) = await client.keys("nova:dedup:*")
        renewed, before = 0, await client.pttl(name)
        async with asyncio.timeout(10 * CROWD):
            while renewed < 4:  # more than the lease is long
                after = await client.pttl(name)
                assert after > 0, "the claim ended under way"
                renewed += after > before
                before = after
                await asyncio.sleep(0.01)
        with pytest.raises(ClaimedError):
            await two.once("e1", Effects())
        ended.set()
        assert await first

    run(server, work)


def test_an_effect_that_fails_gives_the_key_back_at_once(server: Server) -> None:
    async def work(client: Redis) -> None:
        keys = RedisKeys(client, scope="s")

        async def fails() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await keys.once("e1", fails)
        assert await client.keys("*") == []
        never = asyncio.create_task(keys.once("e1", asyncio.Event().wait))
        async with asyncio.timeout(5 * CROWD):
            while not await client.keys("*"):  # noqa: ASYNC110 - what it waits for is in Redis
                await asyncio.sleep(0.01)
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never
        effect = Effects()
        assert await keys.once("e1", effect)
        assert effect.count == 1

    run(server, work)


def test_who_dies_between_claim_and_confirmation_leaves_the_event_to_the_next(server: Server) -> None:
    async def work(client: Redis) -> None:
        dead, alive = RedisKeys(client, scope="s", lease=0.3), RedisKeys(client, scope="s", lease=0.3)
        effect = Effects()
        assert await dead.once("other", Effects())
        (key,) = await client.keys("nova:dedup:s:*")
        await client.set(key, b"of a process that is gone", px=300)  # what a claim of a killed process looks like
        with pytest.raises(ClaimedError):
            await alive.once("other", effect)
        async with asyncio.timeout(5 * CROWD):
            while True:
                try:
                    assert await alive.once("other", effect)
                    break
                except ClaimedError as error:
                    await asyncio.sleep(error.retry_after)
        assert effect.count == 1

    run(server, work)


def test_a_confirmation_that_is_owed_does_not_repeat_the_effect(server: Server) -> None:
    """Redis is killed while an effect is under way, and comes back with what it had."""

    async def work(client: Redis) -> None:
        registry = CollectorRegistry()
        keys, effect = RedisKeys(client, scope="s", metrics=DedupMetrics(registry)), Effects()

        async def kills() -> None:
            await effect()
            await asyncio.to_thread(server.stop)

        with pytest.raises(DedupStoreError, match="Redis with the keys: "):
            await keys.once("e1", kills)
        assert repr(keys) == "<RedisKeys s owed=1>"
        with pytest.raises(DedupStoreError):
            await keys.once("e1", effect)  # the event comes again while Redis is away
        await asyncio.to_thread(server.start)
        assert await keys.once("e1", effect)
        assert effect.count == 1
        assert not await keys.once("e1", effect)
        assert repr(keys) == "<RedisKeys s owed=0>"
        assert registry.get_sample_value("nova_dedup_keys_total", {"scope": "s", "result": "first"}) == 1
        assert registry.get_sample_value("nova_dedup_keys_total", {"scope": "s", "result": "overtaken"}) == 0

    run(server, work)


class Losing:
    """A client whose answer to the next claim gets lost on its way, when Redis has done what it was asked for."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._loses = True

    async def execute_command(self, command: str, *words: Any) -> Any:
        answer = await self._client.execute_command(command, *words)
        if command == "SET" and self._loses:
            self._loses = False
            raise TimeoutError
        return answer


def test_a_claim_whose_answer_was_lost_is_gone_on_with(server: Server) -> None:
    async def work(client: Redis) -> None:
        keys, effect = RedisKeys(Losing(client), scope="s"), Effects()
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            await effect()
            inside.set()
            await go_on.wait()

        with pytest.raises(DedupStoreError):
            await keys.once("e1", effect)
        with pytest.raises(ClaimedError):
            await RedisKeys(client, scope="s").once("e1", effect)  # to another process it is a claim as any other
        first = asyncio.create_task(keys.once("e1", slow))
        async with asyncio.timeout(5 * CROWD):
            await inside.wait()
        with pytest.raises(ClaimedError):
            await keys.once("e1", effect)
        go_on.set()
        assert await first
        assert not await keys.once("e1", effect)
        assert effect.count == 1

    run(server, work)


def test_a_claim_whose_answer_was_lost_may_be_somebody_elses_by_now(server: Server) -> None:
    async def work(client: Redis) -> None:
        keys, effect = RedisKeys(Losing(client), scope="s"), Effects()
        with pytest.raises(DedupStoreError):
            await keys.once("e1", effect)
        (name,) = await client.keys("*")
        await client.set(name, b"of another process, since the lease was over")
        with pytest.raises(ClaimedError):
            await keys.once("e1", effect)
        await client.set(name, b"done")
        assert not await keys.once("e1", effect)
        assert effect.count == 0

    run(server, work)


def test_who_is_overtaken_says_so(server: Server) -> None:
    async def work(client: Redis) -> None:
        registry = CollectorRegistry()
        keys = RedisKeys(client, scope="s", metrics=DedupMetrics(registry))

        async def stops() -> None:
            (name,) = await client.keys("*")
            await client.set(name, b"another one's claim")

        assert await keys.once("e1", stops)
        assert registry.get_sample_value("nova_dedup_keys_total", {"scope": "s", "result": "overtaken"}) == 1
        assert await client.get((await client.keys("*"))[0]) == b"another one's claim"

    run(server, work)


def test_the_filter_spares_a_claim_for_what_was_seen(server: Server) -> None:
    async def work(client: Redis) -> None:
        keys = RedisKeys(client, scope="s", recent=RecentKeys(100))
        effect = Effects()
        assert await keys.once("e1", effect)
        await client.config_resetstat()
        assert not await keys.once("e1", effect)
        stats = await client.info("commandstats")
        assert "cmdstat_set" not in stats
        assert stats["cmdstat_get"]["calls"] == 1
        assert effect.count == 1

    run(server, work)


@pytest.mark.parametrize(("lease", "lifetime"), [(0.0, 10.0), (11.0, 10.0)])
def test_a_lease_is_no_longer_than_the_lifetime(lease: float, lifetime: float) -> None:
    with pytest.raises(ValueError, match="lease: expected"):
        RedisKeys(None, scope="s", lease=lease, lifetime=lifetime)
