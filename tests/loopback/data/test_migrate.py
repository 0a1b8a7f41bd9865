"""Migrations on a real PostgreSQL: what is applied, what is left by a failure, and who waits meanwhile."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from nova_data.errors import MigrationError
from nova_data.schema.agenda import Step
from nova_data.schema.files import migration, read_folder
from nova_data.schema.locks import MODES, locks
from nova_data.schema.migrate import Done, Migrator
from nova_data.schema.patience import Patience
from nova_data.schema.statements import statements
from nova_data.schema.trial import tried
from tests.loopback.support.postgresserver import Server
from tests.loopback.support.waiting import eventually

from .database import Database

QUICK = Patience(lock_timeout=0.2, hold=2.0, timeout=20.0)
USERS = "CREATE TABLE users (id int PRIMARY KEY, name text);"


def write(folder: Path, **files: str) -> Path:
    """Files by number and name: ``_0001_users="…"``."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.lstrip('_')}.sql").write_text(text)
    return folder


def migrate(database: Database, folder: Path, patience: Patience = QUICK) -> tuple[Done, list[str]]:
    said: list[str] = []

    async def work(connection: Any) -> Done:
        return await Migrator(connection, patience, random=Random(1), say=said.append).run(read_folder(folder))

    return database.do(work), said


