"""The relay as a process, between a real PostgreSQL and a real Kafka."""

import asyncio
import json
import re
import socket
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nova_data.breaker import Breaker
from nova_data.outbox.publisher import Publisher
from nova_data.outbox.relay_metrics import RelayMetrics
from nova_data.outbox.rounds import LAG, Found
from nova_data.outbox.sending import Sender
from nova_data.outbox.session import opened
from nova_data.outbox.settings import Settings
from nova_data.outbox.writer import outbox
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from .outboxes import Relay, command, connected, installed, relaying

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """A database with an outbox, for this module alone."""
    name = f"relay-{uuid.uuid4().hex[:12]}"
    yield installed(postgres, name)
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def url(database: str) -> str:
    """It, with no event in it."""
    connected(database, lambda connection: connection.execute("TRUNCATE outbox_events"))
    return database


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A topic of its own, which is the aggregate's type too."""
    return kafka.make_topic(f"t-{uuid.uuid4().hex[:12]}")


def append(
    url: str, kind: str, numbers: Sequence[int], *, aggregates: int = 1, wake: bool = True, **given: Any
) -> None:
    """An event each, a transaction each; an aggregate's events are numbered upwards."""

    async def work(connection: Any) -> None:
        for number in numbers:
            async with connection.transaction(), outbox(connection, wake=wake, correlation_id="call-1") as events:
                await events.append(kind, f"a{number % aggregates}", "counted", {"n": number}, **given)

    connected(url, work)


def by_aggregate(messages: Sequence[Any]) -> dict[str, list[int]]:
    """The numbers of each aggregate's events, as they lie in Kafka, repetitions left out as a consumer does."""
    found: dict[str, list[int]] = defaultdict(list)
    seen = set()
    for message in messages:
        headers = dict(message.headers())
        if headers["idempotency-key"] not in seen:
            seen.add(headers["idempotency-key"])
            found[headers["aggregate-id"].decode()].append(json.loads(message.value())["n"])
    return found


def test_events_arrive_with_their_headers_and_are_marked(url: str, kafka: Kafka, topic: str) -> None:
    with relaying(url, kafka.url) as relay, kafka.reader(topic) as reader:
        append(url, topic, range(3))
        first = reader.until(3)[0]
        headers = {name: value.decode() for name, value in first.headers()}
        identity = connected(url, lambda c: c.fetchval("SELECT id::text FROM outbox_events ORDER BY position LIMIT 1"))
        assert first.key() == b"a0"
        assert headers == {
            "correlation-id": "call-1",
            "idempotency-key": identity,
            "aggregate-type": topic,
            "aggregate-id": "a0",
            "event-type": "counted",
            "content-type": "application/json",
        }
        eventually(lambda: waiting(url) == 0)
        eventually(lambda: relay.metric("nova_outbox_published_total") == 3)
        assert relay.metric('nova_outbox_breaker_state{state="closed"}') == 1
        assert json.loads(relay.page("/healthz"))["status"] == "ok"
        assert "call-1" not in str(relay.lines)


def waiting(url: str) -> int:
    return int(connected(url, lambda c: c.fetchval("SELECT count(*) FROM outbox_events WHERE published_at IS NULL")))


def test_topics_are_prefixed_unless_an_event_names_one(url: str, kafka: Kafka, topic: str) -> None:
    other = kafka.make_topic(f"shop.{topic}")
    with relaying(url, kafka.url, "--topic-prefix", "shop."), kafka.reader(topic, other) as reader:
        append(url, topic, [1])
        append(url, topic, [2], topic=topic, key="k")
        found = {json.loads(one.value())["n"]: (one.topic(), one.key()) for one in reader.until(2)}
    assert found == {1: (other, b"a0"), 2: (topic, b"k")}


def test_several_relays_share_the_work_and_keep_the_order(url: str, kafka: Kafka, topic: str) -> None:
    with relaying(url, kafka.url) as first, kafka.reader(topic) as reader:
        eventually(lambda: first.metric("nova_outbox_slots") == 16)
        with relaying(url, kafka.url) as second:
            eventually(lambda: (first.metric("nova_outbox_slots"), second.metric("nova_outbox_slots")) == (8, 8))
            append(url, topic, range(300), aggregates=20)
            reader.until(300)
            assert first.metric("nova_outbox_published_total") > 0
            assert second.metric("nova_outbox_published_total") > 0
        eventually(lambda: first.metric("nova_outbox_slots") == 16)
        append(url, topic, range(300, 360), aggregates=20)
        assert len(reader.until(360)) == 360  # nothing twice either: nobody died
    assert all(numbers == sorted(numbers) for numbers in by_aggregate(reader.messages).values())


