"""Brings the table of keys into a database, and looks after it."""

import uuid
from typing import Any, Final

from nova_data.database import bound_locks
from nova_data.dedup.key import digest
from nova_data.dedup.schema import LIFETIME, SLOTS, slot_table, statements
from nova_data.errors import DedupStoreError

INSTALL_LOCK: Final = 5_642_109_377_011
"""Advisory lock of whoever changes the table."""
Connection = Any
"""asyncpg's, which ships no types."""


async def install(connection: Connection, *, lifetime: float = LIFETIME, lock_timeout: float = 0.5) -> None:
    """Make what is not there, all or nothing; may be run again, also with another lifetime. Times in seconds. Raises
    ValueError."""
    wanted = statements(lifetime)
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", INSTALL_LOCK)
        for statement in wanted:
            await connection.execute(statement)


async def require(connection: Connection) -> None:
    """Raises DedupStoreError where the table is not there."""
    if await connection.fetchval("SELECT to_regclass('dedup_keys') IS NULL"):
        raise DedupStoreError("this database has no keys; `nova-data dedup install` makes the table")


async def prune(connection: Connection, *, lock_timeout: float = 0.5) -> bool:
    """Empty the slot that is written next, if there is something in it; whether there was. Run it more often than twice
    in a lifetime. Raises what asyncpg does where the lock is not to be had in time; then nothing was changed."""
    async with connection.transaction():
        await bound_locks(connection, lock_timeout)
        slot = await connection.fetchval("SELECT nova_dedup_slot(1)")
        table = slot_table(slot)
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        if slot != await connection.fetchval("SELECT nova_dedup_slot(1)"):
            return False  # the ring has turned meanwhile, and the slot is written
        if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 - one of our four tables
            return False
        await connection.execute(f"TRUNCATE {table}")
        return True


async def forget(connection: Connection, scope: str, key: str) -> bool:
    """Let an event have its effect once more; whether its key was known."""
    gone = await connection.fetch(
        "DELETE FROM dedup_keys WHERE digest = $1 RETURNING slot", uuid.UUID(bytes=digest(scope, key))
    )
    return bool(gone)


async def status(connection: Connection) -> dict[str, Any]:
    """How long keys are known, and how many there are in each slot, as the planner estimates them."""
    rows = await connection.fetch(
        "SELECT relname, greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class"
        " WHERE relname = ANY($1) AND relkind = 'r' ORDER BY relname",
        [slot_table(slot) for slot in range(SLOTS)],
    )
    return {
        "lifetimeSeconds": 2 * await connection.fetchval("SELECT nova_dedup_period()"),
        "writes": slot_table(await connection.fetchval("SELECT nova_dedup_slot(0)")),
        "next": slot_table(await connection.fetchval("SELECT nova_dedup_slot(1)")),
        "slots": {name: {"keys": keys, "bytes": size} for name, keys, size in rows},
    }