def states(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("SELECT version, state, done, statement FROM nova_migrations ORDER BY version")


def test_what_is_new_is_applied_once_and_in_order(database: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", _0001_users=USERS, _0002_mail="ALTER TABLE users ADD mail text; SELECT 1")
    assert migrate(database, folder)[0].applied == ("0001_users.sql", "0002_mail.sql")
    write(folder, _0003_index="-- nova: no-transaction\nCREATE INDEX CONCURRENTLY users_mail ON users (mail)")
    done, _ = migrate(database, folder)
    assert (done.applied, done.before) == (("0003_index.sql",), 2)
    assert migrate(database, folder)[0].applied == ()
    assert states(database) == [(1, "applied", 0, None), (2, "applied", 0, None), (3, "applied", 1, None)]


def test_a_transaction_that_fails_leaves_nothing_and_says_where(database: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", _0001_users=f"{USERS}\nINSERT INTO users VALUES (1);\nINSERT INTO users VALUES (1);")
    with pytest.raises(MigrationError) as raised:
        migrate(database, folder)
    assert str(raised.value).startswith("0001_users.sql, statement 3 (line 3): duplicate key value")
    assert "nothing of the file was applied" in str(raised.value)
    assert database.value("SELECT to_regclass('users')") is None
    assert states(database) == [(1, "failed", 0, 3)]
    write(folder, _0001_users=USERS)
    assert migrate(database, folder)[0].applied == ("0001_users.sql",)
    assert states(database) == [(1, "applied", 0, None)]


def test_what_a_file_sets_is_its_own(database: Database, tmp_path: Path) -> None:
    dump = "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.a (i int);"
    migrate(database, write(tmp_path, _0001_dump=dump, _0002_b="CREATE TABLE b (i int);"))
    assert database.value("SELECT to_regclass('public.b')::text") == "b"


def test_details_of_an_error_which_hold_values_are_told_to_nobody(database: Database, tmp_path: Path) -> None:
    twice = "INSERT INTO users VALUES (1, 'ada@example.org'), (2, 'ada@example.org');"
    folder = write(tmp_path / "m", _0001_users=f"{USERS}{twice}CREATE UNIQUE INDEX u ON users (name)")
    with pytest.raises(MigrationError) as raised:
        migrate(database, folder)
    assert "could not create unique index" in str(raised.value)
    assert "ada" not in str(raised.value) + database.value("SELECT error FROM nova_migrations")


def test_statements_that_stand_are_not_run_again(database: Database, tmp_path: Path) -> None:
    head = f"-- nova: no-transaction\n{USERS}\nINSERT INTO users VALUES (1);\n"
    folder = write(tmp_path / "m", _0001_users=f"{head}INSERT INTO nobody VALUES (1);")
    with pytest.raises(MigrationError, match="the 2 statements before it stand"):
        migrate(database, folder)
    assert states(database) == [(1, "failed", 2, 3)]
    write(folder, _0001_users=f"{head}INSERT INTO users VALUES (2);")
    migrate(database, folder)
    assert database.rows("SELECT id FROM users ORDER BY id") == [(1,), (2,)]


def test_an_index_that_a_failure_left_broken_is_built_again(database: Database, tmp_path: Path) -> None:
    database.sql(f"{USERS}INSERT INTO users VALUES (1, 'a'), (2, 'a')")
    unique = "-- nova: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS users_name ON users (name)"
    folder = write(tmp_path / "m", _0001_index=unique)
    with pytest.raises(MigrationError, match="could not create unique index"):
        migrate(database, folder)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass"
    assert database.value(valid) is False
    database.sql("DELETE FROM users WHERE id = 2")
    _, said = migrate(database, folder)
    assert "index users_name: left broken by a run that failed; it is built again" in said
    assert database.value(valid) is True


def test_migrators_at_the_same_time_apply_each_file_once(database: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", _0001_users=USERS, _0002_row="INSERT INTO users VALUES (1)")

    async def main() -> list[int]:
        async def one(seed: int) -> int:
            connection = await asyncpg.connect(database.url)
            try:
                return len((await Migrator(connection, QUICK, random=Random(seed)).run(read_folder(folder))).applied)
            finally:
                await connection.close()

        return await asyncio.gather(*map(one, range(4)))

    assert sorted(asyncio.run(main())) == [0, 0, 0, 2]


async def _slowest_write(url: str, until: asyncio.Event) -> float:
    """The longest that a writer of users had to wait, in seconds, until somebody says that it is enough."""
    writer, slowest = await asyncpg.connect(url), 0.0
    try:
        while not until.is_set():
            started = time.monotonic()
            await writer.execute("UPDATE users SET name = name WHERE id = 1")
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.001)
    finally:
        await writer.close()
    return slowest


@pytest.mark.alone
def test_writers_wait_no_longer_than_the_lock_timeout_for_a_migration_that_waits(
    database: Database, tmp_path: Path
) -> None:
    database.sql(f"{USERS}INSERT INTO users VALUES (1)")
    folder = read_folder(write(tmp_path / "m", _0001_mail="ALTER TABLE users ADD mail text"))
    said: list[str] = []

    async def main() -> float:
        reader, connection = await asyncpg.connect(database.url), await asyncpg.connect(database.url)
        transaction, enough = reader.transaction(), asyncio.Event()
        await transaction.start()
        await reader.fetchval("SELECT count(*) FROM users")  # a long report, say
        slowest = asyncio.create_task(_slowest_write(database.url, enough))
        migrating = asyncio.create_task(Migrator(connection, QUICK, random=Random(1), say=said.append).run(folder))
        while len(said) < 2:  # noqa: ASYNC110 - a list, not an event
            await asyncio.sleep(0.01)
        await transaction.rollback()
        await migrating
        enough.set()
        await reader.close()
        await connection.close()
        return await slowest

    slowest = asyncio.run(main())
    assert 0.15 < slowest < QUICK.lock_timeout + 0.15  # it did wait, and no longer
    assert "the oldest open transaction is that of pid" in said[0]
    assert database.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'") == 3


def test_who_gets_no_lock_gives_up_with_what_to_do(database: Database, tmp_path: Path) -> None:
    database.sql(USERS)
    folder = read_folder(write(tmp_path / "m", _0001_mail="ALTER TABLE users ADD mail text"))

    async def main(connection: Any) -> None:
        reader = await asyncpg.connect(database.url)
        async with reader.transaction():
            await reader.fetchval("SELECT count(*) FROM users")
            patience = Patience(lock_timeout=0.05, timeout=3.0)
            with pytest.raises(MigrationError, match=r"got no lock in \d tries .* end that transaction"):
                await Migrator(connection, patience, random=Random(1)).run(folder)
        await reader.close()

    database.do(main)
    assert states(database) == [(1, "failed", 0, 1)]
    assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("ALTER TABLE users ADD mail text; SELECT pg_sleep(5)", True),
        ("DO $$ BEGIN PERFORM pg_sleep(5); END $$", True),
        ("SELECT pg_sleep(0.6); ALTER TABLE users ADD mail text", False),
        ("CREATE TABLE fresh (a int); CREATE INDEX ON fresh (a); SELECT pg_sleep(0.6)", False),
        ("-- nova: may-block\nALTER TABLE users ADD mail text; SELECT pg_sleep(0.6)", False),
    ],
)
def test_what_holds_up_traffic_for_long_is_taken_back(
    database: Database, tmp_path: Path, text: str, held: bool
) -> None:
    database.sql(USERS)
    folder = write(tmp_path / "m", _0001_x=text)
    patience = Patience(hold=0.4, timeout=20)
    if not held:
        assert migrate(database, folder, patience)[0].applied == ("0001_x.sql",)
        return
    with pytest.raises(MigrationError, match=r"held up traffic for 0.4 s \(--hold\) and was taken back"):
        migrate(database, folder, patience)
    assert database.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'") == 2


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_migrator_that_is_ended_leaves_a_state_that_the_next_one_goes_on_from(
    database: Database, tmp_path: Path, ending: signal.Signals
) -> None:
    folder = write(tmp_path / "m", _0001_users=f"{USERS} SELECT pg_sleep(20)")
    process = database.start("migrate", folder)
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()"
    eventually(lambda: database.value(asleep) == 1, within=15)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=10)
    if ending == signal.SIGTERM:
        assert (process.returncode, "told to stop" in errors) == (1, True)
        eventually(lambda: database.value(asleep) == 0)
    else:  # the server finds out when it next speaks to nobody; until then the lock is kept, as it should be
        database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'nova-data%'")
    assert states(database) == []
    write(folder, _0001_users=USERS)
    assert migrate(database, folder)[0].applied == ("0001_users.sql",)


