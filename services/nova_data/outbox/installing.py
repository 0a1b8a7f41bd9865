"""Brings the outbox into a database, or up to this version. Waits for no lock longer than the lock timeout."""

from datetime import UTC, datetime
from typing import Final

from asyncpg import Connection

from nova_data.database import bound_locks
from nova_data.errors import OutboxError
from nova_data.outbox import retention
from nova_data.outbox.schema import INSTALL_LOCK, STATEMENTS

OLDEST: Final = 13
"""Version of PostgreSQL."""


async def install(connection: Connection, *, lock_timeout: float, ahead: int) -> list[str]:
    """Make what is not there yet, partitions for today and `ahead` days included, and return the names of the new ones.

    All or nothing; `lock_timeout` in seconds. Raises OutboxError where PostgreSQL is too old.
    """
    if connection.get_server_version().major < OLDEST:
        raise OutboxError(f"PostgreSQL {connection.get_server_version().major}: expected 13 or newer")
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", INSTALL_LOCK)
        for statement in STATEMENTS:
            await connection.execute(statement)
    return await retention.make_partitions(connection, datetime.now(UTC), lock_timeout=lock_timeout, ahead=ahead)


async def installed(connection: Connection) -> bool:
    """Whether the outbox is there."""
    return await connection.fetchval("SELECT to_regclass('outbox_events') IS NOT NULL") is True


async def require(connection: Connection) -> None:
    """Raises OutboxError where it is not."""
    if not await installed(connection):
        raise OutboxError("this database has no outbox; `nova-data outbox install` makes one")
