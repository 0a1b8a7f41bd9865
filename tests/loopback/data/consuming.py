"""Messages for consumers, and consumers in this process, on a loop of their own thread."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import Producer, TopicPartition
from prometheus_client import CollectorRegistry

from nova_data.backoff import Backoff
from nova_data.consumer.batches import BatchHandler
from nova_data.consumer.consumer import Consumer
from nova_data.consumer.handling import Handler
from nova_data.consumer.metrics import ConsumerMetrics
from tests.loopback.support.kafkaserver import Server as Kafka

QUICK = Backoff(base=0.01, longest=0.02, attempts=3)
Sent = tuple[str, int, dict[str, str]]
"""Key, number and headers; the number is the value."""


def send(kafka: Kafka, topic: str, messages: Iterable[Sent]) -> None:
    """Send these in their order, and wait until they are there."""
    producer = Producer({"bootstrap.servers": kafka.url, "enable.idempotence": True, "linger.ms": 5})
    for key, number, headers in messages:
        producer.produce(topic, str(number).encode(), key, headers=list(headers.items()))
    assert producer.flush(20) == 0


def numbered(count: int, *, keys: int, start: int = 0) -> list[Sent]:
    """Messages of several keys in turn, each with an idempotency key."""
    return [(f"k{n % keys}", n, {"idempotency-key": f"e{n}"}) for n in range(start, start + count)]


def group() -> str:
    """A name that no other test has."""
    return f"g-{uuid.uuid4().hex[:8]}"


class Running:
    """A consumer that runs; `loop` is its own."""

    def __init__(self, consumer: Consumer, registry: CollectorRegistry, loop: asyncio.AbstractEventLoop) -> None:
        self.consumer = consumer
        self._registry = registry
        self.loop = loop

    def metric(self, name: str, **labels: str) -> float:
        """A sample, 0 where there is none."""
        return self._registry.get_sample_value(f"nova_consumer_{name}", labels) or 0.0

    def stop(self) -> None:
        """Ask it to end."""
        self.loop.call_soon_threadsafe(self.consumer.stop)


@contextmanager
def running(
    server: Kafka, topics: list[str], handler: Handler | None, *, name: str, **options: Any
) -> Iterator[Running]:
    """Run one for the block, and let it end."""
    registry = CollectorRegistry()
    ready: list[Running] = []
    begun = threading.Event()
    failure: list[BaseException] = []

    async def work() -> None:
        consumer = Consumer(
            topics,
            group=name,
            handler=handler,
            brokers=server.url,
            metrics=ConsumerMetrics(registry),
            **{"retry": QUICK, "commit_every": 0.1, **options},
        )
        ready.append(Running(consumer, registry, asyncio.get_running_loop()))
        begun.set()
        await consumer.run()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failure.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(10)
    try:
        yield ready[0]
    finally:
        if ready and thread.is_alive():
            ready[0].stop()
        thread.join(40)
    assert not thread.is_alive()
    if failure:
        raise failure[0]


def committed(kafka: Kafka, topic: str, name: str, partitions: int) -> list[int]:
    """The group's offsets, 0 where there is none yet."""
    client = Client({"bootstrap.servers": kafka.url, "group.id": name})
    try:
        found = client.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=10)
        return [max(0, one.offset) for one in found]
    finally:
        client.close()


Seen = list[tuple[str, int]]


def noting(seen: Seen, before: Callable[[Any], Any] | None = None) -> Handler:
    """A handler that notes key and number, after `before`, which may raise."""

    async def handle(message: Any) -> None:
        if before is not None:
            await before(message)
        seen.append((message.key.decode(), int(message.value)))

    return handle


def noting_batches(calls: list[Seen], before: Callable[[Any], Any] | None = None) -> BatchHandler:
    """A handler of batches that notes what each call was for, after `before` for each message, all or nothing."""

    async def handle(messages: Any) -> None:
        if before is not None:
            for message in messages:
                await before(message)
        calls.append([(message.key.decode(), int(message.value)) for message in messages])

    return handle


def in_order(seen: Seen) -> bool:
    """Whether each key's numbers grow."""
    by_key: dict[str, list[int]] = {}
    for key, number in seen:
        by_key.setdefault(key, []).append(number)
    return all(numbers == sorted(set(numbers)) for numbers in by_key.values())
