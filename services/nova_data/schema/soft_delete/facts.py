"""What tables look like now, read from PostgreSQL's catalogs in a handful of queries."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, Connection
from nova_data.schema.statements import quoted

LONGEST_NAME: Final = 48
"""Characters of a table's name: PostgreSQL cuts names at 63, and those that are made of it must fit."""
OUTBOX: Final = "nova_outbox_append(text,text,text,jsonb)"
"""The function that writes an event into the outbox; `nova-data outbox install` makes it."""


class ForeignKey(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign key with ON DELETE CASCADE, or one that had it before soft delete."""

    name: str
    child: str
    """The table it stands on, quoted."""

    parent: str
    definition: str
    cascades: bool
    valid: bool
    ours: bool
    """Whether it was CASCADE once, by its comment."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table."""

    schema: str
    name: str
    key: tuple[str, ...]
    """Columns of its primary key."""

    columns: dict[str, str]
    """Type by name, in order."""

    checks: dict[str, bool]
    """Whether a CHECK is validated, by name."""

    indexes: dict[str, bool]
    """Whether an index can be used, by name."""

    triggers: dict[str, bool]
    """Whether a trigger is on, by name."""

    functions: dict[str, str]
    """Source of the functions that the table's triggers would call, by name."""

    view: tuple[str, ...] | None
    """Columns of the active view, None where there is none."""

    view_is_marked: bool = False
    """Whether its comment says that it is Nova's."""

    view_is_ours: bool = False
    """Whether it is: views from before the comment are known by what they select."""

    grants: tuple[tuple[str, str], ...] = ()
    """Who may do what with the table, where the view does not allow it yet."""

    @property
    def sql(self) -> str:
        """Its name, quoted."""
        return quoted(self.schema, self.name)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    outbox: str
    """The outbox' function with its schema, quoted; empty where there is none."""


MARK: Final = "nova: was ON DELETE CASCADE"
"""Comment of a foreign key that soft delete made RESTRICT; by it the way back is found."""
VIEW_MARK: Final = "nova: rows that are not deleted"
"""Comment of an active view that is Nova's."""
_PLAIN: Final = re.compile(r"\s*SELECT [^()]* FROM \S+\s+WHERE \(?(\S+\.)?deleted_at IS NULL\)?;?\s*")
"""What PostgreSQL says of a view of all rows of one table that are not deleted."""


async def read(connection: Connection, names: tuple[str, ...]) -> Facts:
    """Raises SchemaError for a table that is not there or cannot be soft deleted."""
    tables = tuple([await _table(connection, name) for name in names])
    oids = [await _oid(connection, name) for name in names]
    outbox = await connection.fetchval(
        "SELECT pronamespace::regnamespace::text || '.' || quote_ident(proname) FROM pg_proc"
        " WHERE oid = to_regprocedure($1)",
        OUTBOX,
        timeout=ANSWER,
    )
    return Facts(tables=tables, foreign_keys=await _foreign_keys(connection, oids), outbox=outbox or "")


async def _oid(connection: Connection, name: str) -> int:
    oid = await connection.fetchval("SELECT to_regclass($1)::oid", quoted(*name.split(".", 1)), timeout=ANSWER)
    if oid is None:
        raise SchemaError(f"table {name}: there is none of that name; name the tables that there are with --table")
    return int(oid)


async def _table(connection: Connection, name: str) -> Table:
    oid = await _oid(connection, name)
    row = await connection.fetchrow(_TABLE, oid, timeout=ANSWER)
    assert row is not None  # noqa: S101 - for the type checker: the oid was read a moment ago
    bare = str(row["name"])
    if row["relkind"] != b"r" and row["relkind"] != "r":
        raise SchemaError(f"table {name}: expected an ordinary table; of a partitioned one or a view it does not work")
    if len(bare) > LONGEST_NAME:
        raise SchemaError(f"table {name}: expected a name of at most {LONGEST_NAME} characters")
    key = await _names(connection, _KEY, oid)
    if not key:
        raise SchemaError(f"table {name}: expected a primary key, by which a deleted row is known")
    schema = str(row["schema"])
    view = quoted(schema, f"active_{bare}")
    marked, ours = await _owner_of_view(connection, view)
    return Table(
        schema=schema,
        name=bare,
        key=key,
        columns=await _pairs(connection, _COLUMNS, oid),
        checks=await _pairs(connection, _CHECKS, oid),
        indexes=await _pairs(connection, _INDEXES, oid),
        triggers=await _pairs(connection, _TRIGGERS, oid),
        functions=await _pairs(connection, _FUNCTIONS, schema),
        view=await _names(connection, _VIEW, view) or None,
        view_is_marked=marked,
        view_is_ours=ours,
        grants=tuple((r[0], r[1]) for r in await connection.fetch(_GRANTS, oid, view, timeout=ANSWER)),
    )


async def _owner_of_view(connection: Connection, view: str) -> tuple[bool, bool]:
    row = await connection.fetchrow(_VIEW_SAYS, view, timeout=ANSWER)
    if row is None:
        return False, False
    marked = row["comment"] == VIEW_MARK
    return marked, marked or (row["relkind"] == "v" and _PLAIN.fullmatch(row["says"]) is not None)


async def _names(connection: Connection, query: str, argument: object) -> tuple[str, ...]:
    return tuple(row[0] for row in await connection.fetch(query, argument, timeout=ANSWER))


async def _pairs(connection: Connection, query: str, argument: object) -> dict[str, Any]:
    return {row[0]: row[1] for row in await connection.fetch(query, argument, timeout=ANSWER)}


async def _foreign_keys(connection: Connection, oids: list[int]) -> tuple[ForeignKey, ...]:
    rows = await connection.fetch(_FOREIGN_KEYS, oids, MARK, timeout=ANSWER)
    return tuple(_foreign_key(dict(row)) for row in rows)


def _foreign_key(row: dict[str, Any]) -> ForeignKey:
    """Its tables are named as `Table.sql` names them: they are looked up by that."""
    child = quoted(row.pop("child_schema"), row.pop("child_name"))
    parent = quoted(row.pop("parent_schema"), row.pop("parent_name"))
    return ForeignKey(child=child, parent=parent, **row)


_TABLE: Final = (
    "SELECT relname AS name, relkind::text AS relkind, nspname AS schema FROM pg_class"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = $1"
)
_KEY: Final = (
    "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
    " WHERE indrelid = $1 AND indisprimary ORDER BY array_position(indkey::int2[], attnum)"
)
_COLUMNS: Final = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
    " WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
_CHECKS: Final = "SELECT conname, convalidated FROM pg_constraint WHERE conrelid = $1 AND contype = 'c'"
_INDEXES: Final = (
    "SELECT relname, indisvalid AND indisready FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE indrelid = $1"
)
_TRIGGERS: Final = "SELECT tgname, tgenabled IN ('O', 'A') FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal"
_FUNCTIONS: Final = (
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = quote_ident($1)::regnamespace"
    " AND proname LIKE '%soft\\_delete%'"
)
_VIEW: Final = (
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
    " ORDER BY attnum"
)
_VIEW_SAYS: Final = (
    "SELECT relkind::text AS relkind, obj_description(oid, 'pg_class') AS comment,"
    " CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) ELSE '' END AS says FROM pg_class WHERE oid = to_regclass($1)"
)
_GRANTS: Final = """\
WITH given AS (
    SELECT pg_class.oid AS relation, relowner, grantee, privilege_type
    FROM pg_class, aclexplode(relacl) WHERE pg_class.oid IN ($1, to_regclass($2)::oid)
)
SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type FROM given
WHERE relation = $1 AND grantee <> relowner AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  AND NOT EXISTS (
      SELECT FROM given AS view WHERE view.relation <> $1
        AND view.grantee = given.grantee AND view.privilege_type = given.privilege_type)
ORDER BY 1, 2"""
_FOREIGN_KEYS: Final = """\
SELECT conname AS name,
       (SELECT nspname FROM pg_namespace WHERE oid = child.relnamespace) AS child_schema, child.relname AS child_name,
       (SELECT nspname FROM pg_namespace WHERE oid = parent.relnamespace) AS parent_schema,
       parent.relname AS parent_name,
       pg_get_constraintdef(con.oid) AS definition, confdeltype = 'c' AS cascades, convalidated AS valid,
       coalesce(obj_description(con.oid, 'pg_constraint') = $2, false) AS ours
FROM pg_constraint con JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
WHERE contype = 'f' AND conparentid = 0 AND (conrelid = ANY ($1::oid[]) OR confrelid = ANY ($1::oid[]))
ORDER BY child_schema, child_name, name"""
