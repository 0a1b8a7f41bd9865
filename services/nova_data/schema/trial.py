"""What migrations would do: their statements with the locks that they take.

`foreseen` tells by PostgreSQL's documentation, without touching anything. `tried` really runs what is pending, reads
the locks that were taken out of pg_locks (PostgreSQL 54.12), and takes everything back. For that long traffic may have
to wait, as it may when they are applied: at most `hold`.
"""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg

from nova_data.errors import MigrationError
from nova_data.schema.agenda import Step
from nova_data.schema.database import ANSWER, LATE, NO_LOCK, Connection, bound, said
from nova_data.schema.files import Migration
from nova_data.schema.locks import Lock, advice, holds_up, locks, makes
from nova_data.schema.patience import Patience
from nova_data.schema.statements import Statement

_TAKEN = (
    "SELECT relation::regclass::text AS relation, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
    " WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted AND relkind IN ('r', 'p', 'v', 'm', 'S')"
    " AND relnamespace <> 'pg_catalog'::regnamespace"
)


def foreseen(steps: tuple[Step, ...]) -> Iterator[str]:
    """Lines for people."""
    for step in steps:
        yield _title(step.migration)
        own: frozenset[str] = frozenset()
        for statement in step.migration.statements[step.done :]:
            yield from _shown(statement)
            found = locks(statement)
            yield from _lines(None if found is None else [lock for lock in found if lock.relation not in own])
            if holds_up(statement, own):
                yield from (f"        better: {words}" for words in advice(statement))
            own |= makes(statement)


async def tried(connection: Connection, steps: tuple[Step, ...], patience: Patience) -> tuple[str, ...]:
    """Lines for people. Raises MigrationError where a statement fails."""
    lines: list[str] = []
    transaction = connection.transaction()
    await transaction.start()
    try:
        for step in steps:
            if not step.migration.transactional:
                lines.append(
                    f"{_title(step.migration)}: cannot be taken back, so it is not tried, nor what comes after it"
                )
                break
            lines.append(_title(step.migration))
            for statement in step.migration.statements:
                lines += [*_shown(statement), *_lines(await _try(connection, step.migration, statement, patience))]
    finally:
        await transaction.rollback()
    return tuple(lines)


async def _try(connection: Connection, migration: Migration, statement: Statement, patience: Patience) -> list[Lock]:
    before = await _taken(connection)
    await bound(connection, lock=patience.lock_timeout, statement=patience.hold)
    try:
        await connection.execute(statement.sql, timeout=patience.hold + LATE)
    except (*NO_LOCK, asyncpg.PostgresError) as error:
        where = f"{migration.file}, statement {statement.number} (line {statement.line})"
        raise MigrationError(f"{where}: {said(error)}; everything was taken back") from error
    return sorted(await _taken(connection) - before)


async def _taken(connection: Connection) -> set[Lock]:
    rows = await connection.fetch(_TAKEN, timeout=ANSWER)
    return {Lock(row["relation"], _spaced(row["mode"])) for row in rows}


def _spaced(mode: str) -> str:
    """``AccessExclusiveLock`` as ``ACCESS EXCLUSIVE``."""
    parts = "".join(f" {letter}" if letter.isupper() else letter for letter in mode.removesuffix("Lock"))
    return parts.strip().upper()


def _title(migration: Migration) -> str:
    return f"{migration.file} ({'one transaction' if migration.transactional else 'each statement by itself'})"


def _shown(statement: Statement) -> Iterator[str]:
    first, *more = statement.sql.splitlines()
    yield f"  {statement.number:>3} {first}"
    yield from (f"      {line}" for line in more)


def _lines(found: list[Lock] | None) -> Iterator[str]:
    if found is None:
        yield "        locks: not known beforehand; --try shows them"
        return
    for lock in found:
        waiting = f": {lock.holds_up} wait" if lock.holds_up else ""
        yield f"        {lock}{waiting}"
