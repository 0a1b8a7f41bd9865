"""What has been applied, kept in the database that it was applied to: the table `nova_migrations`.

    applied  all of the file, with this checksum
    failed   a statement was refused; which one, and with which words, stands beside it
    running  a file without transaction is being applied, or was when its process ended

Each service that shares the database has a part of its own, by its name. What was applied before services had names is
under the empty one, and becomes that of the first service whose folder follows from it; `nova-data migrate` by hand
means the only part that there is, if nobody is named.

A file that is a transaction writes its row in that transaction, so that the two are there together or not at all. Of
one that is none, `done` counts the statements that are behind it, and `done_checksum` what they were.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from nova_data.errors import MigrationError
from nova_data.schema.database import ANSWER, Connection, bound
from nova_data.schema.files import Migration

TABLE: Final = """\
CREATE TABLE IF NOT EXISTS nova_migrations (
    service       text NOT NULL DEFAULT '',
    version       bigint NOT NULL,
    file          text NOT NULL,
    checksum      text NOT NULL,
    state         text NOT NULL CHECK (state IN ('applied', 'failed', 'running')),
    done          integer NOT NULL DEFAULT 0,
    done_checksum text NOT NULL DEFAULT '',
    statement     integer,
    error         text,
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds       double precision,
    PRIMARY KEY (service, version)
)"""
NOBODY: Final = ""
"""The name of the part in which stands what was applied before services had names."""
LOCK: Final = 5.0
"""Seconds to wait for whoever reads the table, when it is brought up to this version."""
_SERVICE: Final = "coalesce(to_jsonb(entry) ->> 'service', '')"
"""Of a row, in a table that may be from before."""

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


class Ledger:
    """The part of one service."""

    def __init__(self, connection: Connection, service: str) -> None:
        self.connection = connection
        self.service = service

    def __repr__(self) -> str:
        return f"<Ledger of {self.service or 'nobody'}>"

    async def install(self) -> None:
        """Make the table where it is missing, or bring it up to this version. Asked for first: IF NOT EXISTS asks for
        the right to create all the same."""
        if not await _is_there(self.connection):
            await self.connection.execute(TABLE, timeout=ANSWER)
        elif not await self.connection.fetchval(_HAS_SERVICES, timeout=ANSWER):
            async with self.connection.transaction():
                await bound(self.connection, lock=LOCK, statement=ANSWER)
                await self.connection.execute(_UPGRADE, timeout=ANSWER)

    async def read(self) -> tuple[Entry, ...]:
        """Its rows, by version; none where there is no table."""
        if not await _is_there(self.connection):
            return ()
        rows = await self.connection.fetch(
            "SELECT version, file, checksum, state, done, done_checksum, statement, error, seconds,"
            " to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS changed_at"
            f" FROM nova_migrations AS entry WHERE {_SERVICE} = $1 ORDER BY version",
            self.service,
            timeout=ANSWER,
        )
        return tuple(Entry(**dict(row)) for row in rows)

    async def known(self, folder: tuple[Migration, ...]) -> tuple[Ledger, tuple[Entry, ...]]:
        """The part in which its rows are, and these: its own or, where it has none, those of nobody if they may be of
        the service whose folder this is."""
        own = await self.read()
        nobodys = Ledger(self.connection, NOBODY)
        if not own and self.service != NOBODY and _may_be(folder, rows := await nobodys.read()):
            return nobodys, rows
        return self, own

    async def claim(self) -> None:
        """What is nobody's becomes this service's."""
        await self.connection.execute(
            "UPDATE nova_migrations SET service = $1 WHERE service = $2", self.service, NOBODY, timeout=ANSWER
        )

    async def write(
        self,
        migration: Migration,
        state: State,
        *,
        done: int,
        statement: int | None = None,
        error: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Write how far a migration has come; `seconds` is how long it took."""
        await self.connection.execute(
            "INSERT INTO nova_migrations"
            " (service, version, file, checksum, state, done, done_checksum, statement, error, seconds)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (service, version) DO UPDATE SET (file,"
            " checksum, state, done, done_checksum, statement, error, seconds, changed_at) = (excluded.file,"
            " excluded.checksum, excluded.state, excluded.done, excluded.done_checksum, excluded.statement,"
            " excluded.error, excluded.seconds, clock_timestamp())",
            self.service,
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

    async def accept(self, migration: Migration) -> bool:
        """Take over the checksum of a file that was applied with another one; whether there was such a row."""
        done = await self.connection.execute(
            "UPDATE nova_migrations SET checksum = $2, file = $3 WHERE version = $1 AND state = 'applied'"
            " AND service = $4",
            migration.version,
            migration.checksum,
            migration.file,
            self.service,
            timeout=ANSWER,
        )
        return bool(done == "UPDATE 1")


async def whose(connection: Connection, named: str | None) -> str:
    """The service whose part is meant: the one that is named, else the only one. Raises MigrationError."""
    if named is not None or not await _is_there(connection):
        return named or NOBODY
    query = f"SELECT DISTINCT {_SERVICE} FROM nova_migrations AS entry ORDER BY 1"
    there = [str(row[0]) for row in await connection.fetch(query, timeout=ANSWER)]
    if len(there) > 1 and NOBODY not in there:
        raise MigrationError(
            f"several services have migrations in this database: name one with --service, of {', '.join(there)}"
        )
    return there[0] if there else NOBODY


def _may_be(folder: tuple[Migration, ...], nobodys: tuple[Entry, ...]) -> bool:
    """A file of it has the same name."""
    files = {(migration.version, migration.file) for migration in folder}
    return any((entry.version, entry.file) in files for entry in nobodys)


async def _is_there(connection: Connection) -> bool:
    return await connection.fetchval("SELECT to_regclass('nova_migrations')", timeout=ANSWER) is not None


_HAS_SERVICES: Final = (
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'nova_migrations'::regclass AND attname = 'service'"
    " AND NOT attisdropped)"
)
_UPGRADE: Final = """\
DO $$ BEGIN
    EXECUTE (
        SELECT 'ALTER TABLE nova_migrations DROP CONSTRAINT ' || quote_ident(conname)
        FROM pg_constraint WHERE conrelid = 'nova_migrations'::regclass AND contype = 'p'
    );
    ALTER TABLE nova_migrations ADD COLUMN service text NOT NULL DEFAULT '', ADD PRIMARY KEY (service, version);
END $$"""
