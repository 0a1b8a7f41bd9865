"""What single messages and handlers can do to a consumer: they get no further than themselves."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from nova_data.consumer.dead_letters import topic_of
from nova_data.errors import RejectedError
from tests.loopback.support.kafkaserver import Server as Kafka
from tests.loopback.support.waiting import eventually, holds

from .consuming import Seen, committed, group, noting, numbered, running, send


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return kafka.make_topic(f"poison-{group()}", partitions=1)


def test_a_handler_that_awaits_what_somebody_cancelled_fails_and_its_lane_goes_on(kafka: Kafka, topic: str) -> None:
    seen: Seen = []

    async def waits(message: Any) -> None:
        if message.value == b"3":
            shared = asyncio.get_running_loop().create_future()
            shared.cancel()
            await shared

    send(kafka, topic, numbered(10, keys=1))
    name = group()
    with running(kafka, [topic], noting(seen, waits), name=name) as one:
        eventually(lambda: len(seen) == 9, within=20)
        assert one.metric("dead_lettered_total", topic=topic, reason="exhausted") == 1
        eventually(lambda: committed(kafka, topic, name, 1) == [10])


def test_a_message_as_large_as_its_topic_takes_can_be_set_aside(kafka: Kafka, topic: str) -> None:
    largest = b"x" * 1_048_000  # what brokers take by default, and more than this client sends by default
    producer = Producer({"bootstrap.servers": kafka.url, "message.max.bytes": 2_000_000})
    producer.produce(topic, largest, "k")
    producer.produce(topic, b"1", "k")
    assert producer.flush(20) == 0
    seen: Seen = []

    async def rejects(message: Any) -> None:
        if message.value == largest:
            raise RejectedError("too much of it")

    with running(kafka, [topic], noting(seen, rejects), name=group()):
        eventually(lambda: seen == [("k", 1)], within=20)
    with kafka.reader(topic_of(topic)) as reader:
        assert [one.value() for one in reader.until(1)] == [largest]


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b'{"n": "\xff"}', b'{"n": 1', b""], ids=["deep", "text", "cut", "empty"]
)
def test_a_body_that_is_no_json_is_set_aside_at_once_and_says_why(kafka: Kafka, topic: str, body: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.url})
    producer.produce(topic, body, "k")
    producer.produce(topic, b"1", "k")
    assert producer.flush(20) == 0
    seen: Seen = []
    attempts: list[bytes] = []

    async def reads(message: Any) -> None:
        attempts.append(message.value)
        message.json()

    with running(kafka, [topic], noting(seen, reads), name=group()) as one:
        eventually(lambda: seen == [("k", 1)], within=20)
        assert one.metric("dead_lettered_total", topic=topic, reason="rejected") == 1
        assert one.metric("retried_total", topic=topic) == 0
    assert attempts == [body, b"1"]
    with kafka.reader(topic_of(topic)) as reader:
        headers = dict(reader.until(1)[0].headers())
    assert headers["nova-dead-letter-error"].startswith(b"UndecodableError: value: expected JSON")


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_handler_that_never_gives_the_loop_back_is_seen(kafka: Kafka, topic: str, released: threading.Event) -> None:
    begun = threading.Event()
    ahead = 0.0

    async def stands(_: Any) -> None:
        begun.set()
        released.wait(30)

    send(kafka, topic, numbered(1, keys=1))
    with running(kafka, [topic], stands, name=group(), clock=lambda: time.monotonic() + ahead) as one:
        eventually(lambda: one.consumer.health()["status"] == "ok")
        assert begun.wait(20)
        ahead = 60.0
        eventually(lambda: one.consumer.health()["status"] == "stuck")
        # the thread that asks Kafka goes on turning
        holds(lambda: one.consumer.health()["status"] == "stuck", for_seconds=0.5)
        released.set()
        eventually(lambda: one.consumer.health()["status"] == "ok")
