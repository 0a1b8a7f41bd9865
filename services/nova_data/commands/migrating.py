"""What `nova-data migrate` does once it has a connection."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from random import Random

from nova_data.commands.changing import patience_of, say
from nova_data.errors import MigrationError
from nova_data.schema.database import Connection
from nova_data.schema.files import Migration, read_folder
from nova_data.schema.ledger import Entry, Ledger, whose
from nova_data.schema.migrate import Migrator, pending
from nova_data.schema.trial import foreseen, tried


async def migrate(given: argparse.Namespace, connection: Connection) -> int:
    """Whichever of its ways was asked for. Raises MigrationError, DatabaseError."""
    folder = read_folder(given.folder)
    ledger = Ledger(connection, await whose(connection, given.service))
    if given.status:
        return _show(folder, (await ledger.known(folder))[1])
    if given.accept is not None:
        return await _accept(ledger, folder, given.accept)
    if given.dry_run or given.trial:
        return await _preview(given, ledger, folder)
    random = Random()  # noqa: S311 - jitter, no secret
    migrator = Migrator(connection, patience_of(given), random=random, say=say, service=ledger.service)
    done = await migrator.run(folder)
    if done.ahead:
        say(f"the database is ahead of this folder by {', '.join(done.ahead)}")
    say(f"{len(done.applied)} applied, {done.before} were applied before")
    return 0


async def _preview(given: argparse.Namespace, ledger: Ledger, folder: tuple[Migration, ...]) -> int:
    todo, _ = await pending(ledger, folder)
    if given.trial:
        lines: Iterable[str] = await tried(ledger.connection, todo.steps, patience_of(given))
    else:
        lines = foreseen(todo.steps)
    for line in lines:
        print(line)
    say(f"{len(todo.steps)} pending, {todo.applied} applied")
    return 0


async def _accept(ledger: Ledger, folder: tuple[Migration, ...], version: int) -> int:
    migration = next((one for one in folder if one.version == version), None)
    await ledger.install()
    where, _ = await ledger.known(folder)
    if migration is None or not await where.accept(migration):
        raise MigrationError(f"--accept {version}: there is no such file, or it was not applied")
    say(f"{migration.file}: its content now counts as the one that was applied")
    return 0


def _show(folder: tuple[Migration, ...], entries: tuple[Entry, ...]) -> int:
    known = {entry.version: entry for entry in entries}
    names = {**{entry.version: entry.file for entry in entries}, **{one.version: one.file for one in folder}}
    for version in sorted(names):
        print(f"{names[version]:<40} {_state(known.get(version))}")
    return 0


def _state(entry: Entry | None) -> str:
    if entry is None:
        return "pending"
    if entry.state == "applied":
        return f"applied {entry.changed_at} UTC in {entry.seconds or 0:.2f} s"
    if entry.state == "running":
        return f"running since {entry.changed_at} UTC, or ended without a word; {entry.done} statements stand"
    return f"failed {entry.changed_at} UTC at statement {entry.statement or 1}: {entry.error}"
