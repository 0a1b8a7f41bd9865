"""The outbox in a real PostgreSQL: its tables, what apps write into it, and its commands."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from nova_data import correlation
from nova_data.errors import OutboxError
from nova_data.outbox import retention
from nova_data.outbox.writer import outbox
from tests.loopback.support.postgresserver import Server

from .outboxes import command, connected, installed


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[str]:
    """A database with an outbox, for this module alone."""
    name = f"outbox-{uuid.uuid4().hex[:12]}"
    yield installed(postgres, name)
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def url(database: str) -> str:
    """It, with no event in it."""
    connected(database, lambda connection: connection.execute("TRUNCATE outbox_events"))
    return database


def rows(url: str, query: str = "SELECT * FROM outbox_events ORDER BY position", *values: Any) -> list[Any]:
    return list(connected(url, lambda connection: connection.fetch(query, *values)))


def test_an_event_is_there_when_its_transaction_is(url: str) -> None:
    async def work(connection: Any) -> uuid.UUID:
        async with connection.transaction(), outbox(connection, correlation_id="call-1") as events:
            kept: uuid.UUID = await events.append("order", 7, "order-paid", {"total": "4.20"}, headers={"region": "eu"})
        undone = connection.transaction()
        await undone.start()
        async with outbox(connection) as events:
            await events.append("order", 7, "order-shipped", {})
        await undone.rollback()
        return kept

    identity = connected(url, work)
    (row,) = rows(url)
    assert (row["id"], row["aggregate_type"], row["aggregate_id"]) == (identity, "order", "7")
    assert json.loads(row["payload"]) == {"total": "4.20"}
    assert json.loads(row["headers"]) == {"region": "eu", "correlation-id": "call-1"}
    assert row["published_at"] is None
    assert row["retry_count"] == 0


def test_events_of_an_aggregate_share_a_slot_and_others_spread(url: str) -> None:
    async def work(connection: Any) -> None:
        async with connection.transaction(), outbox(connection) as events:
            for number in range(400):
                await events.append("order", number % 200, "touched", b"\x00\xff")

    connected(url, work)
    slots = rows(url, "SELECT aggregate_id, array_agg(DISTINCT slot) AS slots FROM outbox_events GROUP BY 1")
    assert {len(row["slots"]) for row in slots} == {1}
    assert {row["slots"][0] for row in slots} == set(range(16))


def test_psycopg_appends_too(url: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            async with outbox(connection) as events:
                await events.append("order", "a", "order-paid", {"n": 1})
            await connection.rollback()
            async with connection.transaction(), outbox(connection) as events:
                await events.append("order", "b", "order-paid", b"bytes", topic="orders", key="k")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            with pytest.raises(OutboxError, match="in a transaction"):
                async with outbox(connection):
                    pass

    asyncio.run(run())
    (row,) = rows(url)
    assert (row["aggregate_id"], row["content"], row["topic"], row["key"]) == ("b", b"bytes", "orders", "k")


def test_nothing_is_appended_outside_a_transaction(url: str) -> None:
    async def work(connection: Any) -> None:
        with pytest.raises(OutboxError, match="in a transaction"):
            async with outbox(connection):
                pass
        async with connection.transaction(), outbox(connection) as events:
            await events.append("order", 1, "order-paid", {})
        with pytest.raises(OutboxError, match="in a transaction"):
            await events.append("order", 1, "order-paid", {})

    connected(url, work)
    assert len(rows(url)) == 1


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"aggregate_type": "a/b"}, "aggregate_type: expected 1 to 200 letters"),
        ({"aggregate_id": ""}, "aggregate_id: expected 1 to 500 characters"),
        ({"aggregate_id": "a\0"}, "none of them NUL"),
        ({"event_type": "x" * 201}, "event_type: expected 1 to 200"),
        ({"aggregate_id": None}, "aggregate_id: expected a text, a number or a UUID, got NoneType"),
        ({"payload": [1]}, "payload: expected a mapping or bytes, got list"),
        ({"payload": {"at": datetime.now(UTC)}}, "payload: expected what JSON can express"),
        ({"payload": {"text": "a\0"}}, "payload: expected text without NUL"),
        ({"payload": b"x" * 900_001}, "payload: expected at most 900000 bytes"),
        ({"topic": "a b"}, "topic: expected 1 to 249"),
        ({"headers": {"correlation-id": "x"}}, "headers: expected lower-case names that Nova does not set"),
        ({"headers": {"X": "x"}}, "headers: expected lower-case names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_an_event_is_refused_by_field_and_rule(url: str, event: dict[str, Any], message: str) -> None:
    whole = {"aggregate_type": "order", "aggregate_id": "1", "event_type": "paid", "payload": {}, **event}

    async def work(connection: Any) -> None:
        async with connection.transaction(), outbox(connection) as events:
            with pytest.raises(OutboxError, match=message):
                await events.append(**whole)
            await events.append("order", "1", "paid", {})

    connected(url, work)
    assert len(rows(url)) == 1


def test_a_correlation_id_that_gives_somebody_away_is_replaced(url: str) -> None:
    async def work(connection: Any) -> None:
        async with connection.transaction():
            for given in ("anna@example.com", "a\nb", None):
                async with outbox(connection, correlation_id=given) as events:
                    await events.append("order", 1, "paid", {})
            with pytest.raises(OutboxError, match="traceparent"):
                async with outbox(connection, traceparent="00-0-0-00"):
                    pass

    connected(url, work)
    found = [json.loads(row["headers"])["correlation-id"] for row in rows(url)]
    assert len({uuid.UUID(one) for one in found}) == 3


def test_an_event_of_a_handler_belongs_to_its_message(url: str) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def work(connection: Any) -> None:
        with correlation.bound("call-1", trace):
            async with connection.transaction(), outbox(connection) as events:
                await events.append("order", 1, "paid", {})

    connected(url, work)
    (row,) = rows(url)
    assert json.loads(row["headers"]) == {"correlation-id": "call-1", "traceparent": trace}


def test_installing_again_changes_nothing_and_loses_nothing(url: str) -> None:
    connected(url, lambda c: c.fetchval("SELECT nova_outbox_append('posts', '1', 'deleted', '{}')"))
    done = command("outbox", "install", "--ahead", "3", database=url)
    assert done.returncode == 0, done.stderr
    assert "new partitions: outbox_events_p" in done.stdout
    assert "new partitions: none" in command("outbox", "install", "--ahead", "3", database=url).stdout
    assert [row["aggregate_type"] for row in rows(url)] == ["posts"]


def test_the_functions_find_the_table_from_any_search_path(url: str) -> None:
    async def work(connection: Any) -> None:
        await connection.execute("SET search_path = pg_catalog")
        await connection.fetchval("SELECT public.nova_outbox_append('posts', '1', 'deleted', '{}')")

    connected(url, work)
    assert len(rows(url)) == 1


def test_installing_waits_for_nobody_longer_than_the_lock_timeout(url: str) -> None:
    async def work(connection: Any) -> str:
        async with connection.transaction():
            await connection.execute("LOCK TABLE outbox_events")
            return (
                await asyncio.to_thread(command, "outbox", "install", "--lock-timeout", "50ms", database=url)
            ).stderr

    assert "within the lock timeout; nothing was changed" in connected(url, work)


def test_old_partitions_go_when_nothing_in_them_waits(url: str) -> None:
    now = datetime.now(UTC)

    async def work(connection: Any) -> None:
        past = {"lock_timeout": 1.0, "ahead": 0}
        for days in (10, 11):
            await retention.make_partitions(connection, now - timedelta(days=days), **past)
            await connection.execute(
                "INSERT INTO outbox_events"
                " (created_at, aggregate_type, aggregate_id, event_type, payload, published_at)"
                " VALUES ($1, 'order', '1', 'paid', '{}', CASE WHEN $2 THEN now() END)",
                now - timedelta(days=days),
                days == 11,
            )

    connected(url, work)
    done = command("outbox", "retain", "--keep", "7", "--ahead", "2", database=url)
    old = [f"outbox_events_p{now - timedelta(days=days):%Y%m%d}" for days in (10, 11)]
    assert f"dropped: {old[1]}" in done.stdout
    assert f"kept, since events in them were not published: {old[0]}" in done.stdout
    assert len(rows(url)) == 1
    status = json.loads(command("outbox", "status", "--json", "--ahead", "2", database=url).stdout)
    assert status["partitions"]["overdue"] == [old[0]]
    assert status["backlog"] == 1
    assert status["oldestSeconds"] > 9 * 86400


def test_events_come_in_when_no_partition_is_ready(url: str) -> None:
    far = datetime.now(UTC) + timedelta(days=30)
    insert = "INSERT INTO outbox_events (created_at, aggregate_type, aggregate_id, event_type, payload)"
    connected(url, lambda c: c.execute(f"{insert} VALUES ($1, 'order', '1', 'paid', '{{}}')", far))
    made = connected(url, lambda c: retention.make_partitions(c, far, lock_timeout=1.0, ahead=1))
    assert made == [f"outbox_events_p{far + timedelta(days=1):%Y%m%d}"]
    assert (
        "1 events came while no partition was ready" in command("outbox", "status", "--ahead", "2", database=url).stdout
    )


def test_commands_say_what_is_wrong(postgres: Server) -> None:
    for words, message in (
        (("outbox", "status"), "this database has no outbox; `nova-data outbox install` makes one"),
        (("outbox", "replay", "x"), "expected a UUID"),
        (("outbox", "install", "--lock-timeout", "5"), "expected a time such as 500ms"),
    ):
        done = command(*words, database=postgres.url)
        assert done.returncode in {1, 2}
        assert message in done.stderr
    done = command("outbox", "status", database="postgresql://nova:hunter2@127.0.0.1:1/shop")
    assert done.returncode == 1
    assert "the database at 127.0.0.1:1/shop cannot be reached" in done.stderr
    assert "hunter2" not in done.stderr
