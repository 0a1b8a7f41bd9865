"""SQL text into its statements, by PostgreSQL's own parser (libpg_query): no guess about quotes, dollars or comments.

The parser is loaded where something is parsed: it takes 0.3 s, which every other command would pay.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_BEFORE: Final = re.compile(rb"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
"""What may stand before the first word of a statement."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of a text."""

    number: int
    """Its place, from 1."""

    line: int
    """The line on which its first word stands, from 1."""

    sql: str
    """Itself, without a semicolon and without the comments before it."""

    kind: str
    """What it is, in the parser's words: ``index_stmt``, ``alter_table_stmt``."""

    node: Any
    """Its parse tree."""


class SqlError(Exception):
    """The text is not SQL. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def statements(text: str) -> tuple[Statement, ...]:
    """The statements of a text, in order; none for one of comments alone. Raises SqlError."""
    import postgast  # noqa: PLC0415 - see the module

    data = text.encode()
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError as error:
        raise SqlError(error.message, text.count("\n", 0, max(0, error.cursorpos - 1)) + 1) from error
    return tuple(_statement(data, number, raw) for number, raw in enumerate(tree.stmts, start=1))


def _statement(data: bytes, number: int, raw: Any) -> Statement:
    end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(data)
    match = _BEFORE.match(data, raw.stmt_location, end)
    start = match.end() if match else raw.stmt_location
    kind = raw.stmt.WhichOneof("node")
    return Statement(
        number=number,
        line=data.count(b"\n", 0, start) + 1,
        sql=data[start:end].decode().strip(),
        kind=kind,
        node=getattr(raw.stmt, kind),
    )


def spelled(relation: Any) -> str:
    """The name of a table or index as it stands in the statement: ``posts`` or ``shop.posts``."""
    return f"{relation.schemaname}.{relation.relname}" if relation.schemaname else str(relation.relname)


def quoted(*names: str) -> str:
    """Names as an identifier, parted by dots: ``"shop"."posts"``."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names if name)
