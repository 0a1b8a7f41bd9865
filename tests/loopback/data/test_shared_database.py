"""Services that share a database: each has a part of the ledger, and what was there before has an owner."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from nova_data.errors import MigrationError
from nova_data.schema.files import read_folder
from nova_data.schema.migrate import Done, Migrator
from nova_data.schema.patience import Patience

from .database import Database

QUICK = Patience(lock_timeout=0.2, hold=2.0, timeout=20.0)
BEFORE = """\
CREATE TABLE nova_migrations (
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
"""As it was before services had names."""


def folder(tmp_path: Path, name: str, **files: str) -> Path:
    made = tmp_path / name
    made.mkdir(exist_ok=True)
    for file, text in files.items():
        (made / f"{file.lstrip('_')}.sql").write_text(text)
    return made


def migrate(database: Database, files: Path, service: str | None) -> Done:
    async def work(connection: Any) -> Done:
        return await Migrator(connection, QUICK, random=Random(1), service=service).run(read_folder(files))

    return database.do(work)


def ledger(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT service, version, state FROM nova_migrations ORDER BY 1, 2")


def as_before(database: Database, files: Path) -> None:
    """What an earlier version had applied, and its ledger."""
    database.sql(BEFORE)
    for one in read_folder(files):
        database.sql("; ".join(statement.sql for statement in one.statements))
        row = f"({one.version}, '{one.file}', '{one.checksum}', 'applied')"
        database.sql(f"INSERT INTO nova_migrations (version, file, checksum, state) VALUES {row}")


def test_the_same_numbers_of_two_services_do_not_meet(database: Database, tmp_path: Path) -> None:
    users = folder(
        tmp_path, "users", _0001_init="CREATE TABLE users (id int)", _0002_mail="ALTER TABLE users ADD m text"
    )
    posts = folder(tmp_path, "posts", _0001_init="CREATE TABLE posts (id int)")
    assert migrate(database, users, "users").applied == ("0001_init.sql", "0002_mail.sql")
    assert migrate(database, posts, "posts").applied == ("0001_init.sql",)
    assert migrate(database, users, "users").before == 2
    expected = [("posts", 1, "applied"), ("users", 1, "applied"), ("users", 2, "applied")]
    assert ledger(database) == expected


def test_a_ledger_from_before_becomes_that_of_its_service(database: Database, tmp_path: Path) -> None:
    users = folder(
        tmp_path, "users", _0001_users="CREATE TABLE users (id int)", _0002_mail="ALTER TABLE users ADD m text"
    )
    as_before(database, users)
    (users / "0003_name.sql").write_text("ALTER TABLE users ADD name text")
    done = migrate(database, users, "users")
    assert (done.applied, done.before) == (("0003_name.sql",), 2)
    assert {service for service, *_ in ledger(database)} == {"users"}
    posts = folder(tmp_path, "posts", _0001_posts="CREATE TABLE posts (id int)")
    assert migrate(database, posts, "posts").applied == ("0001_posts.sql",)


def test_what_is_ahead_of_the_folder_stays_with_it(database: Database, tmp_path: Path) -> None:
    users = folder(
        tmp_path, "users", _0001_users="CREATE TABLE users (id int)", _0002_mail="ALTER TABLE users ADD m text"
    )
    as_before(database, users)
    (users / "0002_mail.sql").unlink()  # the service was put back to the version before
    assert migrate(database, users, "users").ahead == ("0002_mail.sql",)
    assert ledger(database) == [("users", 1, "applied"), ("users", 2, "applied")]


def test_another_services_ledger_is_not_taken(database: Database, tmp_path: Path) -> None:
    users = folder(tmp_path, "users", _0001_init="CREATE TABLE users (id int)")
    as_before(database, users)
    posts = folder(tmp_path, "posts", _0001_init="CREATE TABLE posts (id int)")
    with pytest.raises(MigrationError, match="if that is of another service, run its migrations first"):
        migrate(database, posts, "posts")
    assert ledger(database) == [("", 1, "applied")]
    assert migrate(database, users, "users").before == 1
    assert migrate(database, posts, "posts").applied == ("0001_init.sql",)


def test_without_a_name_it_is_the_only_one_that_there_is(database: Database, tmp_path: Path) -> None:
    users = folder(tmp_path, "users", _0001_users="CREATE TABLE users (id int)")
    assert migrate(database, users, "users").applied == ("0001_users.sql",)
    assert migrate(database, users, None).before == 1
    status = database.command("migrate", users, "--status")
    assert "applied" in status.stdout
    posts = folder(tmp_path, "posts", _0001_posts="CREATE TABLE posts (id int)")
    migrate(database, posts, "posts")
    with pytest.raises(MigrationError, match="name one with --service, of posts, users"):
        migrate(database, users, None)
    named = database.command("migrate", posts, "--service", "posts", "--status")
    assert (named.returncode, "0001_posts.sql" in named.stdout, "applied" in named.stdout) == (0, True, True)


def test_a_ledger_from_before_is_read_without_being_changed(database: Database, tmp_path: Path) -> None:
    users = folder(tmp_path, "users", _0001_users="CREATE TABLE users (id int)")
    as_before(database, users)
    for words in (("--status",), ("--dry-run",), ("--status", "--service", "users")):
        done = database.command("migrate", users, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "pending, 1 applied" in done.stdout or "applied 2" in done.stdout
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'nova_migrations'::regclass AND attname = 'service'"
    assert database.value(columns) == 0
