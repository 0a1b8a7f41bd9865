"""What has been applied, kept in the database that it was applied to: the table `nova_migrations`.

    applied  all of the file, with this checksum
    failed   a statement was refused; which one, and with which words, stands beside it
    running  a file without transaction is being applied, or was when its process ended

A file that is a transaction writes its row in that transaction, so that the two are there together or not at all. Of
one that is none, `done` counts the statements that are behind it, and `done_checksum` what they were.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from nova_data.schema.database import ANSWER, Connection
from nova_data.schema.files import Migration

TABLE: Final = """\
CREATE TABLE IF NOT EXISTS nova_migrations (
    version       bigint PRIMARY KEY,
    file          text NOT NULL,
    checksum      text NOT NULL,
    state         text NOT NULL CHECK (state IN ('applied', 'failed', 'running')),
    done          integer NOT NULL DEFAULT 0,
    done_checksum text NOT NULL DEFAULT '',
    statement     integer,
    error         text,
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds       double precision
)"""

State = Literal["applied", "failed", "running"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row."""

    version: int
    file: str
    checksum: str
    state: State
    done: int = 0
    done_checksum: str = ""
    statement: int | None = None
    error: str | None = None
    changed_at: str = ""
    seconds: float | None = None


async def install(connection: Connection) -> None:
    """Make the table where it is missing. Asked for first: IF NOT EXISTS asks for the right to create all the same."""
    if await connection.fetchval("SELECT to_regclass('nova_migrations')", timeout=ANSWER) is None:
        await connection.execute(TABLE, timeout=ANSWER)


async def read(connection: Connection) -> tuple[Entry, ...]:
    """All rows, by version; none where there is no table."""
    if await connection.fetchval("SELECT to_regclass('nova_migrations')", timeout=ANSWER) is None:
        return ()
    rows = await connection.fetch(
        "SELECT version, file, checksum, state, done, done_checksum, statement, error, seconds,"
        " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS changed_at"
        " FROM nova_migrations ORDER BY version",
        timeout=ANSWER,
    )
    return tuple(Entry(**dict(row)) for row in rows)


async def write(
    connection: Connection,
    migration: Migration,
    state: State,
    *,
    done: int,
    statement: int | None = None,
    error: str | None = None,
    seconds: float | None = None,
) -> None:
    """Write how far a migration has come; `seconds` is how long it took."""
    await connection.execute(
        "INSERT INTO nova_migrations (version, file, checksum, state, done, done_checksum, statement, error, seconds)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (version) DO UPDATE SET (file, checksum, state, done,"
        " done_checksum, statement, error, seconds, changed_at) = (excluded.file, excluded.checksum, excluded.state,"
        " excluded.done, excluded.done_checksum, excluded.statement, excluded.error, excluded.seconds,"
        " clock_timestamp())",
        migration.version,
        migration.file,
        migration.checksum,
        state,
        done,
        migration.checksum_of(done),
        statement,
        error,
        seconds,
        timeout=ANSWER,
    )


async def accept(connection: Connection, migration: Migration) -> bool:
    """Take over the checksum of a file that was applied with another one; whether there was such a row."""
    done = await connection.execute(
        "UPDATE nova_migrations SET checksum = $2, file = $3 WHERE version = $1 AND state = 'applied'",
        migration.version,
        migration.checksum,
        migration.file,
        timeout=ANSWER,
    )
    return bool(done == "UPDATE 1")
