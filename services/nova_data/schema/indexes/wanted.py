"""Indexes as somebody asks for them (`spec.database.indexes`), and as SQL. Pure.

An index says in its comment what it was made of. So one that is asked for differently today is told from one that is as
it should be, without comparing texts that PostgreSQL spells in its own way.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nova_api.database import Index
from nova_data.errors import SchemaError
from nova_data.schema.statements import SqlError, quoted, statements

MARK: Final = "nova: "
LONGEST_NAME: Final = 50
"""Characters of a name, which leaves room for what PostgreSQL and `build` put behind it."""
_ALIVE: Final = "deleted_at IS NULL"

REFERENCE: Final = (
    Index(table="messages", columns=("sender_id", "created_at desc"), where=_ALIVE),
    Index(table="posts", columns=("user_id", "created_at desc"), where=_ALIVE),
    Index(table="follows", columns=("follower_id", "created_at desc"), where=_ALIVE),
    Index(table="posts", columns=("user_id", "visibility", "created_at desc"), where=_ALIVE),
)
"""What a social backend is usually missing: lists of one person's rows, newest first."""


def name_of(index: Index) -> str:
    """Its name: its own, or one made of table and columns, which is another for another condition."""
    if index.name is not None:
        return index.name
    table = index.table.rpartition(".")[2]
    words = "_".join((table, *(column.split()[0] for column in index.columns)))
    if index.where is None and len(words) <= LONGEST_NAME:
        return words
    suffix = "active" if index.where == _ALIVE else hashlib.sha256((index.where or words).encode()).hexdigest()[:6]
    return f"{words[: LONGEST_NAME - len(suffix) - 1]}_{suffix}"


def mark_of(index: Index) -> str:
    """What stands in its comment."""
    text = "\0".join((index.table, *(column.lower() for column in index.columns), index.where or ""))
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:16]


def table_of(index: Index) -> str:
    """Its table, quoted."""
    return quoted(*index.table.split(".", 1))


def sql_of(index: Index, name: str) -> str:
    """CREATE INDEX under a name. Raises SchemaError for a condition that is none."""
    columns = ", ".join(" ".join((quoted(column.split()[0]), *column.upper().split()[1:])) for column in index.columns)
    where = f" WHERE {index.where}" if index.where else ""
    sql = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(name)} ON {table_of(index)} ({columns}){where}"
    try:
        found = statements(sql)
    except SqlError as error:
        raise SchemaError(f"index {name}, where: {error}") from error
    if len(found) != 1 or found[0].kind != "index_stmt":
        raise SchemaError(f"index {name}, where: expected one condition such as {_ALIVE}, got {index.where!r}")
    return sql
