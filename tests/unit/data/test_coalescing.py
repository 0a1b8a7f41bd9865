import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nova_data.calls.coalescing import Coalescer, coalesced
from nova_data.errors import CallTimeoutError, DataError


class Work:
    """Work that is done when it is told."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.result: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.result)
        finally:
            self.ended += 1


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_calls_of_one_key_share_the_work_and_others_do_not() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        work, other = Work(), Work()
        tasks = [asyncio.create_task(calls.call("a", work)) for _ in range(10)]
        tasks += [asyncio.create_task(calls.call("b", other))]
        await turns()
        assert (work.begun, other.begun, len(calls)) == (1, 1, 2)
        work.result.set_result("answer")
        other.result.set_result("another")
        assert await asyncio.gather(*tasks) == ["answer"] * 10 + ["another"]
        assert repr(calls) == "<Coalescer flights=0 led=2 followed=9>"

    asyncio.run(run())


def test_nothing_is_kept_once_the_work_is_done() -> None:
    async def run() -> None:
        calls: Coalescer[int] = Coalescer()
        numbers = iter(range(10))

        async def work() -> int:
            return next(numbers)

        assert [await calls.call("a", work) for _ in range(3)] == [0, 1, 2]

    asyncio.run(run())


@pytest.mark.parametrize("leaver", [0, 1, 4])
def test_who_leaves_leaves_alone_the_leader_too(leaver: int) -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        work = Work()
        tasks = [asyncio.create_task(calls.call("a", work)) for _ in range(5)]
        await turns()
        tasks[leaver].cancel()
        await turns()
        work.result.set_result("answer")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(leaver), asyncio.CancelledError)
        assert results == ["answer"] * 4
        assert work.begun == 1

    asyncio.run(run())


def test_work_that_nobody_wants_any_more_is_ended_and_nobody_follows_it() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        work, second = Work(), Work()
        tasks = [asyncio.create_task(calls.call("a", work)) for _ in range(3)]
        await turns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        late = asyncio.create_task(calls.call("a", second))
        await turns()
        assert (work.ended, second.begun) == (1, 1)
        second.result.set_result("new")
        assert await late == "new"

    asyncio.run(run())


def test_an_error_is_everybodys_and_its_traceback_does_not_grow() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        work = Work()
        tasks = [asyncio.create_task(calls.call("a", work)) for _ in range(50)]
        await turns()
        work.result.set_exception(ZeroDivisionError("broken"))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {str(each) for each in results} == {"broken"}
        depth, trace = 0, results[-1].__traceback__ if isinstance(results[-1], BaseException) else None
        while trace is not None:
            depth, trace = depth + 1, trace.tb_next
        assert depth < 10
        assert work.begun == 1

    asyncio.run(run())


def test_work_that_hangs_ends_for_all() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer(timeout=0.01)
        tasks = [asyncio.create_task(calls.call("a", Work())) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [CallTimeoutError] * 3
        assert isinstance(results[0], TimeoutError)
        assert isinstance(results[0], DataError)
        assert str(results[0]) == "a shared call took more than 0.01 s"

    asyncio.run(run())


def test_a_timeout_of_the_work_is_its_own() -> None:
    async def run() -> None:
        async def work() -> str:
            raise TimeoutError("the warehouse's")

        with pytest.raises(TimeoutError, match="the warehouse's") as caught:
            await Coalescer[str]().call("a", work)
        assert not isinstance(caught.value, CallTimeoutError)

    asyncio.run(run())


def test_who_comes_after_a_change_begins_anew() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        old, new = Work(), Work()
        first = asyncio.create_task(calls.call("a", old))
        await turns()
        calls.forget("a")
        second = asyncio.create_task(calls.call("a", new))
        await turns()
        old.result.set_result("old")
        new.result.set_result("new")
        assert (await first, await second) == ("old", "new")
        assert len(calls) == 0

    asyncio.run(run())


def test_a_function_shares_its_calls_by_its_arguments() -> None:
    async def run() -> None:
        begun: list[tuple[str, int]] = []
        go = asyncio.Event()

        @coalesced(lambda table, day: (table, day))
        async def total(table: str, day: int) -> str:
            begun.append((table, day))
            await go.wait()
            return f"{table} {day}"

        made: list[Callable[[], Awaitable[str]]] = [lambda: total("sales", 1), lambda: total("sales", 2)] * 2
        tasks = [asyncio.ensure_future(each()) for each in made]
        await turns()
        go.set()
        assert await asyncio.gather(*tasks) == ["sales 1", "sales 2"] * 2
        assert begun == [("sales", 1), ("sales", 2)]

    asyncio.run(run())


def test_a_timeout_is_above_0() -> None:
    with pytest.raises(ValueError, match="timeout: expected"):
        Coalescer(timeout=0)


def test_work_that_somebody_else_ends_is_no_cancellation_of_those_who_wait() -> None:
    async def run() -> None:
        calls: Coalescer[str] = Coalescer()
        tasks = [asyncio.create_task(calls.call("a", Work())) for _ in range(2)]
        await turns()
        (work,) = asyncio.all_tasks() - {*tasks, asyncio.current_task()}
        work.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(each) for each in results] == ["a shared call was ended"] * 2

    asyncio.run(run())
