"""The consumer's handler for `user-erased` where a person may have left thousands of rows: they are removed some at a
time (`nova_services.erasing` does it in one transaction).

    removal = Removal(database, [Place("media", "user_id")], tables=["media"], before=leaving)
    async with removal.consumed(stand, options): ...

    before  →  the rows in which the person stands, and what refers to them  →  what `before` gave to do afterwards

`others` are handlers of further types of events in the topic `user`, where the service hears of them, too.

What was interrupted is gone on with when the event comes again. The note in `nova_erasures` has the event's id, times
and counts by table, and nothing that says who it was; an event whose note is complete does nothing. `before` may be
called again, and so may what it gives.
"""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid5

from nova_data import kafka_settings
from nova_data.consumer.consumer import Consumer
from nova_data.consumer.handling import PAUSE_ON, Handler
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.database import GONE, connected
from nova_data.errors import ClaimedError, DatabaseError, PoolExhaustedError, SchemaError
from nova_data.pool.database import Connection, Database
from nova_data.schema.database import NO_LOCK
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete.erasure import REFERENCE, Erasure, Place
from nova_services.backing import Standing
from nova_services.consuming import Afterwards, running, subject
from nova_services.logs import get_logger

Before = Callable[[Connection, UUID], Awaitable[Afterwards | None]]
"""Sees to it that nothing is added any more; gets a connection outside of a transaction."""
TIMEOUT: Final = 600.0
"""Seconds for one attempt."""
HELD_AFTER: Final = 5.0
"""Seconds after which rows that somebody else holds are asked for again."""
_EVENTS: Final = UUID("0d0f8a3e-2c1b-4f53-9a51-0f3f6c0f3b6e")
"""The name space of references that are made (RFC 9562 section 5.5)."""
_DONE: Final = "SELECT EXISTS (SELECT FROM nova_erasures WHERE reference = $1 AND finished_at IS NOT NULL)"


class Removal:
    """See the module. `places` are the columns that say whose a row is, `tables` those that have `deleted_by`."""

    def __init__(
        self,
        database: Database,
        places: Sequence[Place],
        *,
        tables: Sequence[str] = (),
        before: Before | None = None,
        others: Mapping[str, Handler] | None = None,
    ) -> None:
        self._database = database
        self._places = tuple(places)
        self._tables = tuple(tables)
        self._before = before
        self._others = others or {}

    async def __call__(self, message: Message) -> object:
        """Handle an event of the topic `user`; False where it was handled before. Raises RejectedError for one that
        says no user."""
        if message.event_type != "user-erased":
            other = self._others.get(message.event_type or "")
            return None if other is None else await other(message)
        return await self.erase(subject(message), reference(message))

    async def erase(self, user: UUID, reference: str) -> bool:
        """Remove what the user has left; False where the record of this reference says that it was done."""
        async with connected(self._database.url, name=f"{self._database.name}-erasing") as connection:
            there = await connection.fetchval("SELECT to_regclass('nova_erasures') IS NOT NULL")
            if there and await connection.fetchval(_DONE, reference):
                return False
            afterwards = None if self._before is None else await self._before(connection, user)
            removed = await self._removed(connection, user, reference)
        if afterwards is not None:
            await afterwards()
        get_logger().info("user erased", reference=reference, rows=sum(removed.values()))
        return True

    async def _removed(self, connection: Connection, user: UUID, reference: str) -> dict[str, int]:
        """Rows that somebody holds, as a migration does, are waited for, however long: that is no attempt that failed,
        after a few of which a person would stay until somebody looks into the dead letters."""
        try:
            return await Erasure(connection, Patience()).run(user, self._places, self._tables, reference)
        except SchemaError as error:
            if isinstance(error.__cause__, NO_LOCK):
                raise ClaimedError(retry_after=HELD_AFTER) from error
            raise

    @asynccontextmanager
    async def consumed(self, stand: Standing, options: argparse.Namespace) -> AsyncIterator[None]:
        """Hear of who is erased while the block runs, in a group that is named as the service."""
        consumer = Consumer(
            [f"{options.topic_prefix}user"],
            group=f"{options.topic_prefix}{stand.name}",
            handler=self,
            brokers=options.brokers,
            slots=max(1, self._database.places // 2),  # each has a connection, of the pool or beside it
            kafka=kafka_settings.from_environment(),
            timeout=TIMEOUT,
            pause_on=(*PAUSE_ON, *GONE, DatabaseError, PoolExhaustedError),
            metrics=ConsumerMetrics(stand.registry),
        )
        async with running(stand, consumer):
            yield


def reference(message: Message, before: str = "") -> str:
    """What the record calls an event: its id with `before` in front. Of an id that no reference may be, however it came
    to be there, a UUID is made, always the same: an erasure must not fail for what its event is called."""
    named = before + message.idempotency_key
    return named if REFERENCE.fullmatch(named) else before + str(uuid5(_EVENTS, message.idempotency_key))
