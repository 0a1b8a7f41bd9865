"""Builds indexes while the table is in use, and mends what a broken run left.

missing      CREATE INDEX CONCURRENTLY
invalid      left by a run that failed: dropped, and built again
another      of that name, made of something else: built anew beside it, which then goes and gives its name
there        left alone, also when somebody else made it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from nova_api.database import Index
from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, Connection
from nova_data.schema.index_state import index_state
from nova_data.schema.indexes.wanted import MARK, mark_of, name_of, sql_of, table_of
from nova_data.schema.statements import quoted
from nova_data.schema.steps import Step

State = Literal["there", "missing", "invalid", "building", "another"]

REBUILT: Final = ("_ccnew", "_ccold")
"""How PostgreSQL calls what REINDEX CONCURRENTLY leaves when it fails; the index itself is there as it was."""


class Finding(msgspec.Struct, frozen=True):
    """How one index that is wanted is."""

    index: Index
    name: str
    schema: str
    state: State


async def look(connection: Connection, wanted: Sequence[Index]) -> tuple[Finding, ...]:
    """How they are, in order. Raises SchemaError for a table that is not there, and for a name that two would have."""
    by_name: dict[tuple[str, str], Index] = {}
    for index in wanted:
        twin = by_name.setdefault((index.table, name_of(index)), index)
        if mark_of(twin) != mark_of(index):
            raise SchemaError(f"index {name_of(index)}: two that differ have this name; give one of them another")
    return tuple([await _look(connection, index) for index in wanted])


async def _look(connection: Connection, index: Index) -> Finding:
    name, table = name_of(index), table_of(index)
    schema = await connection.fetchval(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1)",
        table,
        timeout=ANSWER,
    )
    if schema is None:
        raise SchemaError(f"index {name}: there is no table {index.table}")
    state = await index_state(connection, table, name)
    if state != "valid":
        return Finding(index, name, schema, state)
    mark = await connection.fetchval(
        "SELECT obj_description(to_regclass($1), 'pg_class')", f"{schema}.{quoted(name)}", timeout=ANSWER
    )
    another = mark is not None and mark.startswith(MARK) and mark != mark_of(index)
    return Finding(index, name, schema, "another" if another else "there")


def steps(findings: Sequence[Finding]) -> tuple[Step, ...]:
    """What is to be done about them. Raises SchemaError for a condition that is none."""
    return tuple(step for finding in findings for step in _steps(finding))


def _steps(finding: Finding) -> tuple[Step, ...]:
    index, name = finding.index, finding.name
    if finding.state == "there":
        return ()
    if finding.state != "another":
        return _build(finding, name)
    following, old = f"{name}_next", f"{finding.schema}.{quoted(name)}"
    return (
        *_build(finding, following),
        Step(
            what=f"{index.table}: index {name} of before",
            sql=(f"DROP INDEX CONCURRENTLY IF EXISTS {old}",),
            kind="drop",
        ),
        Step(
            what=f"{index.table}: index {name} in its place",
            sql=(f"ALTER INDEX {finding.schema}.{quoted(following)} RENAME TO {quoted(name)}",),
        ),
    )


def _build(finding: Finding, name: str) -> tuple[Step, ...]:
    index = finding.index
    comment = f"COMMENT ON INDEX {finding.schema}.{quoted(name)} IS '{mark_of(index)}'"
    return (
        Step(
            what=f"{index.table}: index {name}",
            sql=(sql_of(index, name),),
            kind="index",
            table=table_of(index),
            index=name,
        ),
        Step(what=f"{index.table}: index {name} noted", sql=(comment,)),
    )


async def repairs(connection: Connection) -> tuple[Step, ...]:
    """What is to be done about all broken indexes of the database, wanted or not, that nobody is building."""
    rows = await connection.fetch(
        "SELECT c.relnamespace::regnamespace::text AS schema, c.relname AS name,"
        " i.indrelid::regclass::text AS table_name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = i.indexrelid"
        " WHERE NOT i.indisvalid AND c.relkind = 'i' AND p.pid IS NULL ORDER BY 3, 2",
        timeout=ANSWER,
    )
    return tuple(_repair(row["schema"], row["name"], row["table_name"]) for row in rows)


def _repair(schema: str, name: str, table: str) -> Step:
    """https://www.postgresql.org/docs/current/sql-reindex.html, "Rebuilding Indexes Concurrently"."""
    index = f"{schema}.{quoted(name)}"
    if name.rstrip("0123456789").endswith(REBUILT):
        sql = f"DROP INDEX CONCURRENTLY IF EXISTS {index}"
    else:
        sql = f"REINDEX INDEX CONCURRENTLY {index}"
    return Step(what=f"{table}: broken index {name}", sql=(sql,), kind="drop")
