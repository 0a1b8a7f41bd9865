"""What a service does when it hears of something: one effect for each type of event, in one transaction with the note
that it took place, so that it takes place once.

    effects = {"user-registered": users.created, "user-erased": users.erased}
    async with consuming(stand, options, ["user"], effects): ...

    async def erased(connection, message):
        await connection.execute("DELETE FROM profiles WHERE user_id = $1", subject(message))
        return forgotten                      # awaited after the commit; where the process dies in between, it is not

The group is named as the service, so its pods share the work. Events without an effect here are passed over. While the
database is away nothing is skipped (docs/consumer.md). A consumer that cannot go on ends the process, in good order.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from nova_data import kafka_settings
from nova_data.consumer.consumer import Consumer
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.dedup.installing import install, prune
from nova_data.dedup.metrics import DedupMetrics
from nova_data.dedup.postgres import PostgresKeys
from nova_data.errors import RejectedError
from nova_data.pool.database import Database
from nova_services.background import ending_with
from nova_services.backing import Standing, lasting
from nova_services.logs import get_logger

Afterwards = Callable[[], Awaitable[object]]
Effect = Callable[[Any, Message], Awaitable[Afterwards | None]]
"""Gets asyncpg's connection, in the transaction, and the event."""
_PAUSE: Final = 1.0
"""Seconds between attempts to reach the database at the start."""
_PRUNE_EVERY: Final = 3600.0
"""Seconds between looks for keys that are older than they need to be."""


@asynccontextmanager
async def consuming(
    stand: Standing,
    options: argparse.Namespace,
    topics: Sequence[str],
    effects: Mapping[str, Effect],
    *,
    group: str | None = None,
) -> AsyncIterator[Consumer]:
    """Consume while the block runs; `topics` and `group` are without the prefix that `options` have, and the group is
    the service's name unless it is given. Raises ConsumerError at the end, where the consumer could not go on."""
    group = options.topic_prefix + (group or stand.name)
    keys = PostgresKeys(stand.database, scope=group, metrics=DedupMetrics(stand.registry))
    consumer = Consumer(
        [options.topic_prefix + topic for topic in topics],
        group=group,
        handler=lambda message: _handled(keys, effects, message),
        brokers=options.brokers,
        slots=max(1, stand.database.places // 2),  # each has a connection, and who asks by HTTP or gRPC has the others
        kafka=kafka_settings.from_environment(),
        metrics=ConsumerMetrics(stand.registry),
    )
    pruning = asyncio.create_task(_prune(stand.database))
    try:
        async with running(stand, consumer, first=lambda: _prepare(stand.database)):
            yield consumer
    finally:
        pruning.cancel()
        await asyncio.wait((pruning,))


@asynccontextmanager
async def running(
    stand: Standing, consumer: Consumer, *, first: Callable[[], Awaitable[object]] | None = None
) -> AsyncIterator[None]:
    """Run a consumer while the block runs; `first` is awaited before it begins. One that cannot go on ends the process,
    in good order. Raises ConsumerError at the end, where it could not."""
    ready = asyncio.Event()

    async def run() -> None:
        if first is not None:
            await first()
        ready.set()
        await consumer.run()

    task = asyncio.create_task(run(), name="consumer")
    task.add_done_callback(ending_with)
    stand.checks.append(lambda: consumer.health() if ready.is_set() else {"status": "ok"})
    try:
        yield
    finally:
        consumer.stop()
        if not ready.is_set():
            task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()


def subject(message: Message, field: str = "userId") -> UUID:
    """The id that an event names. Raises RejectedError, by which it goes to the dead letters."""
    try:
        return UUID(message.json()[field])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise RejectedError(f"{field}: expected a UUID") from None


async def _handled(keys: PostgresKeys, effects: Mapping[str, Effect], message: Message) -> object:
    effect = effects.get(message.event_type or "")
    if effect is None:
        return None
    afterwards: Afterwards | None = None

    async def act(connection: Any) -> None:
        nonlocal afterwards
        afterwards = await effect(connection, message)

    done = await keys.once(message.idempotency_key, act)
    get_logger().info("event handled", topic=message.topic, event_type=message.event_type, repeated=not done)
    if done and afterwards is not None:
        await afterwards()
    return done


async def _prepare(database: Database) -> None:
    """Make the table of keys as soon as there is a database."""
    while not await _prepared(database):  # noqa: ASYNC110 - what is waited for is another machine's
        await asyncio.sleep(_PAUSE)


async def _prepared(database: Database) -> bool:
    try:
        async with database.acquire() as connection:
            await install(connection)
    except Exception as error:
        if lasting(error) is None and not isinstance(error, asyncpg.LockNotAvailableError):
            raise
        get_logger().warning("database awaited", error=type(error).__name__)
        return False
    return True


async def _prune(database: Database) -> None:
    while True:
        await asyncio.sleep(_PRUNE_EVERY)
        try:
            async with database.acquire() as connection:
                await prune(connection)
        except Exception as error:  # the next one tries again, or another pod's
            get_logger().warning("keys not pruned", error=type(error).__name__)