def test_a_trial_shows_real_locks_and_takes_everything_back(database: Database, tmp_path: Path) -> None:
    database.sql(USERS)
    folder = write(
        tmp_path / "m",
        _0001_posts="CREATE TABLE posts (id int PRIMARY KEY, author int REFERENCES users)",
        _0002_inside="DO $$ BEGIN ALTER TABLE users ADD mail text; END $$",
        _0003_index="-- nova: no-transaction\nCREATE INDEX CONCURRENTLY i ON posts (author)",
    )

    async def work(connection: Any) -> tuple[str, ...]:
        return await tried(connection, tuple(Step(one) for one in read_folder(folder)), QUICK)

    lines = database.do(work)
    assert "        SHARE ROW EXCLUSIVE on users: writes wait" in lines
    assert "        ACCESS EXCLUSIVE on users: reads and writes wait" in lines
    assert lines[-1].startswith("0003_index.sql (each statement by itself): cannot be taken back")
    assert database.value("SELECT to_regclass('posts')") is None


@pytest.fixture(scope="module")
def tables(postgres: Server) -> Iterator[Database]:
    """Tables that stay as they are: each statement is taken back."""
    made = Database(postgres)
    made.sql(
        f"{USERS} ALTER TABLE users ADD CONSTRAINT named CHECK (name <> '') NOT VALID; CREATE TABLE posts (author int);"
        "CREATE TABLE log (n int) PARTITION BY RANGE (n); CREATE TABLE log_1 (n int)"
    )
    yield made
    made.drop()


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ADD mail text",
        "ALTER TABLE users ADD CONSTRAINT positive CHECK (id > 0) NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT named",
        "ALTER TABLE users ALTER name SET STATISTICS 10",
        "ALTER TABLE users SET (fillfactor = 70)",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "ALTER TABLE posts ADD FOREIGN KEY (author) REFERENCES users NOT VALID",
        "ALTER TABLE log ATTACH PARTITION log_1 FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE more (id int REFERENCES users)",
        "CREATE INDEX i ON users (name)",
        "CREATE TRIGGER t BEFORE DELETE ON users EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE STATISTICS s ON id, name FROM users",
        "CREATE POLICY p ON users",
        "ALTER TABLE users RENAME TO people",
        "DROP TABLE posts",
        "TRUNCATE posts",
        "LOCK TABLE users IN SHARE MODE",
        "UPDATE users SET name = ''",
        "SELECT * FROM users FOR UPDATE",
    ],
)
def test_the_table_of_locks_is_what_postgresql_takes(tables: Database, sql: str) -> None:
    foretold = locks(statements(sql)[0])
    assert foretold

    async def taken(connection: Any) -> dict[str, str]:
        rows = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
        transaction = connection.transaction()
        await transaction.start()
        try:
            names = dict(await connection.fetch("SELECT oid, relname FROM pg_class WHERE relkind IN ('r', 'p')"))
            await connection.execute(sql)
            found = await connection.fetch(rows)
        finally:
            await transaction.rollback()
        strongest: dict[str, str] = {}
        modes = {mode.replace(" ", "").lower() + "lock": mode for mode in MODES}
        for oid, mode in found:
            name, spaced = names.get(oid, ""), modes[mode.lower()]
            if MODES.index(spaced) >= MODES.index(strongest.get(name, MODES[0])):
                strongest[name] = spaced
        return strongest

    found = tables.do(taken)
    assert {lock.relation: lock.mode for lock in foretold}.items() <= found.items()


