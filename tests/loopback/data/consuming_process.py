"""A consumer as a process: writes each message's key and number into the table `effects`, once.

`python -m tests.loopback.data.consuming_process DATABASE BROKERS TOPIC GROUP BATCH [INSTANCE]`; a BATCH of 1 is the
handler for single messages.
"""

import asyncio
import sys
from typing import Any

import asyncpg

from nova_data.consumer.consumer import Consumer
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.consumer.process import serve
from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.postgres import PostgresKeys
from nova_data.pool.connection import JoiningConnection

_WRITE = "INSERT INTO effects (name, number) VALUES ($1, $2)"


async def main(database: str, brokers: str, topic: str, group: str, *more: str) -> None:
    """Consume until SIGTERM."""
    batch, instance = (*more, "")[:2]
    async with asyncpg.create_pool(
        database, min_size=4, max_size=8, command_timeout=10, connection_class=JoiningConnection
    ) as pool:
        keys = PostgresKeys(pool, scope="crash", recent=RecentKeys(10_000))

        async def handle(message: Any) -> bool:
            async def effect(connection: Any) -> None:
                await connection.execute(_WRITE, message.key.decode(), int(message.value))

            return await keys.once(message.idempotency_key, effect)

        async def effects(connection: Any, new: list[Message]) -> None:
            await connection.executemany(_WRITE, [(message.key.decode(), int(message.value)) for message in new])

        several: dict[str, Any] = {
            "batch_handler": lambda messages: keys.once_of(messages, effects),
            "batch": int(batch),
        }
        metrics = ConsumerMetrics()
        consumer = Consumer(
            [topic],
            group=group,
            brokers=brokers,
            slots=8,
            commit_every=0.2,
            kafka={"session.timeout.ms": 6000} | ({"group.instance.id": instance} if instance else {}),
            metrics=metrics,
            **({"handler": handle} if batch == "1" else several),
        )
        await serve(consumer, metrics, host="127.0.0.1", port=0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
