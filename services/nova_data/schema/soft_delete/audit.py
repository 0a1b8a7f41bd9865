"""Who deleted what, and when: newest first, by the index of deleted rows."""

from __future__ import annotations

from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any
from uuid import UUID

from nova_data.schema.database import Connection
from nova_data.schema.soft_delete import facts
from nova_data.schema.soft_delete.objects import NOBODY
from nova_data.schema.statements import quoted

ANSWER = 30.0
"""Seconds for a table."""


async def audit(
    connection: Connection, tables: tuple[str, ...], *, by: UUID | None, since: datetime, limit: int
) -> list[dict[str, Any]]:
    """Deletions since then, newest first, at most `limit` (from 1); of one person where `by` is given. `deletedBy` is
    None where nobody said who deleted. Raises SchemaError."""
    found = [await _of(connection, table, by, since, limit) for table in (await facts.read(connection, tables)).tables]
    newest = merge(*found, key=lambda one: one["deletedAt"], reverse=True)
    return list(islice(newest, limit))


async def _of(
    connection: Connection, table: facts.Table, by: UUID | None, since: datetime, limit: int
) -> list[dict[str, Any]]:
    if "deleted_by" not in table.columns:
        return []
    key = ", ".join(f"{quoted(column)}::text" for column in table.key)
    query = (
        f"SELECT ARRAY[{key}] AS key, deleted_at, deleted_by FROM {table.sql}"
        " WHERE deleted_at IS NOT NULL AND deleted_at >= $1 AND ($2::uuid IS NULL OR deleted_by = $2)"
        " ORDER BY deleted_at DESC LIMIT $3"
    )
    rows = await connection.fetch(query, since, by, limit, timeout=ANSWER)
    return [
        {
            "table": table.name,
            "key": ":".join(row["key"]),
            "deletedAt": row["deleted_at"],
            "deletedBy": None if str(row["deleted_by"]) == NOBODY else str(row["deleted_by"]),
        }
        for row in rows
    ]