def test_the_command_applies_shows_and_refuses(database: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", _0001_users=USERS, _0002_index="CREATE INDEX users_name ON users (name)")
    foretold = database.command("migrate", folder, "--dry-run")
    assert foretold.returncode == 0, foretold.stderr
    assert "    1 CREATE INDEX users_name ON users (name)\n        SHARE on users: writes wait" in foretold.stdout
    assert "better: CREATE INDEX CONCURRENTLY lets writes pass" in foretold.stdout
    assert database.value("SELECT to_regclass('nova_migrations')") is None
    done = database.command("migrate", folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 applied, 0 were applied before")
    write(folder, _0001_users="CREATE TABLE users (id int)", _0003_x="SELECT 1")
    refused = database.command("migrate", folder)
    assert refused.returncode == 1
    assert "0001_users.sql was applied on" in refused.stderr
    assert database.command("migrate", folder, "--accept", 1).returncode == 0
    shown = database.command("migrate", folder, "--status").stdout.splitlines()
    assert [line.split()[:2] for line in shown] == [
        ["0001_users.sql", "applied"], ["0002_index.sql", "applied"], ["0003_x.sql", "pending"],
    ]  # fmt: skip


def test_a_database_that_is_not_there_is_named_without_its_password(database: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", _0001_users=USERS)
    failed = database.command("migrate", folder, "--database", "postgresql://ada:s3cret@127.0.0.1:9/shop")
    assert failed.returncode == 1
    assert "127.0.0.1:9/shop" in failed.stderr
    assert "s3cret" not in failed.stderr


def test_a_migration_is_what_its_text_says(database: Database) -> None:
    """A file with everything in it that a splitter could stumble over."""
    text = """
CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    -- a comment; with a semicolon
    RETURN 'it''s; $$ fine';
END
$body$; /* and /* nested; */ one; */ SELECT f() AS "odd;name";"""
    one = migration("0001_f.sql", 1, text)
    assert len(one.statements) == 2

    async def work(connection: Any) -> Any:
        await Migrator(connection, QUICK, random=Random(1)).run((one,))
        return await connection.fetchval("SELECT f()")

    assert database.do(work) == "it's; $$ fine"
