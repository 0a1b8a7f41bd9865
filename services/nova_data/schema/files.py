"""Migrations as files: a folder of `0001_name.sql`, each checked before the first one touches a database.

    -- nova: no-transaction
    CREATE INDEX CONCURRENTLY IF NOT EXISTS posts_by_user ON posts (user_id, created_at DESC);

The comments at the head of a file may hold one line that begins with ``-- nova:`` and has words after it:

    no-transaction  its statements run each by itself; PostgreSQL asks for it with CONCURRENTLY
    may-block       it may hold up traffic longer than `hold`, on a table that nobody uses yet

Rules:

* A file is one transaction, so that it is there or is not there. Where it cannot be one, it may have to be run again
  from the statement at which it ended, so each statement should be one that can be repeated (IF NOT EXISTS).
* The checksum is that of the text with line feeds for line ends: a checkout on another system changes nothing.
* A ConfigMap's folder is a folder: links are followed, and what does not end with .sql is somebody else's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from nova_data.errors import MigrationError
from nova_data.schema.locks import needs_no_transaction
from nova_data.schema.statements import SqlError, Statement, statements

NAME: Final = re.compile(r"([0-9]{4,9})_[a-z0-9][a-z0-9_-]{0,100}\.sql")
LARGEST: Final = 1024 * 1024
"""Bytes of a file: what a ConfigMap holds."""
WORDS: Final = frozenset({"no-transaction", "may-block"})
_DIRECTIVE: Final = re.compile(r"^\s*--\s*nova:(.*)$", re.MULTILINE)
_HEAD: Final = re.compile(r"(?:\s*--[^\n]*\n)*\s*(?:--[^\n]*)?")


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """A file, read and checked."""

    version: int
    file: str
    checksum: str
    statements: tuple[Statement, ...]
    words: frozenset[str] = frozenset()

    @property
    def transactional(self) -> bool:
        """Whether all of it is one transaction."""
        return "no-transaction" not in self.words

    def checksum_of(self, count: int) -> str:
        """Checksum of its first statements."""
        return _digest("\0".join(statement.sql for statement in self.statements[:count]))


def read_folder(folder: Path) -> tuple[Migration, ...]:
    """The migrations of a folder, by version. Raises MigrationError naming the file and the rule."""
    if not folder.is_dir():
        raise MigrationError(f"{folder}: expected a folder with migrations such as 0001_users.sql")
    found = [read_file(path) for path in sorted(folder.glob("*.sql"))]
    if not found:
        raise MigrationError(f"{folder}: expected at least one migration such as 0001_users.sql, found no .sql file")
    by_version: dict[int, Migration] = {}
    for migration in found:
        twin = by_version.setdefault(migration.version, migration)
        if twin is not migration:
            raise MigrationError(f"{migration.file}: {twin.file} has the same number; give it the next free one")
    return tuple(by_version[version] for version in sorted(by_version))


def read_file(path: Path) -> Migration:
    """Raises MigrationError."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path.name}: expected a name such as 0007_add_state.sql, in lower case")
    try:
        data = path.read_bytes()
        text = data.decode().replace("\r\n", "\n").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"{path.name}: cannot be read as UTF-8: {error}") from error
    if len(data) > LARGEST:
        raise MigrationError(f"{path.name}: expected at most {LARGEST} bytes, got {len(data)}")
    return migration(path.name, int(match[1]), text)


def migration(file: str, version: int, text: str) -> Migration:
    """A migration from its text. Raises MigrationError."""
    if (nul := text.find("\0")) >= 0:  # the parser takes it for the end, and what follows would never be applied
        raise MigrationError(f"{file}, line {text.count(chr(10), 0, nul) + 1}: expected text without NUL")
    words = _words(file, text)
    try:
        found = statements(text)
    except SqlError as error:
        raise MigrationError(f"{file}, line {error.line}: {error}") from error
    if not found:
        raise MigrationError(f"{file}: expected at least one statement")
    read = Migration(version=version, file=file, checksum=_digest(text), statements=found, words=words)
    for statement in found:
        _check(read, statement)
    return read


def _words(file: str, text: str) -> frozenset[str]:
    head = _HEAD.match(text)
    end = head.end() if head else 0
    found: set[str] = set()
    for match in _DIRECTIVE.finditer(text):
        if match.start() >= end:
            line = text.count("\n", 0, match.start(1)) + 1
            raise MigrationError(
                f"{file}, line {line}: `-- nova:` belongs at the head of the file, before any statement"
            )
        found |= set(match[1].replace(",", " ").split())
    if unknown := sorted(found - WORDS):
        raise MigrationError(f"{file}: expected {_or(sorted(WORDS))} after `-- nova:`, got {unknown[0]!r}")
    return frozenset(found)


def _check(read: Migration, statement: Statement) -> None:
    where = f"{read.file}, statement {statement.number} (line {statement.line})"
    if statement.kind == "transaction_stmt":
        raise MigrationError(f"{where}: BEGIN, COMMIT and ROLLBACK are left to Nova; use one file for each transaction")
    if statement.kind == "copy_stmt" and not statement.node.filename and statement.node.is_from:
        raise MigrationError(f"{where}: COPY FROM STDIN has no data here; use INSERT")
    if read.transactional and needs_no_transaction(statement):
        raise MigrationError(f"{where}: cannot run in a transaction; put `-- nova: no-transaction` at the file's head")
    if statement.kind == "index_stmt" and statement.node.concurrent and not statement.node.idxname:
        raise MigrationError(f"{where}: give the index a name, by which a broken one is found again")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)
