"""Applies migrations, one file after the other, without making the traffic wait (`patience`).

    lock the database for migrators → read the ledger → agenda → each file: try, and try again while locks are taken

Killed at any moment, the next run goes on: a file that is a transaction is in the ledger or has not happened. Of one
that is none, the statement that was under way may have happened, and is run again; an index that was being built is
found broken, dropped and built again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Final

import asyncpg
import msgspec

from nova_data.errors import MigrationError
from nova_data.schema.agenda import Agenda, Step, agenda
from nova_data.schema.database import ANSWER, LATE, NO_LOCK, Connection, alone, bound, oldest_transaction, said
from nova_data.schema.files import Migration
from nova_data.schema.index_state import index_state
from nova_data.schema.ledger import NOBODY, Ledger, whose
from nova_data.schema.locks import advice, holds_up, makes, waits_harmlessly
from nova_data.schema.patience import Patience
from nova_data.schema.statements import Statement, quoted

MIGRATORS: Final = 1
"""What the advisory lock of migrators is called."""

_OWN_SESSION: Final = "RESET ALL; RESET ROLE; RESET SESSION AUTHORIZATION"
"""What a file sets (a dump empties search_path) is its own: neither the ledger nor the next file is led astray."""

Say = Callable[[str], None]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has come to."""

    applied: tuple[str, ...]
    """Files that were applied just now."""

    before: int
    """How many had been applied before."""

    ahead: tuple[str, ...]
    """Files that the database has and the folder has not."""


class Migrator:
    """Applies a folder to one database, as the service that is named (see `ledger`). `say` is told of every step, in a
    line for people."""

    def __init__(
        self,
        connection: Connection,
        patience: Patience,
        *,
        random: Random,
        say: Say = lambda _: None,
        service: str | None = None,
    ) -> None:
        self._connection = connection
        self._service = service
        self._ledger = Ledger(connection, service or NOBODY)
        self._patience = patience
        self._random = random
        self._say = say
        self._started = time.monotonic()

    async def run(self, folder: tuple[Migration, ...]) -> Done:
        """Apply what the database has not. Raises MigrationError, DatabaseError; what was applied before that stays."""
        async with alone(self._connection, MIGRATORS, self._patience, self._random):
            self._ledger = Ledger(self._connection, await whose(self._connection, self._service))
            await self._ledger.install()
            todo, claims = await pending(self._ledger, folder)
            if claims:
                await self._ledger.claim()
            for step in todo.steps:
                await self._apply(step)
        return Done(applied=tuple(step.migration.file for step in todo.steps), before=todo.applied, ahead=todo.ahead)

    async def _apply(self, step: Step) -> None:
        started = time.monotonic()
        await (self._as_transaction if step.migration.transactional else self._one_by_one)(step)
        self._say(f"{step.migration.file}: applied in {time.monotonic() - started:.2f} s")

    async def _as_transaction(self, step: Step) -> None:
        migration, started = step.migration, time.monotonic()
        attempt = _Attempt(migration, self._patience)
        while True:
            try:
                async with self._connection.transaction():
                    attempt.begin()
                    for statement in migration.statements:
                        await self._execute(attempt, statement)
                    seconds = time.monotonic() - started
                    await self._connection.execute(_OWN_SESSION, timeout=ANSWER)
                    await self._ledger.write(migration, "applied", done=0, seconds=seconds)
            except NO_LOCK as error:
                await self._wait(attempt, error)
            except asyncpg.PostgresError as error:
                raise await self._failed(attempt, 0, error) from error
            else:
                return

    async def _one_by_one(self, step: Step) -> None:
        migration, done, started = step.migration, step.done, time.monotonic()
        attempt = _Attempt(migration, self._patience)
        while done < len(migration.statements):
            await self._ledger.write(migration, "running", done=done)
            try:
                attempt.begin()
                statement = migration.statements[done]
                await self._drop_broken(statement)
                await self._execute(attempt, statement)
            except NO_LOCK as error:
                await self._wait(attempt, error)
            except asyncpg.PostgresError as error:
                raise await self._failed(attempt, done, error) from error
            else:
                done += 1
        seconds = time.monotonic() - started
        await self._connection.execute(_OWN_SESSION, timeout=ANSWER)
        await self._ledger.write(migration, "applied", done=done, seconds=seconds)

    async def _execute(self, attempt: _Attempt, statement: Statement) -> None:
        """Run one statement within what is left of the times."""
        limit = attempt.limit(statement, self._patience.left(self._elapsed))
        lock = 0.0 if waits_harmlessly(statement) else self._patience.lock_timeout
        await bound(self._connection, lock=lock, statement=limit)
        await self._connection.execute(statement.sql, timeout=limit + LATE)

    async def _drop_broken(self, statement: Statement) -> None:
        if statement.kind != "index_stmt" or not statement.node.concurrent:
            return
        relation, index = statement.node.relation, statement.node.idxname
        if await index_state(self._connection, quoted(relation.schemaname, relation.relname), index) == "invalid":
            self._say(f"index {index}: left broken by a run that failed; it is built again")
            await bound(self._connection, lock=0.0, statement=self._patience.left(self._elapsed))
            await self._connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(relation.schemaname, index)}")

    async def _wait(self, attempt: _Attempt, error: Exception) -> None:
        attempt.tries += 1
        pause = self._patience.pause(attempt.tries, self._elapsed, self._random)
        who = await oldest_transaction(self._connection)
        if pause is None:
            await self._note(attempt, attempt.stands, f"no lock: {said(error)}")
            raise MigrationError(
                f"{attempt.where}: got no lock in {attempt.tries} tries ({said(error)}); {who}; nothing of it was "
                "applied: end that transaction, or run it at another time"
            ) from error
        self._say(f"{attempt.where}: no lock ({said(error)}); {who}; next try in {pause:.1f} s")
        await asyncio.sleep(pause)

    async def _failed(self, attempt: _Attempt, done: int, error: asyncpg.PostgresError) -> MigrationError:
        words = said(error)
        if isinstance(error, asyncpg.QueryCanceledError):
            words = attempt.too_long(self._patience)
        await self._note(attempt, done, words)
        stands = f"the {done} statements before it stand" if done else "nothing of the file was applied"
        return MigrationError(f"{attempt.where}: {words}; {stands}: correct the file and run it again")

    async def _note(self, attempt: _Attempt, done: int, words: str) -> None:
        statement = attempt.statement.number if attempt.statement else None
        await self._ledger.write(attempt.migration, "failed", done=done, statement=statement, error=words)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started


