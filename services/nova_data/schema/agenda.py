"""What is to be done: the files of a folder against what has been applied. Pure.

Rules:

* What was applied stays as it was: a file with another content is refused, for nobody could tell what the database has.
* Files are applied in the order of their numbers; one that is numbered below what was applied is refused, since other
  databases have seen them in another order.
* A database that is ahead is no error: an older version of the service was put back, and its schema has to do for both.
* A file that failed is tried again, changed or not, as long as the statements of it that stand are as they were.
"""

from __future__ import annotations

import msgspec

from nova_data.errors import MigrationError
from nova_data.schema.files import Migration
from nova_data.schema.ledger import Entry


class Step(msgspec.Struct, frozen=True):
    """A migration to apply, from the statement after the first `done`."""

    migration: Migration
    done: int = 0


class Agenda(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, and what the database has beyond the folder."""

    steps: tuple[Step, ...]
    applied: int
    ahead: tuple[str, ...] = ()
    """Files that were applied and are not in the folder, all of them behind its last one."""


def agenda(folder: tuple[Migration, ...], entries: tuple[Entry, ...]) -> Agenda:
    """Raises MigrationError, before anything is done, for a folder that does not follow from what was applied."""
    known = {entry.version: entry for entry in entries}
    last = folder[-1].version
    here = {migration.version for migration in folder}
    gone = (one for one in entries if one.version not in here and one.version < last and one.state == "applied")
    for one in gone:
        raise MigrationError(f"{one.file} was applied on {one.changed_at} and is missing; put the file back")
    newest = max((entry.version for entry in entries if entry.state == "applied"), default=0)
    steps = []
    for migration in folder:
        entry = known.get(migration.version)
        if entry is not None and entry.state == "applied":
            _refuse_changed(migration, entry)
        elif migration.version < newest and entry is None:
            raise MigrationError(
                f"{migration.file}: number {newest} was applied before it; give it a number above {newest}"
            )
        else:
            steps.append(Step(migration, _done(migration, entry)))
    return Agenda(
        steps=tuple(steps),
        applied=len(folder) - len(steps),
        ahead=tuple(entry.file for entry in entries if entry.version > last and entry.state == "applied"),
    )


def _refuse_changed(migration: Migration, entry: Entry) -> None:
    if migration.checksum != entry.checksum and migration.file != entry.file:
        raise MigrationError(
            f"{migration.file}: {entry.file} was applied under this number; give it another one, or name the service "
            "with --service where these are another's migrations than those that the database has"
        )
    if migration.checksum != entry.checksum:
        raise MigrationError(
            f"{migration.file} was applied on {entry.changed_at} with another content (checksum {entry.checksum[:12]}, "
            f"now {migration.checksum[:12]}); put the old content back and make the change in a new file, or, if both "
            f"do the same, take the new one over with --accept {migration.version}"
        )


def _done(migration: Migration, entry: Entry | None) -> int:
    """Statements of it that stand."""
    if entry is None or entry.done == 0:
        return 0
    if migration.transactional or migration.checksum_of(entry.done) != entry.done_checksum:
        raise MigrationError(
            f"{migration.file}: its first {entry.done} statements were applied before it ended, and have another "
            "content now; put them back as they were, and change what comes after them"
        )
    return entry.done
