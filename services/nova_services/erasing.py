"""A person's rows are removed for good, and what was removed is noted without saying whose it was.

    removed = await erase(connection, user, (Place("profiles", "user_id"), Place("blocks", "blocked_id")), reference)

The note is where that of `nova-data soft-delete erase` is, so its audit shows both. Its reference is the id of the
event user-erased, which all services have in common: what each of them removed is found by it. Only the tables' owner
may remove what a soft delete would keep (docs/soft-delete.md). For people with thousands of rows that tool's own way is
the better one, which takes them some at a time; this is one transaction, the caller's.
"""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from nova_data.schema.soft_delete.erasure import RECORD, Place
from nova_data.schema.statements import quoted

__all__ = ("Place", "erase")


async def erase(connection: Any, person: UUID, places: Sequence[Place], reference: str) -> dict[str, int]:
    """Remove the rows in which the person stands, in this order, and note it; how many, by table. Raises what asyncpg
    does. `connection` is in a transaction."""
    removed: dict[str, int] = {}
    await connection.execute("SET LOCAL nova.erase = 'on'")
    for table, column in ((quoted(place.table), quoted(place.column)) for place in places):
        done = await connection.execute(f"DELETE FROM {table} WHERE {column} = $1", person)  # noqa: S608 - quoted names
        name = table.strip('"')
        removed[name] = removed.get(name, 0) + int(done.rpartition(" ")[2])
    if await connection.fetchval("SELECT to_regclass('nova_erasures') IS NULL"):
        await connection.execute(RECORD)
    await connection.execute(
        "INSERT INTO nova_erasures (reference, finished_at, removed) VALUES ($1, clock_timestamp(), $2)",
        reference,
        json.dumps(removed),
    )
    return removed
