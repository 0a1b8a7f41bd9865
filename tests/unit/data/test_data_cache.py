"""What caches decide, and the cache in one process; a real Redis and a real PostgreSQL are in tests/loopback/data."""

import asyncio
from collections.abc import Mapping
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from nova_data.cache.freshness import Entry, Freshness, State
from nova_data.cache.memory import Memory
from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.pending import PAUSES, Pending
from nova_data.cache.read_through import ReadThrough
from nova_data.cache.write_back import WriteBack
from nova_data.errors import UnsavedError, WriteBackFullError
from tests.crowd import CROWD


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What is loaded: by key, a value, None, or an error; a load can be held up."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = values
        self.loaded: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, key: str) -> str | None:
        value = self.values.get(key)
        self.loaded.append(key)
        await self.open.wait()
        if isinstance(value, Exception):
            raise value
        found: str | None = value
        return found


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- freshness


@given(
    ttl=st.floats(0.1, 100),
    stale=st.floats(0, 100),
    negative=st.floats(0, 10),
    age=st.floats(0, 300),
    cost=st.floats(0, 10),
    absent=st.booleans(),
    seed=st.integers(),
)
def test_nothing_is_served_beyond_its_time(
    *, ttl: float, stale: float, negative: float, age: float, cost: float, absent: bool, seed: int
) -> None:
    freshness = Freshness(ttl=ttl, stale=stale, negative_ttl=negative)
    entry = Entry(None if absent else "x", 0.0, cost)
    state = freshness.state(entry, age, Random(seed))
    if absent:
        assert state is (State.FRESH if age < negative else State.GONE)
    else:
        assert (state is State.GONE) == (age >= ttl + stale)
        assert state is not State.FRESH or age < ttl
        if not cost and age < ttl:
            assert state is State.FRESH


def test_a_load_that_takes_long_begins_before_the_end_and_mostly_in_one_place() -> None:
    freshness, random = Freshness(ttl=60, stale=10), Random(7)

    def share(age: float, cost: float) -> float:
        entry = Entry("x", 0.0, cost)
        return sum(freshness.state(entry, age, random) is State.STALE for _ in range(2000)) / 2000

    assert share(30, 1.0) == 0
    assert share(59, 1.0) == pytest.approx(0.37, abs=0.05)  # exp(-1)
    assert share(59, 0.1) < 0.01
    assert share(60, 0.1) == 1


@pytest.mark.parametrize("field", ["ttl", "stale", "negative_ttl", "early"])
@pytest.mark.parametrize("value", [-1, inf, float("nan")])
def test_freshness_that_cannot_be_names_the_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        Freshness(**({"ttl": 1.0} | {field: value}))


# --- memory


def test_who_was_not_asked_for_longest_leaves() -> None:
    memory: Memory[str] = Memory(2)
    for key in ("a", "b"):
        memory.put(key, Entry(key, 0))
    assert memory.get("a") is not None
    memory.put("c", Entry("c", 0))
    assert memory.get("b") is None
    assert [memory.get(key) is not None for key in ("a", "c")] == [True, True]
    assert repr(memory) == "<Memory entries=2 limit=2 evicted=1>"
    with pytest.raises(ValueError, match="entries: expected at least 1"):
        Memory(0)


# --- the cache


def cache(source: Source, clock: Clock, **options: Any) -> ReadThrough[str, str]:
    freshness = options.pop("freshness", Freshness(ttl=60, stale=60, negative_ttl=1, early=0))
    return ReadThrough("users", source, freshness, clock=clock, random=Random(1), **options)


def test_an_answer_is_loaded_once_and_again_when_it_is_gone() -> None:
    async def run() -> None:
        source, clock = Source(anna="A"), Clock()
        users = cache(source, clock)
        assert [await users.get("anna") for _ in range(5)] == ["A"] * 5
        clock.now += 120
        source.values["anna"] = "B"
        assert users.peek("anna") is None
        assert await users.get("anna") == "B"
        assert source.loaded == ["anna"] * 2
        assert repr(users) == "<ReadThrough users entries=1 loads=2>"

    asyncio.run(run())


def test_a_stale_answer_is_served_and_loaded_behind_it_once() -> None:
    async def run() -> None:
        source, clock = Source(anna="A"), Clock()
        users = cache(source, clock)
        await users.get("anna")
        clock.now += 61
        source.values["anna"] = "B"
        assert [await users.get("anna") for _ in range(3)] == ["A"] * 3
        await turns()
        assert await users.get("anna") == "B"
        assert source.loaded == ["anna"] * 2

    asyncio.run(run())


def test_a_stale_answer_stands_in_for_a_source_that_fails_until_it_is_gone() -> None:
    async def run() -> None:
        source, clock = Source(anna="A"), Clock()
        users = cache(source, clock)
        await users.get("anna")
        source.values["anna"] = ConnectionError("down")
        for _ in range(118):
            clock.now += 1
            assert await users.get("anna") == "A"
            await turns()
        assert 1 < len(source.loaded) <= 60  # once a second from the 60th on
        clock.now += 2
        with pytest.raises(ConnectionError, match="down"):
            await users.get("anna")

    asyncio.run(run())


