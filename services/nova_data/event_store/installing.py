"""Brings the event store into a database, or up to this version."""

from typing import Any, Final

from nova_data.database import bound_locks
from nova_data.errors import EventStoreError
from nova_data.event_store.schema import STATEMENTS

INSTALL_LOCK: Final = 5_642_109_377_021
"""Advisory lock of whoever changes the tables."""
Connection = Any
"""asyncpg's, which ships no types."""


async def install(connection: Connection, *, lock_timeout: float = 0.5) -> None:
    """Make what is not there, all or nothing; to be run again after a dump was loaded. `lock_timeout` in seconds."""
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", INSTALL_LOCK)
        for statement in STATEMENTS:
            await connection.execute(statement)


async def require(connection: Connection) -> None:
    """Raises EventStoreError where it is not there."""
    if await connection.fetchval("SELECT to_regclass('stream_events') IS NULL"):
        raise EventStoreError("this database has no event store; `nova-data event-store install` makes one")
