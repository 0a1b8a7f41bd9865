"""The outbox: events a second through a relay on one core, and how long a committed event takes to Kafka.

PostgreSQL, Kafka and whoever writes have the other core, and share it; the relay and the bare producer, which sends the
same messages from memory with the same settings, have one for themselves, one after the other.

* `events_per_second`: a backlog, from the first round's mark to the last one's. `events_per_cpu_second` is what the
  relay could do if it never waited.
* `commit_to_kafka_…_ms`: at a steady rate, from the answer to COMMIT to the timestamp that the broker gives the message
  as it appends it (`message.timestamp.type=LogAppendTime`). Both clocks are the machine's; the timestamp has whole
  milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from nova_data.outbox.publisher import DEFAULTS, FIXED
from nova_data.outbox.writer import outbox
from tests.loopback.data.outboxes import Relay, connected, installed
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.waiting import eventually

from ..machine import Cores, cpu_ns

BACKLOG = 60_000
AGGREGATES = 2_000
RATE = 500
"""Transactions a second, with one event each."""
SECONDS = 10.0
PAYLOAD = {
    "order": "8c1f5f8e-6f5a-4a5b-9c43-8a9d2a4c9f11",
    "state": "paid",
    "total": "48.50",
    "items": ["tea", "cup"] * 4,
}


def measured() -> dict[str, Any]:
    """The figures."""
    cores = Cores.choose()
    with _servers(cores) as (database, broker):
        url = installed(database, "bench")
        connected(url, _fill)
        relayed = _backlog(url, broker, cores)
        bare = _bare(broker, cores)
        delays = _delays(url, broker, cores)
    return {
        **relayed,
        "bare_producer_events_per_second": bare,
        "share_of_bare_producer": round(relayed["events_per_second"] / bare, 3),
        "rate": RATE,
        "commit_to_kafka_p50_ms": round(statistics.median(delays), 1),
        "commit_to_kafka_p99_ms": round(statistics.quantiles(delays, n=100)[98], 1),
        "commit_to_kafka_max_ms": round(max(delays), 1),
        "events": BACKLOG + len(delays),
    }


@contextlib.contextmanager
def _servers(cores: Cores) -> Iterator[tuple[Postgres, Kafka]]:
    """Both on the core of the load; what they start inherits it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    database = Postgres()
    try:
        broker = Kafka()
        try:
            for topic in ("backlog", "bare", "steady"):
                broker.make_topic(topic, message_timestamp_type="LogAppendTime")
            yield database, broker
        finally:
            broker.close()
    finally:
        database.close()
        os.sched_setaffinity(0, before)


async def _fill(connection: Any) -> None:
    await connection.execute(
        "INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload, headers)"
        " SELECT 'backlog', 'order-' || n % $1::int, 'order-paid', $2::text::jsonb, $3::text::jsonb"
        " FROM generate_series(1, $4::int) n",
        AGGREGATES,
        json.dumps(PAYLOAD),
        json.dumps({"correlation-id": str(uuid.uuid4())}),
        BACKLOG,
    )


@contextlib.contextmanager
def _relay(url: str, broker: Kafka, cores: Cores) -> Iterator[Relay]:
    os.sched_setaffinity(0, {cores.proxy})
    relay = Relay(url, broker.url, "--no-retain")
    os.sched_setaffinity(0, {cores.load})
    try:
        yield relay
    finally:
        relay.end()


def _backlog(url: str, broker: Kafka, cores: Cores) -> dict[str, Any]:
    with _relay(url, broker, cores) as relay:
        eventually(lambda: _waiting(url) == 0, within=120, every=0.5)
        spent = cpu_ns(relay.process.pid) / 1e9
    seconds = connected(
        url, lambda c: c.fetchval("SELECT extract(epoch FROM max(published_at) - min(published_at)) FROM outbox_events")
    )
    return {
        "events_per_second": round(BACKLOG / float(seconds)),
        "events_per_cpu_second": round(BACKLOG / spent),
    }


def _waiting(url: str) -> int:
    return int(connected(url, lambda c: c.fetchval("SELECT count(*) FROM outbox_events WHERE published_at IS NULL")))


def _bare(broker: Kafka, cores: Cores) -> int:
    words = [sys.executable, "-m", __name__, broker.url]
    taskset = ["taskset", "-c", str(cores.proxy), *words]
    done = subprocess.run(
        taskset, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[3]
    )
    return int(done.stdout)


def bare(brokers: str) -> int:
    """Events a second of a producer that has them in memory."""
    producer = Producer({**DEFAULTS, **FIXED, "bootstrap.servers": brokers, "log_level": 0})
    content = json.dumps(PAYLOAD).encode()
    headers: list[tuple[str, str | bytes | None]] = [
        ("correlation-id", str(uuid.uuid4())),
        ("idempotency-key", str(uuid.uuid4())),
        ("aggregate-type", "backlog"),
        ("aggregate-id", "order-1"),
        ("event-type", "order-paid"),
        ("content-type", "application/json"),
    ]
    begun = time.perf_counter()
    for number in range(BACKLOG):
        producer.produce("bare", content, f"order-{number % AGGREGATES}", headers=headers, on_delivery=_ignore)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(60)
    return round(BACKLOG / (time.perf_counter() - begun))


def _ignore(*_: object) -> None:
    """A delivery report, as the relay takes one."""


def _delays(url: str, broker: Kafka, cores: Cores) -> list[float]:
    """Milliseconds from commit to Kafka of each event."""
    committed: dict[str, float] = {}

    async def write(connection: Any) -> None:
        begun = time.monotonic()
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            async with connection.transaction(), outbox(connection) as events:
                identity = await events.append("steady", f"order-{number % AGGREGATES}", "order-paid", PAYLOAD)
            committed[str(identity)] = time.time() * 1000

    with _relay(url, broker, cores) as relay:
        eventually(lambda: relay.metric("nova_outbox_slots") == 16)
        connected(url, write)
        with broker.reader("steady") as reader:
            messages = reader.until(len(committed), within=30)
    arrived = {dict(one.headers())["idempotency-key"].decode(): one.timestamp()[1] for one in messages}
    return [max(0.0, arrived[identity] - at) for identity, at in committed.items()]


if __name__ == "__main__":
    print(bare(sys.argv[1]))
