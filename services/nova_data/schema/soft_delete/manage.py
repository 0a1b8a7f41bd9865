"""Soft delete on a real database: install, undo, verify."""

from __future__ import annotations

from typing import Final

from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, Connection
from nova_data.schema.soft_delete import facts, plan
from nova_data.schema.soft_delete.objects import Mode
from nova_data.schema.soft_delete.plan import Wish
from nova_data.schema.steps import Step, Stepper

OLDEST: Final = 140_000
"""PostgreSQL 14: CREATE OR REPLACE TRIGGER."""
INVOKER: Final = 150_000
"""PostgreSQL 15: views with the rights of their caller."""
_ROUNDS: Final = 3


async def wish(connection: Connection, mode: Mode, *, events: bool) -> Wish:
    """What to wish for from this server. Raises SchemaError for one that is too old."""
    server = int(await connection.fetchval("SHOW server_version_num", timeout=ANSWER))
    if server < OLDEST:
        raise SchemaError(f"expected PostgreSQL 14 or later, this is {server // 10_000}")
    return Wish(mode=mode, events=events, invoker=server >= INVOKER)


async def missing(connection: Connection, tables: tuple[str, ...], wanted: Wish) -> tuple[Step, ...]:
    """What of soft delete is not there, or not as it should be; empty when all is. Raises SchemaError."""
    return plan.install(await facts.read(connection, tables), wanted)


async def install(connection: Connection, tables: tuple[str, ...], wanted: Wish, stepper: Stepper) -> int:
    """Bring it about; how many steps that took. Raises SchemaError."""
    taken = 0
    for _ in range(_ROUNDS):  # the world may move meanwhile: a foreign key that somebody adds
        steps = await missing(connection, tables, wanted)
        if not steps:
            return taken
        taken += await stepper.take(steps)
    left = await missing(connection, tables, wanted)
    if left:
        raise SchemaError(f"{left[0].what}: somebody else changes it back; run the command when that has ended")
    return taken


async def undo(connection: Connection, tables: tuple[str, ...], stepper: Stepper, *, drop_columns: bool) -> int:
    """Take it back; how many steps that took. Raises SchemaError, when columns are to be dropped that say of rows that
    they were deleted: without them, those rows would be there again."""
    found = await facts.read(connection, tables)
    if drop_columns:
        for table in found.tables:
            await _refuse_deleted(connection, table)
    return await stepper.take(plan.undo(found, drop_columns=drop_columns))


async def _refuse_deleted(connection: Connection, table: facts.Table) -> None:
    if "deleted_at" not in table.columns:
        return
    query = f"SELECT EXISTS (SELECT FROM {table.sql} WHERE deleted_at IS NOT NULL)"
    if await connection.fetchval(query, timeout=ANSWER):
        raise SchemaError(
            f"table {table.name}: it has deleted rows, which would be there again without the columns; remove those "
            "rows first (SET LOCAL nova.erase = 'on'), or leave the columns"
        )