def test_a_relay_that_is_killed_leaves_its_work_to_another(url: str, kafka: Kafka, topic: str) -> None:
    dying = Relay(url, kafka.url)
    eventually(lambda: dying.metric("nova_outbox_slots") == 16)
    with relaying(url, kafka.url) as other, kafka.reader(topic) as reader:
        dying.kill()
        append(url, topic, range(100), aggregates=10)
        reader.until(100)
        assert other.metric("nova_outbox_slots") == 16
    assert {len(numbers) for numbers in by_aggregate(reader.messages).values()} == {10}


def test_an_event_of_which_nobody_told_is_found(url: str, kafka: Kafka, topic: str) -> None:
    with relaying(url, kafka.url), kafka.reader(topic) as reader:
        append(url, topic, range(5), wake=False)
        reader.until(5)


def test_a_transaction_that_commits_late_is_found(url: str, kafka: Kafka, topic: str) -> None:
    async def work(connection: Any) -> None:
        async with connection.transaction():
            async with outbox(connection) as events:
                await events.append(topic, "late", "counted", {"n": -1})
            await asyncio.to_thread(append, url, topic, range(50), aggregates=50)
            await asyncio.to_thread(reader.until, 50)

    with relaying(url, kafka.url), kafka.reader(topic) as reader:
        connected(url, work)
        reader.until(51)
    assert by_aggregate(reader.messages)["late"] == [-1]


def test_a_transaction_that_stays_open_for_long_keeps_its_place(url: str, kafka: Kafka, topic: str) -> None:
    """Rounds begin behind what was settled 10 s ago. What an open transaction has drawn is not settled: its aggregate's
    next event, which is appended once it has committed, must not be sent first."""
    now = 0.0

    async def neighbour(connection: Any) -> str:
        """An aggregate in the same slot, so that it moves the floor that counts."""
        query = (
            "SELECT 'n' || n FROM generate_series(1, 1000) n WHERE hashtextextended($1 || '/n' || n, 0) & 15"
            " = hashtextextended($1 || '/late', 0) & 15"
        )
        return str(await connection.fetchval(query, topic))

    async def work(connection: Any) -> None:
        nonlocal now
        settings = Settings(database=url, brokers=kafka.url)
        metrics, rng = RelayMetrics(CollectorRegistry()), Random(1)
        publisher = Publisher(settings.brokers, {}, name="late")
        publisher.open()
        sender = Sender(settings, publisher, Breaker(rng), metrics, lost=pytest.fail, rng=rng, clock=lambda: now)
        near = await neighbour(connection)
        async with opened(url, prefix="", command_timeout=10, wake=asyncio.Event()) as session:
            await session.balance(lambda _: 16, range(16))
            await sender.shared(session)
            async with connection.transaction():
                await add(connection, "late", 0)
                await asyncio.to_thread(elsewhere, near)
                assert await sender.round(session) is Found.ALL
                for seconds in (1.0, LAG, LAG + 1):
                    now = seconds
                    await sender.shared(session)
                    assert await sender.round(session) is Found.NOTHING
            async with connection.transaction():
                await add(connection, "late", 1)
            assert await sender.round(session) is Found.ALL
        await publisher.abandon()

    async def add(connection: Any, aggregate: str, number: int) -> None:
        async with outbox(connection) as events:
            await events.append(topic, aggregate, "counted", {"n": number})

    def elsewhere(aggregate: str) -> None:
        async def one(connection: Any) -> None:
            async with connection.transaction():
                await add(connection, aggregate, 0)

        connected(url, one)

    with kafka.reader(topic) as reader:
        connected(url, work)
        assert by_aggregate(reader.until(3))["late"] == [0, 1]