def test_what_is_missing_is_kept_for_a_short_while() -> None:
    async def run() -> None:
        source, clock = Source(), Clock()
        users = cache(source, clock)
        assert [await users.get("nobody") for _ in range(5)] == [None] * 5
        assert source.loaded == ["nobody"]
        source.values["nobody"] = "somebody"
        clock.now += 1
        assert await users.get("nobody") == "somebody"

    asyncio.run(run())


def test_a_thousand_who_come_at_once_are_one_load() -> None:
    async def run() -> None:
        registry = CollectorRegistry()
        source = Source(anna="A")
        users = cache(source, Clock(), metrics=CacheMetrics(registry))
        assert await asyncio.gather(*(users.get("anna") for _ in range(1000))) == ["A"] * 1000
        assert source.loaded == ["anna"]
        requests = "nova_data_cache_requests_total"
        assert registry.get_sample_value(requests, {"cache": "users", "result": "loaded"}) == 1
        assert registry.get_sample_value(requests, {"cache": "users", "result": "stale"}) == 0
        assert registry.get_sample_value("nova_data_cache_entries", {"cache": "users"}) == 1

    asyncio.run(run())


@pytest.mark.parametrize("change", ["drop", "put", "remember"])
def test_a_load_under_way_does_not_overwrite_what_was_changed_meanwhile(change: str) -> None:
    async def run() -> None:
        source = Source(anna="old")
        users = cache(source, Clock())
        source.open.clear()
        early = asyncio.create_task(users.get("anna"))
        await turns()
        source.values["anna"] = "new"
        if change == "drop":
            await users.drop("anna")
        elif change == "put":
            await users.put("anna", "new")
        else:
            users.remember("anna", "new")
        late = asyncio.create_task(users.get("anna"))
        await turns()
        source.open.set()
        assert (await early, await late) == ("old", "new")
        assert await users.get("anna") == "new"
        assert source.loaded == (["anna"] * 2 if change == "drop" else ["anna"])
        assert not users._tickets  # nothing is remembered of loads that are over

    asyncio.run(run())


def test_without_a_stale_answer_the_fallback_stands_in_and_is_not_kept() -> None:
    async def run() -> None:
        async def by_time(key: str) -> str:
            return f"feed of {key}"

        source = Source(anna=ConnectionError())
        feeds = cache(source, Clock(), fallback=by_time)
        assert await feeds.get("anna") == "feed of anna"
        source.values["anna"] = "recommended"
        assert await feeds.get("anna") == "recommended"
        assert not feeds._tickets

    asyncio.run(run())


def test_the_end_leaves_no_load_behind() -> None:
    async def run() -> None:
        source, clock = Source(anna="A"), Clock()
        users = cache(source, clock)
        await users.get("anna")
        clock.now += 61
        source.open.clear()
        assert await users.get("anna") == "A"
        await turns()
        await users.close()
        await turns()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


# --- what waits to be saved


class PendingMachine(RuleBasedStateMachine):
    """Changes, batches, failures: whatever happens, the last value of each key is saved or still there."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: Pending[int, int] = Pending(after=5.0, most=3, limit=6)
        self.saved: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.batch: dict[int, int] = {}
        self.now = 0.0
        self.number = 0

    @rule(key=st.integers(0, 8))
    def put(self, key: int) -> None:
        self.number += 1
        room = len(self.pending.all()) < 6 or key in self.pending.all()
        assert self.pending.put(key, self.number, self.now) is room
        if room:
            self.last[key] = self.number

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.batch)
    @rule()
    def take(self) -> None:
        self.batch = self.pending.take()
        assert len(self.batch) <= 3
        assert self.pending.take() == {}

    @precondition(lambda self: self.batch)
    @rule()
    def succeed(self) -> None:
        self.saved |= self.batch
        self.batch = {}
        self.pending.saved()

    @precondition(lambda self: self.batch)
    @rule()
    def fail(self) -> None:
        self.batch = {}
        self.pending.failed(self.now, Random(1))
        assert PAUSES.base / 2 <= self.pending.pause(self.now) <= PAUSES.longest

    @invariant()
    def nothing_is_lost(self) -> None:
        left = self.pending.all()
        assert {key: value for key, value in self.last.items() if self.saved.get(key) != value} == {
            key: value for key, value in left.items() if self.saved.get(key) != value
        }
        assert len(self.pending) == len(left) <= 6
        for key, value in left.items():
            assert self.pending.get(key, -1) == value

    @invariant()
    def nobody_waits_longer_than_he_must(self) -> None:
        pause = self.pending.pause(self.now)
        if not self.batch and self.pending.all():
            assert pause <= max(5.0, PAUSES.longest)
        else:
            assert pause == inf


TestPending = PendingMachine.TestCase
TestPending.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(("after", "most", "limit"), [(0, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_what_cannot_be_is_told(after: float, most: int, limit: int) -> None:
    with pytest.raises(ValueError, match=r"^(flush_after|batch): expected"):
        Pending(after=after, most=most, limit=limit)


# --- writing back


class Table:
    """What is saved; `broken` makes it fail, `refused` refuses single keys."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.batches: list[dict[str, str]] = []
        self.broken = False
        self.refused: set[str] = set()
        self.saved = asyncio.Event()

    async def __call__(self, values: Mapping[str, str]) -> dict[str, Exception] | None:
        await asyncio.sleep(0)
        if self.broken:
            raise ConnectionError
        self.batches.append(dict(values))
        refused: dict[str, Exception] = {key: ValueError("too long") for key in values if key in self.refused}
        self.rows |= {key: value for key, value in values.items() if key not in refused}
        self.saved.set()
        return refused or None


