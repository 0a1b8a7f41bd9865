import asyncio
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.calls.batching import Batcher, by_key
from nova_data.calls.window import Window
from nova_data.errors import CallTimeoutError, NotLoadedError
from tests.crowd import CROWD

# --- the window


@given(
    length=st.floats(0, 1),
    most=st.integers(1, 5),
    steps=st.lists(
        st.tuples(st.floats(0, 0.5), st.sampled_from(["add", "add", "drop"]), st.integers(0, 8)), max_size=80
    ),
)
def test_each_key_goes_once_in_order_within_its_window(
    length: float, most: int, steps: list[tuple[float, str, int]]
) -> None:
    window: Window[int] = Window(length, most)
    now, wanted, opened = 0.0, {}, inf  # type: float, dict[int, int], float
    for pause, step, key in steps:
        now += pause
        if window.due <= now:
            assert window.take() == list(wanted)
            wanted = {}
        batch: list[int] = []
        if step == "add":
            opened = opened if wanted else now
            wanted[key] = wanted.get(key, 0) + 1
            batch = window.add(key, now)
        else:
            wanted[key] = wanted.get(key, 0) - 1
            if wanted[key] <= 0:
                del wanted[key]
            window.drop(key)
        assert bool(batch) == (len(wanted) == most)
        if batch:
            assert batch == list(wanted)
            wanted = {}
        assert len(window) == len(wanted) < most
        assert window.due == (opened + length if wanted else inf)


@pytest.mark.parametrize(("length", "most", "field"), [(-1, 1, "window"), (inf, 1, "window"), (0, 0, "most")])
def test_a_window_that_cannot_be_names_the_field(length: float, most: int, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        Window(length, most)


# --- the batcher


class Loader:
    """Squares numbers, a batch at a time, and remembers the batches."""

    def __init__(self, answer: Callable[[Sequence[int]], Any] = lambda keys: {key: key * key for key in keys}) -> None:
        self.batches: list[list[int]] = []
        self._answer = answer

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int | Exception] | Sequence[int | Exception]:
        self.batches.append(list(keys))
        await asyncio.sleep(0)
        answer: Mapping[int, int | Exception] = self._answer(keys)
        return answer


def test_loads_of_a_moment_are_one_call_in_their_order() -> None:
    async def run() -> None:
        loader = Loader()
        squares = Batcher(loader)
        assert await asyncio.gather(*(squares.load(key) for key in (3, 1, 3, 2, 1))) == [9, 1, 9, 4, 1]
        assert loader.batches == [[3, 1, 2]]
        assert repr(squares) == "<Batcher waiting=0 loads=5 calls=1>"
        assert await squares.load(3) == 9  # nothing is kept
        assert loader.batches == [[3, 1, 2], [3]]

    asyncio.run(run())


def test_a_full_batch_does_not_wait() -> None:
    async def run() -> None:
        loader = Loader()
        squares = Batcher(loader, most=10, window=60)
        assert await squares.load_all(range(20)) == [key * key for key in range(20)]
        assert loader.batches == [list(range(10)), list(range(10, 20))]

    asyncio.run(run())


def test_a_call_whose_own_call_was_cancelled_leaves_nobody_waiting() -> None:
    async def run() -> None:
        def cancelled(_keys: Sequence[int]) -> Any:
            raise asyncio.CancelledError

        squares = Batcher(Loader(cancelled))
        async with asyncio.timeout(5):
            results = await asyncio.gather(squares.load(1), squares.load(2), return_exceptions=True)
        assert [type(result) for result in results] == [CallTimeoutError] * 2

    asyncio.run(run())


def test_a_sequence_is_taken_in_the_order_of_the_keys() -> None:
    async def run() -> None:
        squares = Batcher(Loader(lambda keys: [key * key for key in keys]))
        assert await squares.load_all([2, 1]) == [4, 1]

    asyncio.run(run())


def test_the_error_of_a_key_is_its_own() -> None:
    async def run() -> None:
        squares = Batcher(Loader(lambda keys: {key: ZeroDivisionError() if key == 2 else key for key in keys}))
        results = await asyncio.gather(*(squares.load(key) for key in (1, 2, 3)), return_exceptions=True)
        assert [type(each) for each in results] == [int, ZeroDivisionError, int]
        with pytest.raises(ZeroDivisionError):
            await squares.load_all([1, 2])

    asyncio.run(run())


def test_a_key_without_a_value_is_an_error_or_what_stands_for_it() -> None:
    async def run() -> None:
        with pytest.raises(NotLoadedError, match="no value for this key"):
            await Batcher(Loader(lambda _: {})).load(7)
        assert await Batcher(Loader(lambda _: {}), missing=None).load(7) is None

    asyncio.run(run())


@pytest.mark.parametrize("found", [[], [1, 2], "a", 7, None])
def test_what_fits_no_keys_is_an_error_for_all(found: Any) -> None:
    with pytest.raises(TypeError, match="load_many: expected a mapping, or a sequence of 1 value"):
        by_key([1], found)

    async def run() -> None:
        with pytest.raises(TypeError, match="load_many"):
            await Batcher(Loader(lambda _: found)).load(7)

    asyncio.run(run())


def test_the_error_of_a_call_is_everybodys_in_it_and_the_next_batch_is_another_one() -> None:
    async def run() -> None:
        def answer(keys: Sequence[int]) -> Any:
            if 1 in keys:
                raise ConnectionError
            return {key: key for key in keys}

        squares = Batcher(Loader(answer), most=2)
        results = await asyncio.gather(*(squares.load(key) for key in (1, 2, 3, 4)), return_exceptions=True)
        assert [type(each) for each in results] == [ConnectionError, ConnectionError, int, int]

    asyncio.run(run())


def test_a_call_that_hangs_ends() -> None:
    async def run() -> None:
        async def hang(_: Sequence[int]) -> dict[int, int]:
            await asyncio.Event().wait()
            return {}

        with pytest.raises(CallTimeoutError):
            await Batcher(hang, timeout=0.01, window=0).load(1)

    asyncio.run(run())


def test_who_is_cancelled_leaves_alone_and_its_key_is_not_loaded() -> None:
    async def run() -> None:
        loader = Loader()
        squares = Batcher(loader, window=0.1)
        tasks = [asyncio.create_task(squares.load(key)) for key in (1, 2, 2, 3)]
        await asyncio.sleep(0)
        for leaver in (tasks[0], tasks[1]):
            leaver.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[2:] == [4, 9]
        assert loader.batches == [[2, 3]]

    asyncio.run(run())


def test_a_call_that_nobody_waits_for_is_ended() -> None:
    async def run() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def hang(_: Sequence[int]) -> dict[int, int]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return {}

        squares = Batcher(hang, window=0)
        task = asyncio.create_task(squares.load(1))
        await begun.wait()
        task.cancel()
        async with asyncio.timeout(5 * CROWD):
            await ended.wait()

    asyncio.run(run())


def test_what_is_remembered_is_loaded_once_until_it_changes_and_errors_are_not() -> None:
    async def run() -> None:
        loader = Loader(lambda keys: {key: ZeroDivisionError() if key == 2 else key for key in keys})
        squares = Batcher(loader, remember=True, window=0)
        for _ in range(2):
            assert await squares.load(1) == 1
            with pytest.raises(ZeroDivisionError):
                await squares.load(2)
        assert loader.batches == [[1], [2], [2]]
        squares.forget(1)
        assert await squares.load(1) == 1
        assert loader.batches[-1] == [1]

    asyncio.run(run())
