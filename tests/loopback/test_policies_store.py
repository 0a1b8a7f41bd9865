"""The Redis that request policies share: kept over reloads, exchanged when its settings change, and its scripts."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nova_api.policies import AccessLogPolicy
from nova_api.proxy import Store
from nova_api.units import Duration
from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.store.guarded import GuardedStore
from nova_sidecar.store.port import StoreError

from .support.redisservers import HOST, Server
from .support.sidecar import document, inbound

TAKE = "return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def settings(server: Server, timeout: float = 1.0) -> Store:
    return Store(url=f"redis://{HOST}:{server.port}/0", timeout=Duration(timeout))


@asynccontextmanager
async def proxy(store: Store | None) -> Any:
    one: Any = Proxy(_document(store), resolver=None, access_log=None, rng=Random(1))  # type: ignore[arg-type]  # unasked
    await one.start()
    try:
        yield one
    finally:
        await one.close()


def _document(store: Store | None) -> Any:
    return document(inbound(("127.0.0.1", 1)), store=store, access_log=AccessLogPolicy(mode="Off"))


def of(one: Any) -> GuardedStore | None:
    store: GuardedStore | None = one._shared.store
    return store


def test_it_outlives_reloads_that_keep_its_settings(redis: Server) -> None:
    async def scene() -> None:
        async with proxy(settings(redis)) as one:
            first = of(one)
            assert first is not None
            await first.put("a", b"1", 60)
            assert one.snapshot(0.0)["policies"]["store"]["calls"]["ok"] == 1
            await one.apply(_document(settings(redis)))
            assert of(one) is first
            await one.apply(_document(settings(redis, timeout=2.0)))
            second = of(one)
            assert second is not None
            assert second is not first
            assert await second.get("a") == b"1"
            await second.delete("a")
            assert await second.get("a") is None
            await asyncio.gather(*one._finishing)
            with pytest.raises(StoreError):
                await first.get("a")
            await one.apply(_document(None))
            assert of(one) is None
            assert one.snapshot(0.0)["policies"]["store"] == {}

    asyncio.run(scene())


def test_a_script_is_one_step_and_survives_that_the_server_forgets_it(redis: Server) -> None:
    async def scene() -> None:
        async with proxy(settings(redis)) as one:
            store = of(one)
            assert store is not None
            answers = await asyncio.gather(*(store.run(TAKE, ("n",), (1, b"x")) for _ in range(20)))
            assert sorted(count for count, _ in answers) == list(range(1, 21))
            assert {echo for _, echo in answers} == {b"x"}
            redis.command("SCRIPT", "FLUSH")
            assert await store.run(TAKE, ("n",), (5, b"y")) == [25, b"y"]
            with pytest.raises(StoreError, match="Redis: ResponseError"):
                await store.run("return redis.call('INCR', KEYS[1], 'too', 'many')", ("n",), ())

    asyncio.run(scene())


def test_the_sidecar_goes_on_without_it(redis: Server) -> None:
    async def scene() -> None:
        async with proxy(settings(redis, timeout=0.2)) as one:
            store = of(one)
            assert store is not None
            redis.stop()
            for _ in range(3):
                with pytest.raises(StoreError):
                    await store.get("a")
            with pytest.raises(StoreError, match="left alone for a while"):
                await store.get("a")
            assert not store.admits(one._clock())

    asyncio.run(scene())
