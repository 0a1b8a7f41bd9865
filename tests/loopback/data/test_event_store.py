"""The event store in a real PostgreSQL: versions, order without gaps, snapshots, projections, the trail."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from nova_data import correlation
from nova_data.errors import EventStoreError, StreamConflictError
from nova_data.event_store import projection
from nova_data.event_store.audit import trail
from nova_data.event_store.store import Event, NewEvent, Stream, append, load, read, snapshot
from nova_data.main import main
from tests.loopback.support.postgresserver import Server as Postgres

from .outboxes import connected, installed
from .pages import names_of

ORDER = Stream("order", "42")
Work = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """A database with an outbox, for this module alone."""
    name = f"events-{uuid.uuid4().hex[:12]}"
    yield installed(postgres, name)
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def url(database: str) -> str:
    """It, with an event store in which nothing is."""
    tables = "seen, stream_events, event_streams, stream_snapshots, event_projections, event_store_base"
    connected(database, lambda one: one.execute(f"DROP TABLE IF EXISTS {tables}; TRUNCATE outbox_events"))
    assert main(["event-store", "install", "--database", database]) == 0
    return database


@asynccontextmanager
async def several(url: str, count: int) -> AsyncIterator[list[Any]]:
    connections = [await asyncpg.connect(url, timeout=10) for _ in range(count)]
    try:
        yield connections
    finally:
        for one in connections:
            one.terminate()


def run(url: str, work: Callable[..., Awaitable[None]], count: int = 1) -> None:
    async def all_of_it() -> None:
        async with several(url, count) as connections:
            await work(*connections)

    asyncio.run(all_of_it())


async def add(connection: Any, stream: Stream, *types: str, **given: Any) -> int:
    async with connection.transaction():
        given = {"expected": None, **given}
        return await append(connection, stream, [NewEvent(one, {"is": one}) for one in types], **given)


def names(events: Sequence[Event]) -> list[str]:
    return [event.type for event in events]


# --- streams


def test_a_stream_is_read_as_it_was_appended(url: str) -> None:
    async def work(one: Any) -> None:
        with correlation.bound("call-1", None):
            assert await add(one, ORDER, "created", "paid", expected=0, actor="u17") == 2
        assert await add(one, ORDER, "sent", expected=2) == 3
        found = await read(one, ORDER)
        assert [(each.version, each.type, each.data) for each in found] == [
            (1, "created", {"is": "created"}),
            (2, "paid", {"is": "paid"}),
            (3, "sent", {"is": "sent"}),
        ]
        assert (found[0].actor, found[0].correlation_id) == ("u17", "call-1")
        assert names(await read(one, ORDER, after=1, limit=1)) == ["paid"]
        assert await read(one, Stream("order", "none")) == []

    run(url, work)


def test_who_decided_on_an_older_version_is_told(url: str) -> None:
    async def work(one: Any) -> None:
        await add(one, ORDER, "created", "paid")
        with pytest.raises(StreamConflictError, match="stream order/42: expected version 1, it is at 2") as conflict:
            await add(one, ORDER, "cancelled", expected=1)
        assert (conflict.value.expected, conflict.value.actual) == (1, 2)
        assert names(await read(one, ORDER)) == ["created", "paid"]

    run(url, work)


def test_of_two_that_read_the_same_version_one_appends(url: str) -> None:
    async def work(*connections: Any) -> None:
        for expected in range(5):  # the first round makes the stream
            done = await asyncio.gather(
                *(add(one, ORDER, f"by-{n}", expected=expected) for n, one in enumerate(connections)),
                return_exceptions=True,
            )
            assert sorted(map(type, done), key=str) == [int] + [StreamConflictError] * 5

    run(url, work, 6)


def test_a_rollback_leaves_nothing(url: str) -> None:
    async def work(one: Any) -> None:
        begun = one.transaction()
        await begun.start()
        await append(one, ORDER, [NewEvent("created", {})], expected=0, publish=True)
        await begun.rollback()
        assert await read(one, ORDER) == []
        assert await one.fetchval("SELECT count(*) FROM outbox_events") == 0
        assert await add(one, ORDER, "created", expected=0) == 1

    run(url, work)


def test_an_append_that_publishes_is_in_the_outbox(url: str) -> None:
    async def work(one: Any) -> None:
        with correlation.bound("call-1", None):
            await add(one, ORDER, "created", "paid", expected=0, publish=True)
        rows = await one.fetch("SELECT * FROM outbox_events ORDER BY position")
        assert [(row["aggregate_type"], row["aggregate_id"], row["event_type"]) for row in rows] == [
            ("order", "42", "created"),
            ("order", "42", "paid"),
        ]
        assert [json.loads(row["headers"])["stream-version"] for row in rows] == ["1", "2"]
        assert json.loads(rows[0]["headers"])["correlation-id"] == "call-1"

    run(url, work)


def test_store_and_outbox_have_one_correlation_id_that_gives_nobody_away(url: str) -> None:
    async def work(one: Any) -> None:
        with correlation.bound("anna@example.com", None):
            await add(one, ORDER, "created", expected=0, publish=True)
        caused = await one.fetchval("SELECT correlation_id FROM stream_events")
        assert str(uuid.UUID(caused)) == caused
        assert json.loads(await one.fetchval("SELECT headers::text FROM outbox_events"))["correlation-id"] == caused

    run(url, work)


def test_events_are_not_changed(url: str) -> None:
    async def work(one: Any) -> None:
        await add(one, ORDER, "created")
        for statement in (
            "UPDATE stream_events SET data = '{}'",
            "DELETE FROM stream_events",
            "TRUNCATE stream_events",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="events are not changed"):
                await one.execute(statement)

    run(url, work)


NUMBER: Any = 42
WRONG: list[tuple[Stream, str, Any, str]] = [
    (Stream("or/der", "1"), "a", None, "stream type: expected 1 to 200 letters, .*, got 'or/der'"),
    (Stream("order", NUMBER), "a", None, "stream id: expected text of 1 to 500 characters, .* got int"),
    (Stream("order", ""), "a", None, "stream id: expected .* got 0 of them"),
    (ORDER, "", None, "event type: expected text of 1 to 200 characters"),
    (ORDER, "a", NUMBER, "actor: expected text of 1 to 500 characters, none of them NUL, got int"),
]


def test_what_is_no_event_is_refused(url: str) -> None:
    async def work(one: Any) -> None:
        with pytest.raises(EventStoreError, match="stream id: expected"):
            await load(one, Stream("order", NUMBER), lambda state, _: state, None)
        with pytest.raises(EventStoreError, match="in a transaction"):
            await append(one, ORDER, [NewEvent("a", {})], expected=None)
        async with one.transaction():
            with pytest.raises(EventStoreError, match="events: expected 1 to 1000 of them, got 0"):
                await append(one, ORDER, [], expected=None)
            for stream, kind, actor, rule in WRONG:
                with pytest.raises(EventStoreError, match=rule):
                    await append(one, stream, [NewEvent(kind, {})], expected=None, actor=actor)
            with pytest.raises(EventStoreError, match="data of a: expected what JSON can express"):
                await append(one, ORDER, [NewEvent("a", {"x": float("nan")})], expected=None)
            with pytest.raises(EventStoreError, match="without NUL"):
                await append(one, ORDER, [NewEvent("a", {"x": "\0"})], expected=None)

    run(url, work)


# --- state


def test_state_is_the_snapshot_and_what_came_after_it(url: str) -> None:
    folded: list[int] = []

    def fold(state: dict[str, int], event: Event) -> dict[str, int]:
        folded.append(event.version)
        return {**state, event.type: event.version}

    async def work(one: Any) -> None:
        assert await load(one, ORDER, fold, {}) == ({}, 0)
        await add(one, ORDER, *["a", "b"] * 300)
        state, version = await load(one, ORDER, fold, {})
        assert (state, version, len(folded)) == ({"a": 599, "b": 600}, 600, 600)
        await snapshot(one, ORDER, state, version)
        await snapshot(one, ORDER, {"old": 1}, 5)
        await add(one, ORDER, "c")
        folded.clear()
        assert await load(one, ORDER, fold, {}) == ({"a": 599, "b": 600, "c": 601}, 601)
        assert folded == [601]
        assert (await load(one, ORDER, fold, {}, form=2))[1] == 601  # states are written otherwise now
        assert len(folded) == 602

    run(url, work)


# --- all events


async def project(one: Any, events: Sequence[Event]) -> None:
    await one.executemany("INSERT INTO seen (name) VALUES ($1)", [(each.type,) for each in events])


async def seen(one: Any) -> list[str]:
    return [row["name"] for row in await one.fetch("SELECT name FROM seen ORDER BY id")]


def test_who_commits_late_is_not_left_out(url: str) -> None:
    """The first to draw a position commits last; an older transaction appends to a stream after a younger one."""

    async def work(one: Any, two: Any, reader: Any) -> None:
        await reader.execute("CREATE TABLE seen (id bigserial, name text)")
        early, late = one.transaction(), two.transaction()
        await early.start()
        await append(one, Stream("a", "1"), [NewEvent("early", {})], expected=None)
        await late.start()
        await append(two, Stream("b", "1"), [NewEvent("late", {})], expected=None)
        await late.commit()
        assert await projection.catch_up(reader, "p", project) == 0  # it waits rather than pass over
        await append(one, Stream("b", "1"), [NewEvent("after-late", {})], expected=1)
        await early.commit()
        assert await projection.catch_up(reader, "p", project) == 3
        order = await seen(reader)
        assert sorted(order) == ["after-late", "early", "late"]
        assert order.index("late") < order.index("after-late")

    run(url, work, 3)


def test_a_projection_under_load_sees_every_event_once_and_streams_in_order(url: str) -> None:
    async def work(reader: Any, *writers: Any) -> None:
        await reader.execute("CREATE TABLE seen (id bigserial, name text)")
        stopped = asyncio.Event()

        async def write(number: int, one: Any) -> None:
            for turn in range(40):
                async with one.transaction():
                    await one.fetchval("SELECT pg_current_xact_id()")
                    await asyncio.sleep(0.001 * ((number + turn) % 3))
                    stream = Stream("s", str((number + turn) % 3))
                    await append(one, stream, [NewEvent("n", {})], expected=None)

        async def note(one: Any, events: Sequence[Event]) -> None:
            await one.executemany(
                "INSERT INTO seen (name) VALUES ($1)", [(f"{each.stream.id}:{each.version}",) for each in events]
            )

        following = asyncio.create_task(projection.follow(reader, "p", note, stopped, every=0.01, batch=7))
        await asyncio.gather(*(write(number, one) for number, one in enumerate(writers)))
        stopped.set()
        await following
        await projection.catch_up(reader, "p", note)
        by_stream: dict[str, list[int]] = {}
        for name in await seen(reader):
            stream, _, version = name.partition(":")
            by_stream.setdefault(stream, []).append(int(version))
        assert sum(map(len, by_stream.values())) == 200
        assert all(versions == list(range(1, len(versions) + 1)) for versions in by_stream.values())

    run(url, work, 6)


def test_a_batch_that_fails_is_done_again_as_a_whole_and_a_rebuild_begins_anew(url: str) -> None:
    async def work(one: Any) -> None:
        await one.execute("CREATE TABLE seen (id bigserial, name text)")
        await add(one, ORDER, *(str(number) for number in range(10)))
        await add(one, Stream("user", "1"), "other")

        async def fails(connection: Any, events: Sequence[Event]) -> None:
            await project(connection, events)
            if events[-1].type == "7":
                raise LookupError

        assert await projection.step(one, "p", fails, batch=4) == 4
        with pytest.raises(LookupError):
            await projection.catch_up(one, "p", fails, batch=4)
        assert await seen(one) == ["0", "1", "2", "3"]
        assert await projection.catch_up(one, "p", project, batch=4, types=["order"]) == 6
        again = await projection.rebuild(one, "p", project, lambda c: c.execute("TRUNCATE seen"), batch=3)
        assert again == 11
        assert await seen(one) == [*map(str, range(10)), "other"]
        assert await one.fetchval("SELECT events FROM event_projections WHERE name = 'p'") == 11
        with pytest.raises(EventStoreError, match="transactions of its own"):
            async with one.transaction():
                await projection.step(one, "p", project)

    run(url, work)


def test_two_that_run_a_projection_share_its_events(url: str) -> None:
    async def work(one: Any, two: Any) -> None:
        await one.execute("CREATE TABLE seen (id bigserial, name text)")
        await add(one, ORDER, *(str(number) for number in range(50)))
        counts = await asyncio.gather(
            projection.catch_up(one, "p", project, batch=5), projection.catch_up(two, "p", project, batch=5)
        )
        assert sum(counts) == 50
        assert await seen(one) == [str(number) for number in range(50)]

    run(url, work, 2)


def test_after_a_dump_was_loaded_new_events_come_after_old_ones(url: str) -> None:
    async def work(one: Any) -> None:
        await one.execute("CREATE TABLE seen (id bigserial, name text)")
        await one.execute("ALTER TABLE stream_events DISABLE TRIGGER nova_unchanged")
        await add(one, ORDER, "old")
        await one.execute("UPDATE stream_events SET settled = settled + 1000000")  # of a cluster that lived longer
        await one.execute("UPDATE event_streams SET settled = settled + 1000000")
        assert await projection.catch_up(one, "p", project) == 0
        assert await asyncio.to_thread(main, ["event-store", "install", "--database", url]) == 0
        await add(one, ORDER, "new")
        await add(one, Stream("order", "43"), "newer")
        assert await projection.catch_up(one, "p", project) == 3
        assert await seen(one) == ["old", "new", "newer"]

    run(url, work)


# --- the trail


def test_the_trail_says_who_did_what_and_when(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)

    async def work(one: Any) -> None:
        await add(one, ORDER, "created", actor="u1")
        await add(one, Stream("user", "7"), "renamed", actor="u2")
        with correlation.bound("call-9", None):
            await add(one, ORDER, "paid", actor="u1")
        assert names(await trail(one)) == ["paid", "renamed", "created"]
        assert names(await trail(one, actor="u1", limit=1)) == ["paid"]
        assert names(await trail(one, stream_type="user")) == ["renamed"]
        assert names(await trail(one, stream=ORDER)) == ["paid", "created"]
        assert names(await trail(one, correlation_id="call-9")) == ["paid"]
        assert await trail(one, until=now - timedelta(hours=1)) == []
        assert len(await trail(one, since=now - timedelta(hours=1))) == 3
        with pytest.raises(EventStoreError, match="limit: expected 1 to 10000, got 0"):
            await trail(one, limit=0)

    run(url, work)
    capsys.readouterr()
    assert main(["event-store", "audit", "--database", url, "--stream", "order/42", "--actor", "u1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["type"], line["version"], line["actor"]) for line in lines] == [
        ("paid", 2, "u1"),
        ("created", 1, "u1"),
    ]
    assert lines[0]["correlationId"] == "call-9"


def test_a_database_without_the_tables_says_what_to_do(postgres: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["event-store", "audit", "--database", postgres.url]) == 1
    assert "`nova-data event-store install` makes one" in capsys.readouterr().err


def test_the_pages_examples(url: str) -> None:
    page = names_of("event-store.md")

    async def work(one: Any) -> None:
        await one.execute("CREATE TABLE IF NOT EXISTS paid_orders (total int)")
        await one.execute("INSERT INTO paid_orders VALUES (0)")
        assert await page["pay"](one, "42", "u17") == 1
        assert await page["pay"](one, "42", "u17") == 1
        assert await page["pay"](one, "43", "u17") == 1
        assert await page["bring_up_to_date"](one) == 2
        assert await page["make_anew"](one) == 2
        assert await one.fetchval("SELECT total FROM paid_orders") == 2
        assert await one.fetchval("SELECT count(*) FROM outbox_events") == 2
        await one.execute("DROP TABLE paid_orders")

    run(url, work)
