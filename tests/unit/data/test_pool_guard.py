"""The guard around pools of the standard library; real ones are in tests/loopback/data."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from nova_data.errors import DataError, PoolExhaustedError
from nova_data.pool_guard import PoolGuard
from nova_data.pool_metrics import PoolMetrics


class Pool:
    """A queue of connections."""

    def __init__(self, size: int) -> None:
        self.free: asyncio.Queue[int] = asyncio.Queue()
        for number in range(size):
            self.free.put_nowait(number)

    async def get(self) -> int:
        return await self.free.get()

    def put(self, connection: int) -> None:
        self.free.put_nowait(connection)

    async def put_later(self, connection: int) -> None:
        await asyncio.sleep(0)
        self.free.put_nowait(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[int, None]:
        taken = await self.free.get()
        try:
            yield taken
        finally:
            self.free.put_nowait(taken)


@pytest.mark.parametrize("form", ["calls", "awaited calls", "context"])
def test_a_connection_is_taken_and_given_back(form: str) -> None:
    async def run() -> None:
        pool = Pool(2)
        if form == "context":
            guard = PoolGuard("main", size=2, connect=pool.connection)
        else:
            release = pool.put if form == "calls" else pool.put_later
            guard = PoolGuard("main", size=2, acquire=pool.get, release=release)
        async with guard.acquire() as connection:
            assert connection == 0
            assert (guard.gate.held, pool.free.qsize()) == (1, 1)
        assert (guard.gate.used, pool.free.qsize()) == (0, 2)
        assert repr(guard) == "<PoolGuard main <PoolGate open held=0 asking=0 size=2>>"

    asyncio.run(run())


def test_a_guard_without_a_pool_gives_places() -> None:
    async def run() -> None:
        guard: PoolGuard[None] = PoolGuard("search", size=1)
        async with guard.acquire() as nothing:
            assert nothing is None
            with pytest.raises(PoolExhaustedError):
                async with guard.acquire():
                    raise AssertionError

    asyncio.run(run())


def test_above_the_threshold_the_pool_is_not_asked() -> None:
    async def run() -> None:
        pool, metrics = Pool(1), (registry := CollectorRegistry(), PoolMetrics(registry))[1]
        guard = PoolGuard("main", size=1, acquire=pool.get, release=pool.put, metrics=metrics)
        async with guard.acquire():
            with pytest.raises(PoolExhaustedError, match="is used beyond its threshold") as caught:
                async with guard.acquire():
                    raise AssertionError
            assert registry.get_sample_value("db_pool_utilization_ratio", {"pool": "main"}) == 1.0
        assert isinstance(caught.value, DataError)
        assert (caught.value.pool, caught.value.cause, caught.value.retry_after) == ("main", "threshold", 1.0)
        assert registry.get_sample_value("db_pool_exhausted_total", {"pool": "main", "cause": "threshold"}) == 1.0
        assert registry.get_sample_value("db_pool_exhausted_total", {"pool": "main", "cause": "timeout"}) == 0.0
        assert registry.get_sample_value("db_pool_utilization_ratio", {"pool": "main"}) == 0.0
        guard.close()
        assert registry.get_sample_value("db_pool_utilization_ratio", {"pool": "main"}) is None

    asyncio.run(run())


def test_a_wait_ends_in_time_and_counts() -> None:
    async def run() -> None:
        pool = Pool(0)
        guard = PoolGuard("main", size=5, acquire=pool.get, release=pool.put, wait=0.01)
        with pytest.raises(PoolExhaustedError, match="gave no connection in time") as caught:
            async with guard.acquire():
                raise AssertionError
        assert (caught.value.cause, guard.gate.used) == ("timeout", 0)
        assert guard.gate.exhausted == {"threshold": 0, "timeout": 1}
        pool.put(7)
        async with guard.acquire() as connection:  # who waited in vain has taken nothing with it
            assert connection == 7

    asyncio.run(run())


def test_at_a_threshold_of_one_requests_wait_for_their_turn() -> None:
    async def run() -> None:
        pool = Pool(1)
        guard = PoolGuard("main", size=1, threshold=1.0, acquire=pool.get, release=pool.put)
        order: list[int] = []

        async def work(number: int) -> None:
            async with guard.acquire():
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(number) for number in range(20)))
        assert order == list(range(20))
        assert guard.gate.exhausted == {"threshold": 0, "timeout": 0}

    asyncio.run(run())


def test_who_is_cancelled_while_it_waits_leaves_nothing() -> None:
    async def run() -> None:
        pool = Pool(0)
        guard = PoolGuard("main", size=5, acquire=pool.get, release=pool.put)

        async def work() -> None:
            async with guard.acquire():
                raise AssertionError

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert guard.gate.asking == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert guard.gate.used == 0
        assert guard.gate.exhausted == {"threshold": 0, "timeout": 0}

    asyncio.run(run())


def test_who_is_cancelled_at_work_gives_back() -> None:
    async def run() -> None:
        pool = Pool(1)
        guard = PoolGuard("main", size=1, acquire=pool.get, release=pool.put_later)
        working = asyncio.Event()

        async def work() -> None:
            async with guard.acquire():
                working.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (guard.gate.used, pool.free.qsize()) == (0, 1)

    asyncio.run(run())


class BrokenError(Exception):
    """What a driver raises."""


def test_errors_of_the_pool_pass_through_and_are_no_exhaustion() -> None:
    async def run(error: type[Exception]) -> None:
        async def broken() -> int:
            raise error

        guard = PoolGuard("main", size=5, acquire=broken, release=lambda _: None)
        with pytest.raises(error):
            async with guard.acquire():
                raise AssertionError
        assert guard.gate.used == 0
        assert guard.gate.exhausted == {"threshold": 0, "timeout": 0}

    for error in (BrokenError, TimeoutError, OSError):
        asyncio.run(run(error))


def test_a_release_that_fails_does_not_keep_the_place() -> None:
    async def run() -> None:
        def broken(_: int) -> None:
            raise BrokenError

        guard = PoolGuard("main", size=5, acquire=Pool(1).get, release=broken)
        with pytest.raises(BrokenError):
            async with guard.acquire():
                pass
        assert guard.gate.used == 0

    asyncio.run(run())


def test_a_context_sees_how_the_block_ended() -> None:
    async def run() -> None:
        seen: list[BaseException | None] = []

        @asynccontextmanager
        async def transaction() -> AsyncGenerator[int, None]:
            try:
                yield 1
            except BrokenError as error:
                seen.append(error)
                raise

        guard = PoolGuard("main", size=5, connect=transaction)
        with pytest.raises(BrokenError):
            async with guard.acquire():
                raise BrokenError
        assert len(seen) == 1
        assert guard.gate.used == 0

    asyncio.run(run())


def test_whoever_watches_hears_when_it_turns_and_only_then() -> None:
    async def run() -> None:
        heard: list[bool] = []
        guard: PoolGuard[None] = PoolGuard("main", size=2, threshold=0.5)
        guard.on_turn = lambda: heard.append(guard.gate.full)
        async with guard.acquire():
            assert heard == []
            async with guard.acquire():
                assert heard == [True]
        assert heard == [True, False]

    asyncio.run(run())


def test_the_sidecars_threshold_is_followed_unless_the_guard_has_its_own() -> None:
    async def run() -> None:
        follower: PoolGuard[None] = PoolGuard("main", size=10)
        stubborn: PoolGuard[None] = PoolGuard("main", size=10, threshold=0.5)
        assert follower.gate.threshold == 0.85
        for guard in (follower, stubborn):
            guard.follow(1.0)
        assert (follower.gate.threshold, stubborn.gate.threshold) == (1.0, 0.5)
        with pytest.raises(ValueError, match="threshold"):
            follower.follow(7.0)

    asyncio.run(run())


@pytest.mark.parametrize("name", ["", "x" * 33, "main pool", 'ma"in', "päl", "a\n"])
def test_a_name_is_fit_for_a_label(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        PoolGuard(name, size=1)


def test_what_makes_no_guard() -> None:
    pool = Pool(1)
    with pytest.raises(ValueError, match="acquire and release, or connect"):
        PoolGuard("main", size=1, acquire=pool.get)
    with pytest.raises(ValueError, match="acquire and release, or connect"):
        PoolGuard("main", size=1, acquire=pool.get, release=pool.put, connect=pool.connection)
    with pytest.raises(ValueError, match="wait"):
        PoolGuard("main", size=1, wait=-1)