async def pending(ledger: Ledger, folder: tuple[Migration, ...]) -> tuple[Agenda, bool]:
    """What is to be done, and whether it follows from what is nobody's yet, which is to be claimed first. Raises
    MigrationError."""
    where, entries = await ledger.known(folder)
    if where is ledger:
        return agenda(folder, entries), False
    try:
        return agenda(folder, entries), True
    except MigrationError as error:
        raise MigrationError(
            f"{error}; or, if that is of another service, run its migrations first: the ledger does not name it yet"
        ) from error


class _Attempt:
    """A file on its way: which statement it is at, and since when it holds up traffic, if it does."""

    def __init__(self, migration: Migration, patience: Patience) -> None:
        self.migration = migration
        self.statement: Statement | None = None
        self.tries = 0
        self.stands = 0
        """Statements that stand whatever becomes of the rest."""
        self._hold = patience.hold
        self._own: frozenset[str] = frozenset()
        self._since: float | None = None
        self._held = False
        """Whether it is that, and not the time for all, that ends the statement."""

    @property
    def where(self) -> str:
        """File, statement and line, for people."""
        if self.statement is None:
            return self.migration.file
        return f"{self.migration.file}, statement {self.statement.number} (line {self.statement.line})"

    def begin(self) -> None:
        """A new transaction: nothing is held."""
        self._own, self._since = frozenset(), None

    def limit(self, statement: Statement, left: float) -> float:
        """Seconds that a statement may take, of so many that are left of all."""
        self.stands = 0 if self.migration.transactional else statement.number - 1
        self.statement = statement
        blocks = holds_up(statement, self._own)
        self._own |= makes(statement)
        if "may-block" in self.migration.words or not (blocks or self._since is not None):
            self._held = False
            return left
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        holding = max(0.001, self._since + self._hold - now)
        self._held = holding <= left
        return min(left, holding)

    def too_long(self, patience: Patience) -> str:
        """What to say of a statement that ran out of time."""
        if not self._held:
            return f"not done within {patience.timeout:g} s (--timeout)"
        better = next(iter(advice(self.statement)), "part it, or say `-- nova: may-block`") if self.statement else ""
        return f"held up traffic for {patience.hold:g} s (--hold) and was taken back; {better}"
