"""Events a second through a consumer on one core: with a handler that does nothing, and with two that write a row for
each, one by one and in batches.

`bare` is Kafka's client alone, which takes the same messages in one thread and does nothing with them. The servers are
on the other core.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import asyncpg
from confluent_kafka import Consumer as Client
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from nova_data.consumer.consumer import Consumer
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.dedup.installing import install
from nova_data.dedup.postgres import PostgresKeys
from nova_data.pool.connection import JoiningConnection
from tests.loopback.support.kafkaserver import Server as Kafka

from .serving import servers

EVENTS = 50_000
WRITTEN = 6_000
"""Of them, those that are written one by one."""
KEYS = 1000


def measured() -> dict[str, Any]:
    """Figures of the bare client, of a handler that does nothing, and of those that write."""
    with servers() as (database,):
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - here or here)
        try:
            kafka = Kafka()
        finally:
            os.sched_setaffinity(0, here)
        try:
            topic = kafka.make_topic("bench", partitions=4)
            _produce(kafka.url, topic)
            bare = _bare(kafka.url, topic)
            nothing = asyncio.run(_consume(kafka.url, topic, "nothing", EVENTS, handler=_nothing))
            written = asyncio.run(_written(kafka.url, topic, "written", WRITTEN, database.url, batches=False))
            batches = asyncio.run(_written(kafka.url, topic, "batches", EVENTS, database.url, batches=True))
        finally:
            kafka.close()
    return {"bare": bare, "nothing": nothing, "written_once": written, "written_once_in_batches": batches}


def _produce(url: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": url, "linger.ms": 50, "queue.buffering.max.messages": EVENTS + 1})
    for number in range(EVENTS):
        headers = [("idempotency-key", f"e{number}"), ("correlation-id", f"call-{number}")]
        producer.produce(topic, b'{"n": 1}' * 20, f"k{number % KEYS}", headers=headers)
    if producer.flush(60):
        raise RuntimeError("the messages were not taken")


def _bare(url: str, topic: str) -> dict[str, Any]:
    settings = {"bootstrap.servers": url, "group.id": "bare", "auto.offset.reset": "earliest"}
    client = Client(settings)
    client.subscribe([topic])
    taken, began, cpu = 0, 0.0, 0.0
    while taken < EVENTS:
        for message in client.consume(1000, 1.0):
            if taken == 0:
                began, cpu = time.perf_counter(), time.process_time()
            message.value(), message.headers()
            taken += 1
    found = _figures(EVENTS, time.perf_counter() - began, time.process_time() - cpu)
    client.close()
    return found


async def _nothing(_: Any) -> None:
    """What a consumer costs without its handler."""


async def _consume(url: str, topic: str, group: str, count: int, **handlers: Any) -> dict[str, Any]:
    """With the only one of `handlers`, which is also called so in a consumer."""
    enough, taken, began, cpu = asyncio.Event(), 0, 0.0, 0.0
    ((kind, inner),) = handlers.items()

    async def counting(given: Any) -> object:
        nonlocal taken, began, cpu
        if not began:
            began, cpu = time.perf_counter(), time.process_time()
        said = await inner(given)
        taken += len(given) if isinstance(given, list) else 1
        if taken >= count:
            enough.set()
        return said

    options: dict[str, Any] = {"group": group, "brokers": url, "slots": 16, "in_hand": 4000, kind: counting}
    consumer = Consumer([topic], metrics=ConsumerMetrics(CollectorRegistry()), **options)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(120):
        await enough.wait()
    found = _figures(taken, time.perf_counter() - began, time.process_time() - cpu)
    consumer.stop()
    await running
    return found


async def _written(url: str, topic: str, group: str, count: int, database: str, *, batches: bool) -> dict[str, Any]:
    settings = {"min_size": 16, "max_size": 16, "command_timeout": 30, "connection_class": JoiningConnection}
    async with asyncpg.create_pool(database, **settings) as pool:
        async with pool.acquire() as connection:
            await install(connection)
        await pool.execute("CREATE TABLE IF NOT EXISTS effects (name text)")
        keys = PostgresKeys(pool, scope=group)

        async def effect(connection: Any) -> None:
            await connection.execute("INSERT INTO effects VALUES ($1)", "x")

        async def effects(connection: Any, new: list[Message]) -> None:
            await connection.executemany("INSERT INTO effects VALUES ($1)", [("x",) for _ in new])

        if batches:
            return await _consume(url, topic, group, count, batch_handler=lambda some: keys.once_of(some, effects))
        return await _consume(
            url, topic, group, count, handler=lambda message: keys.once(message.idempotency_key, effect)
        )


def _figures(count: int, seconds: float, cpu: float) -> dict[str, Any]:
    return {"events_per_second": round(count / seconds), "cpu_us_per_event": round(cpu / count * 1e6, 1)}