def test_what_kafka_refuses_holds_back_its_aggregate_and_no_other(url: str, kafka: Kafka) -> None:
    topic = kafka.make_topic(f"small-{uuid.uuid4().hex[:8]}", partitions=1, max_message_bytes="2000")

    async def work(connection: Any) -> None:
        async with connection.transaction(), outbox(connection) as events:
            for aggregate in ("bad", "good"):
                for number in range(3):
                    size = 5000 if (aggregate, number) == ("bad", 1) else 10
                    noise = "".join(uuid.uuid4().hex for _ in range(size // 32))  # what repeats itself is compressed
                    await events.append(topic, aggregate, "counted", {"n": number, "noise": noise})

    with relaying(url, kafka.url, "--attempts", "2") as relay, kafka.reader(topic) as reader:
        connected(url, work)
        relay.line("event quarantined")
        append(url, topic, [3], topic=topic, aggregates=1)
        found = by_aggregate(reader.until(5))
        assert found["good"] == [0, 1, 2]
        assert found["bad"] == [0]
        assert waiting(url) == 2
        status = command("outbox", "status", database=url)
        assert status.returncode == 1
        assert f"{topic}/bad counted: MSG_SIZE_TOO_LARGE" in status.stdout
        eventually(lambda: relay.metric("nova_outbox_quarantined") == 1, within=8)
        eventually(lambda: relay.metric("nova_outbox_backlog") == 1, within=8)
        identity = status.stdout.partition("quarantined  1\n  ")[2].partition(" ")[0]
        gone = command("outbox", "discard", identity, database=url)
        assert json.loads(gone.stdout)["id"] == identity
        assert by_aggregate(reader.until(6))["bad"] == [0, 2]


def test_a_quarantined_event_is_replayed_in_its_place(url: str, kafka: Kafka) -> None:
    topic = f"later-{uuid.uuid4().hex[:8]}"
    with relaying(url, kafka.url, "--attempts", "2", "--kafka", "allow.auto.create.topics=false") as relay:
        append(url, topic, range(3))
        relay.line("event quarantined", within=30)
        kafka.make_topic(topic, partitions=1)
        with kafka.reader(topic) as reader:
            assert "1 events are tried again" in command("outbox", "replay", "--all", database=url).stdout
            assert by_aggregate(reader.until(3)) == {"a0": [0, 1, 2]}


def test_a_lost_database_is_waited_for(url: str, postgres: Postgres, kafka: Kafka, topic: str) -> None:
    with relaying(url, kafka.url) as relay, kafka.reader(topic) as reader:
        append(url, topic, range(10))
        reader.until(10)
        postgres.stop()
        relay.line("database lost")
        assert json.loads(relay.page("/healthz"))["status"] == "ok"
        postgres.start()
        append(url, topic, range(10, 20))
        reader.until(20)
        assert relay.metric("nova_outbox_database_errors_total") >= 1
    assert by_aggregate(reader.messages) == {"a0": list(range(20))}


@pytest.fixture
def guest(url: str) -> Iterator[str]:
    """The database's URL for somebody who may relay, and does not own the outbox."""
    name = f"guest_{uuid.uuid4().hex[:12]}"
    grants = f"CREATE ROLE {name} LOGIN; GRANT SELECT, UPDATE ON outbox_events TO {name}"
    connected(url, lambda connection: connection.execute(grants))
    yield url.replace("//nova@", f"//{name}@")
    connected(url, lambda connection: connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}"))


def test_partitions_that_cannot_be_looked_after_stop_no_events(url: str, guest: str, kafka: Kafka, topic: str) -> None:
    connected(url, drop_coming_partitions)
    with relaying(guest, kafka.url) as relay, kafka.reader(topic) as reader:
        append(url, topic, range(3))
        reader.until(3)
        eventually(lambda: waiting(url) == 0)
        said = relay.line("partitions not looked after")
        assert "must be owner" in said["error"] or "permission denied" in said["error"]
        assert "--no-retain" in said["error"]
        assert relay.metric("nova_outbox_database_errors_total") == 0


async def drop_coming_partitions(connection: Any) -> None:
    """Whoever looks after partitions has to make some."""
    names = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox_events'::regclass"
        " AND inhrelid <> 'outbox_events_default'::regclass"
    )
    for (name,) in names:
        await connection.execute(f"DROP TABLE {name}")


def test_a_database_that_takes_no_marks_is_tried_ever_less_often(
    url: str, postgres: Postgres, kafka: Kafka, topic: str
) -> None:
    """Each attempt brings Kafka what it has already."""
    append(url, topic, range(5))
    setting = f'ALTER DATABASE "{url.rpartition("/")[2]}" SET default_transaction_read_only = '
    postgres.sql(setting + "on")
    try:
        with relaying(url, kafka.url) as relay, kafka.reader(topic) as reader:
            waits = [relay.line("database lost")["retry_in"] for _ in range(4)]
            assert waits == sorted(waits)
            assert waits[3] >= 0.8
            postgres.sql(setting + "off")
            eventually(lambda: waiting(url) == 0)
            append(url, topic, [5])
            eventually(lambda: waiting(url) == 0)
            relay.line("database reached")
            reader.take()
        assert by_aggregate(reader.messages) == {"a0": list(range(6))}
    finally:
        postgres.sql(setting + "off")


def test_settings_that_break_the_order_are_refused(url: str) -> None:
    for setting, message in (
        ("acks=0", "kafka: acks: set by the relay itself"),
        ("no.such=1", "No such configuration property"),
    ):
        done = command("relay", "--brokers", "127.0.0.1:1", "--port", "0", "--kafka", setting, database=url)
        assert done.returncode == 1
        assert message in done.stderr


@pytest.mark.timeout(150)
def test_a_backlog_drains_with_bounded_memory_when_kafka_is_back(url: str, kafka: Kafka, topic: str) -> None:
    with relaying(url, kafka.url, "--publish-timeout", "2s") as relay:
        append(url, topic, range(10), aggregates=10)
        eventually(lambda: waiting(url) == 0)
        kafka.stop()
        try:
            connected(url, lambda c: c.execute(_MANY, topic))
            relay.line("kafka lost")
            resident = memory(relay)
            assert relay.metric('nova_outbox_breaker_state{state="closed"}') == 0
        finally:
            kafka.start()
        relay.line("kafka is back", within=30)
        eventually(lambda: waiting(url) == 0, within=30)
        assert memory(relay) - resident < 60
        with kafka.reader(topic) as reader:
            found = by_aggregate(reader.until(8_010))
    assert sum(map(len, found.values())) == 8_010
    assert all(numbers == sorted(numbers) for numbers in found.values())


_MANY = """
INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload)
SELECT $1, 'a' || n % 100, 'counted', jsonb_build_object('n', n) FROM generate_series(100, 8099) n
"""


def test_large_events_do_not_pile_up_in_memory(url: str, kafka: Kafka, topic: str) -> None:
    """Were a round bounded by number alone, all of these would be in memory, twice."""
    many = (
        "INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, content)"
        " SELECT $1, 'a' || n, 'grown', repeat('x', 500000)::bytea FROM generate_series(1, 300) n"
    )
    with relaying(url, kafka.url) as relay:
        append(url, topic, [1])
        eventually(lambda: waiting(url) == 0)
        before = memory(relay)
        connected(url, lambda c: c.execute(many, topic))
        eventually(lambda: waiting(url) == 0, within=30)
        assert memory(relay, "VmHWM") - before < 150


def memory(relay: Relay, which: str = "VmRSS") -> float:
    """Resident memory, MB; VmHWM is the most there ever was."""
    with open(f"/proc/{relay.process.pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(f"{which}:"))


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command(
            "relay", "--brokers", "127.0.0.1:9", "--host", "127.0.0.1", "--port", port, database="postgresql://"
        )
    said = f"port {port} of 127.0.0.1 cannot be listened on: Address already in use"
    assert (done.returncode, done.stderr) == (1, f"nova-data: {said}\n")


def test_the_page_is_right(url: str, kafka: Kafka) -> None:
    page = (DOCS / "outbox.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    module: dict[str, Any] = {}
    exec(compile(block, "outbox.md", "exec"), module)
    kafka.make_topic("order", exist_ok=True)  # the consumer's page has it, too

    async def work(connection: Any) -> Any:
        await connection.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, state text); INSERT INTO orders VALUES (7, '')"
        )
        return await module["pay"](connection, 7, "call-7")

    with relaying(url, kafka.url) as relay, kafka.reader("order") as reader:
        identity = connected(url, work)
        call = re.search(r"SELECT nova_outbox_append\(.*?\)(?=`)", page)
        assert call is not None
        connected(url, lambda c: c.execute(call[0]))

        def sent() -> list[Any]:
            reader.take()
            ours = [one for one in reader.messages if json.loads(one.value())["id"] == 7]
            assert len(ours) == 2
            return ours

        first, _ = eventually(sent, within=20)
        assert dict(first.headers())["idempotency-key"].decode() == str(identity)
        shown = {line.split()[2] for line in relay.page("/metrics").splitlines() if line.startswith("# TYPE nova_")}
        named = set(re.findall(r"`(nova_outbox_\w+)`", page))
        assert {name for name in shown if not name.endswith("_created")} == named
