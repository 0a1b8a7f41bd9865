"""Makes coming partitions and drops old ones, a step at a time, so that writers hardly notice.

A partition is attached and dropped under a lock that writers wait behind. It is asked for no longer than the lock
timeout; who does not get it comes again later, as the relay does by itself. A new partition is attached, not created in
place, since attaching lets writers go on (ALTER TABLE … ATTACH PARTITION).
"""

from datetime import datetime, timedelta
from typing import Final

import asyncpg
from asyncpg import Connection

from nova_data.database import bound_locks
from nova_data.outbox import partitions
from nova_data.outbox.partitions import Partition
from nova_data.outbox.schema import DEFAULT_PARTITION

BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""A lock was not to be had: nothing was changed, and another time it may be."""
_THERE: Final = (
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = 'outbox_events'::regclass"
)
_UNPUBLISHED: Final = "SELECT EXISTS (SELECT FROM {table} WHERE published_at IS NULL)"
_CLEAN: Final = f"DELETE FROM {DEFAULT_PARTITION} WHERE published_at IS NOT NULL AND created_at < $1"  # noqa: S608 - our own name


async def there(connection: Connection) -> set[str]:
    """The names of the partitions."""
    return {row[0] for row in await connection.fetch(_THERE)}


async def make_partitions(connection: Connection, now: datetime, *, lock_timeout: float, ahead: int) -> list[str]:
    """Make those that will be needed within `ahead` days, and return their names.

    A day of which events already lie in the default partition gets none; they are removed from there row by row.
    """
    missing = partitions.missing(now, await there(connection), ahead)
    return [partition.name for partition in missing if await _make(connection, partition, lock_timeout)]


async def drop_partitions(
    connection: Connection, now: datetime, *, lock_timeout: float, keep: float
) -> tuple[list[str], list[str]]:
    """Drop those that ended `keep` days ago; returns the names of the dropped ones, and of those that must stay since
    something in them was not published."""
    dropped: list[str] = []
    kept: list[str] = []
    for partition in partitions.over(now, await there(connection), keep):
        (dropped if await _drop(connection, partition, lock_timeout) else kept).append(partition.name)
    await connection.execute(_CLEAN, now - timedelta(days=keep))
    return dropped, kept


async def _make(connection: Connection, partition: Partition, lock_timeout: float) -> bool:
    name, bounds = partition.name, f"FROM ('{partition.begin}') TO ('{partition.end}')"
    occupied = f"SELECT EXISTS (SELECT FROM {DEFAULT_PARTITION} WHERE created_at >= $1 AND created_at < $2)"  # noqa: S608 - our own names
    if await connection.fetchval(occupied, *map(datetime.fromisoformat, (partition.begin, partition.end))):
        return False
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        await connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE outbox_events INCLUDING ALL)")
        await connection.execute(f"ALTER TABLE outbox_events ATTACH PARTITION {name} FOR VALUES {bounds}")
    return True


async def _drop(connection: Connection, partition: Partition, lock_timeout: float) -> bool:
    """Whether it could be: nothing in it waits. The lock comes first, so that nothing comes in after the look."""
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        await connection.execute(f"LOCK TABLE {partition.name} IN ACCESS EXCLUSIVE MODE")
        if await connection.fetchval(_UNPUBLISHED.format(table=partition.name)):
            return False
        await connection.execute(f"DROP TABLE {partition.name}")
    return True