def test_changes_are_seen_at_once_and_saved_together() -> None:
    async def run() -> None:
        table, source = Table(), Source(anna="old")
        async with WriteBack(cache(source, Clock()), table, flush_after=0.02) as store:
            for colour in ("red", "green", "blue"):
                store.set("anna", colour)
                assert await store.get("anna") == colour
            store.set("ben", "black")
            async with asyncio.timeout(5 * CROWD):
                await table.saved.wait()
            await turns()
            assert table.batches == [{"anna": "blue", "ben": "black"}]
            assert await store.get("anna") == "blue"
            assert source.loaded == []
            assert repr(store).endswith("<Pending waiting=0 under_way=0 failures=0> saves=1>")

    asyncio.run(run())


def test_the_end_saves_what_is_left() -> None:
    async def run() -> None:
        table = Table()
        async with WriteBack(cache(Source(), Clock()), table, flush_after=3600, batch=10) as store:
            for number in range(25):
                store.set(f"user {number}", "x")
        assert len(table.rows) == 25
        assert [len(batch) for batch in table.batches] == [10, 10, 5]
        with pytest.raises(RuntimeError, match="use it within its block"):
            store.set("late", "x")

    asyncio.run(run())


def test_what_cannot_be_saved_is_kept_and_then_told_with_its_values() -> None:
    async def run() -> None:
        registry, table, told = CollectorRegistry(), Table(), dict[str, str]()
        table.broken = True
        store = WriteBack(
            cache(Source(), Clock()),
            table,
            flush_after=0.01,
            close_within=0.05,
            on_unsaved=told.update,
            metrics=CacheMetrics(registry),
        )

        async def work() -> None:
            async with store:
                store.set("anna", "secret")
                with pytest.raises(ConnectionError):
                    await store.flush()
                assert await store.get("anna") == "secret"

        with pytest.raises(UnsavedError, match="could not save 1 values") as caught:
            await work()
        assert (caught.value.values, told) == ({"anna": "secret"}, {"anna": "secret"})
        assert "secret" not in str(caught.value)
        assert registry.get_sample_value("nova_data_write_back_unsaved_total", {"cache": "users"}) == 1
        assert registry.get_sample_value("nova_data_write_back_failed_total", {"cache": "users"}) >= 1

    asyncio.run(run())


def test_memory_is_bounded_while_saving_fails_and_whoever_changes_more_knows() -> None:
    async def run() -> None:
        table = Table()
        table.broken = True
        async with WriteBack(cache(Source(), Clock()), table, flush_after=3600, batch=2, limit=2) as store:
            store.set("anna", "1")
            store.set("ben", "1")
            with pytest.raises(WriteBackFullError, match="cannot take a further change"):
                store.set("carl", "1")
            assert store.pending.get("carl", "") == ""
            store.set("anna", "2")  # no further one
            table.broken = False
            await store.flush()
            store.set("carl", "1")
        assert table.rows == {"anna": "2", "ben": "1", "carl": "1"}

    asyncio.run(run())


def test_a_value_that_is_refused_for_good_is_told_and_the_others_are_saved() -> None:
    async def run() -> None:
        table, told, source = Table(), dict[str, str](), Source(anna="old")
        table.refused = {"anna"}
        async with WriteBack(cache(source, Clock()), table, on_unsaved=told.update) as store:
            store.set("anna", "x" * 100)
            store.set("ben", "black")
            await store.flush()
            assert (table.rows, told) == ({"ben": "black"}, {"anna": "x" * 100})
            assert await store.get("anna") == "old"  # the cache does not go on showing what is not true

    asyncio.run(run())


def test_a_callback_that_fails_ends_neither_the_saving_nor_the_end() -> None:
    async def run() -> None:
        table = Table()
        table.refused = {"anna"}

        def fails(_: object) -> None:
            raise LookupError("no such queue")

        async with WriteBack(cache(Source(), Clock()), table, flush_after=0.01, batch=1, on_unsaved=fails) as store:
            store.set("anna", "x")
            await turns()
            store.set("ben", "black")
        assert table.rows == {"ben": "black"}

    asyncio.run(run())


def test_an_end_that_is_cancelled_hands_back_what_is_not_saved() -> None:
    async def run() -> None:
        table, told = Table(), dict[str, str]()
        table.broken = True

        async def work() -> None:
            async with WriteBack(cache(Source(), Clock()), table, on_unsaved=told.update) as store:
                store.set("anna", "x")

        task = asyncio.create_task(work())
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (task.cancelled(), told) == (True, {"anna": "x"})

    asyncio.run(run())
