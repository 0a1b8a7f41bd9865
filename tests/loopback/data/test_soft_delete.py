"""Soft delete on a real PostgreSQL, from tables with CASCADE and back."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from nova_data.errors import SchemaError
from nova_data.outbox.installing import install as install_outbox
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete import manage
from nova_data.schema.soft_delete.objects import NOBODY
from nova_data.schema.steps import Stepper
from tests.loopback.support.postgresserver import Server

from .busy import change_under_load, fill
from .database import Database
from .social import ADA, BOB, ROWS, SCHEMA, TABLES

QUICK = Patience(lock_timeout=0.2, hold=3.0, timeout=30.0)


@pytest.fixture(scope="module")
def plain(postgres: Server) -> Iterator[Database]:
    """The tables with some rows, and an outbox; to be copied."""
    made = Database(postgres)
    made.sql(SCHEMA + ROWS)
    made.do(lambda connection: install_outbox(connection, lock_timeout=1, ahead=1))
    yield made
    made.drop()


@pytest.fixture(scope="module")
def softened(plain: Database) -> Iterator[Database]:
    """The same with soft delete; to be copied."""
    made = plain.copy()
    assert install(made) > 30
    yield made
    made.drop()


@pytest.fixture
def social(plain: Database) -> Iterator[Database]:
    """Tables without soft delete."""
    made = plain.copy()
    yield made
    made.drop()


@pytest.fixture
def soft(softened: Database) -> Iterator[Database]:
    """Tables with it."""
    made = softened.copy()
    yield made
    made.drop()


def install(database: Database, *tables: str, mode: Any = "Convert", events: bool = True) -> int:
    async def work(connection: Any) -> int:
        wanted = await manage.wish(connection, mode, events=events)
        return await manage.install(connection, tables or TABLES, wanted, Stepper(connection, QUICK, random=Random(1)))

    return database.do(work)


def missing(database: Database, *tables: str) -> list[str]:
    async def work(connection: Any) -> list[str]:
        wanted = await manage.wish(connection, "Convert", events=True)
        return [step.what for step in await manage.missing(connection, tables or TABLES, wanted)]

    return database.do(work)


def undo(database: Database, *, drop_columns: bool = False) -> int:
    async def work(connection: Any) -> int:
        return await manage.undo(
            connection, TABLES, Stepper(connection, QUICK, random=Random(1)), drop_columns=drop_columns
        )

    return database.do(work)


def catalog(database: Database) -> list[tuple[Any, ...]]:
    """Everything that soft delete changes, as PostgreSQL spells it."""
    queries = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated, obj_description(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0"
        " AND conrelid::regclass::text NOT LIKE 'outbox%' ORDER BY 1, 2",
        "SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'outbox%'"
        " ORDER BY 2",
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name NOT LIKE 'outbox%' ORDER BY 1, 2",
    )
    return [row for query in queries for row in database.rows(query)]


def test_what_is_deleted_stays_and_says_when_by_whom_and_to_the_outbox(soft: Database) -> None:
    soft.sql(f"BEGIN; SET LOCAL nova.actor = '{BOB}'; DELETE FROM posts WHERE id = 1; COMMIT")
    assert soft.rows("SELECT id, deleted_by::text FROM posts WHERE deleted_at IS NOT NULL") == [(1, BOB)]
    assert soft.rows("SELECT id FROM active_posts ORDER BY id") == [(2,), (3,)]
    assert soft.value("SELECT count(*) FROM comments") == 4  # nothing was carried on
    (event,) = soft.rows("SELECT aggregate_type, aggregate_id, event_type, payload FROM outbox_events")
    assert event[:3] == ("posts", "1", "posts.deleted")
    payload = json.loads(event[3])
    assert (payload["key"], payload["deleted_by"], set(payload)) == (
        {"id": 1}, BOB, {"key", "deleted_at", "deleted_by"},
    )  # fmt: skip
    soft.sql("UPDATE posts SET deleted_at = NULL, deleted_by = NULL WHERE id = 1")
    assert soft.value("SELECT event_type FROM outbox_events ORDER BY position DESC LIMIT 1") == "posts.restored"


def test_a_deletion_that_says_nobody_and_is_repeated_keeps_the_first(soft: Database) -> None:
    soft.sql(f"DELETE FROM follows WHERE follower_id = '{ADA}'")
    first = soft.rows("SELECT deleted_at, deleted_by::text FROM follows WHERE deleted_at IS NOT NULL")
    assert [by for _, by in first] == [NOBODY]
    soft.sql(f"BEGIN; SET LOCAL nova.actor = '{BOB}'; DELETE FROM follows; COMMIT")
    assert soft.rows(f"SELECT deleted_at, deleted_by::text FROM follows WHERE follower_id = '{ADA}'") == first
    assert soft.rows("SELECT aggregate_id FROM outbox_events ORDER BY position") == [
        (f"{ADA}:{BOB}",), (f"{BOB}:{ADA}",),
    ]  # fmt: skip


def test_an_event_of_a_transaction_that_is_taken_back_was_never_there(soft: Database) -> None:
    soft.sql("BEGIN; DELETE FROM posts; ROLLBACK")
    assert soft.value("SELECT count(*) FROM outbox_events") == 0


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("UPDATE posts SET deleted_at = now() WHERE id = 1", asyncpg.CheckViolationError),
        (f"UPDATE posts SET deleted_by = '{ADA}' WHERE id = 1", asyncpg.CheckViolationError),
        ("TRUNCATE posts CASCADE", asyncpg.RestrictViolationError),
        (f"DELETE FROM users WHERE id = '{ADA}'", asyncpg.ForeignKeyViolationError),
        ("BEGIN; SET LOCAL nova.actor = 'somebody'; DELETE FROM posts; COMMIT", asyncpg.InvalidTextRepresentationError),
    ],
)
def test_what_would_lose_something_is_refused(soft: Database, sql: str, error: type[Exception]) -> None:
    with pytest.raises((error, asyncpg.RestrictViolationError)):
        soft.sql(sql)
    assert soft.value("SELECT count(*) FROM posts WHERE deleted_at IS NULL AND deleted_by IS NULL") == 3


def test_delete_can_be_refused_instead(social: Database) -> None:
    install(social, mode="Refuse")
    with pytest.raises(asyncpg.RestrictViolationError, match="rows of posts are not deleted"):
        social.sql("DELETE FROM posts")
    install(social)  # and be made to convert later
    social.sql("DELETE FROM posts WHERE id = 1")
    assert social.value("SELECT count(*) FROM posts WHERE deleted_at IS NULL") == 2


def test_nothing_is_left_to_do_the_second_time_and_what_somebody_broke_is_found(soft: Database) -> None:
    assert missing(soft) == []
    assert install(soft) == 0
    soft.sql(
        "ALTER TABLE posts DISABLE TRIGGER nova_soft_delete; DROP INDEX comments_active; DROP VIEW active_media;"
        "ALTER TABLE messages DROP CONSTRAINT messages_soft_delete; DROP TRIGGER nova_soft_delete_event ON blocks;"
        "ALTER TABLE follows DROP CONSTRAINT follows_follower_id_fkey;"
        "ALTER TABLE follows ADD CONSTRAINT f FOREIGN KEY (follower_id) REFERENCES users ON DELETE CASCADE;"
        "CREATE OR REPLACE FUNCTION media_soft_delete() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
    )
    found = " | ".join(missing(soft))
    for what in (
        "posts: triggers", "comments: index comments_active", "media: view", "messages: check", "blocks: triggers",
        'follows → public.users: ON DELETE RESTRICT', "media: functions",
    ):  # fmt: skip
        assert what in found
    install(soft)
    assert missing(soft) == []


def test_a_cascade_from_elsewhere_never_meets_a_trigger_that_would_leave_its_rows_behind(social: Database) -> None:
    async def work(connection: Any) -> None:
        wanted = await manage.wish(connection, "Convert", events=True)
        steps = await manage.missing(connection, TABLES, wanted)
        first = next(place for place, step in enumerate(steps) if step.what == "posts: triggers")
        await Stepper(connection, QUICK, random=Random(1)).take(steps[: first + 1])

    social.do(work)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        social.sql(f"DELETE FROM users WHERE id = '{ADA}'")
    orphans = "SELECT count(*) FROM posts WHERE NOT EXISTS (SELECT FROM users WHERE users.id = posts.user_id)"
    assert social.value(orphans) == 0


def test_the_way_back_leads_to_where_it_began(social: Database) -> None:
    before = catalog(social)
    assert missing(social)
    install(social)
    assert catalog(social) != before
    undo(social, drop_columns=True)
    assert catalog(social) == before
    social.sql(f"DELETE FROM users WHERE id = '{ADA}'")  # and CASCADE carries on again
    assert social.value("SELECT count(*) FROM posts") == 1


def test_the_way_back_brings_nothing_back_to_life(soft: Database) -> None:
    soft.sql("DELETE FROM posts WHERE id = 1")
    with pytest.raises(SchemaError, match="table posts: it has deleted rows"):
        undo(soft, drop_columns=True)
    assert missing(soft) == []
    undo(soft)
    assert soft.value("SELECT count(*) FROM posts WHERE deleted_at IS NOT NULL") == 1
    install(soft)
    assert missing(soft) == []


def test_rows_that_were_deleted_before_get_nobody_as_their_deleter(social: Database) -> None:
    social.sql("ALTER TABLE posts ADD deleted_at timestamptz; UPDATE posts SET deleted_at = now() WHERE id < 3")
    install(social)
    assert social.rows("SELECT DISTINCT deleted_by::text FROM posts WHERE id < 3") == [(NOBODY,)]


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE media", "table media: there is none of that name"),
        ("ALTER TABLE media DROP CONSTRAINT media_pkey", "table media: expected a primary key"),
        ("ALTER TABLE media ADD deleted_at text", "column deleted_at: expected timestamp with time zone, it is text"),
        ("DROP TABLE media; CREATE VIEW media AS SELECT 1 AS id", "table media: expected an ordinary table"),
        ("DROP FUNCTION nova_outbox_append", "run `nova-data outbox install` first"),
    ],
)
def test_what_is_in_the_way_is_named_before_anything_is_done(social: Database, sql: str, rule: str) -> None:
    social.sql(sql)
    before = catalog(social)
    with pytest.raises(SchemaError) as raised:
        install(social)
    assert rule in str(raised.value)
    assert catalog(social) == before


def test_whoever_may_read_the_table_may_read_the_view_and_no_more(social: Database) -> None:
    social.sql("CREATE ROLE reporter LOGIN; GRANT SELECT ON posts TO reporter")
    try:
        install(social)

        async def work(connection: Any) -> int:
            await connection.execute("SET ROLE reporter")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("DELETE FROM active_posts")
            return int(await connection.fetchval("SELECT count(*) FROM active_posts"))

        assert social.do(work) == 3
    finally:
        social.sql("DROP OWNED BY reporter; DROP ROLE reporter")


def test_only_the_owner_can_remove_rows_for_good(soft: Database) -> None:
    soft.sql(
        "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app"
    )
    try:

        async def work(connection: Any) -> None:
            await connection.execute("SET ROLE app; SET nova.erase = 'on'; DELETE FROM messages")

        soft.do(work)
        assert soft.value("SELECT count(*) FROM messages WHERE deleted_at IS NOT NULL") == 2
    finally:
        soft.sql("DROP OWNED BY app; DROP ROLE app")


def test_the_audit_names_who_deleted_what_newest_first(soft: Database) -> None:
    soft.sql(f"BEGIN; SET LOCAL nova.actor = '{BOB}'; DELETE FROM posts WHERE id = 1; COMMIT")
    soft.sql("DELETE FROM follows")
    lines = [json.loads(line) for line in soft.command("soft-delete", "audit").stdout.splitlines()]
    assert [(one["table"], one["deletedBy"]) for one in lines] == [("follows", None), ("follows", None), ("posts", BOB)]
    lines = [json.loads(line) for line in soft.command("soft-delete", "audit", "--by", BOB).stdout.splitlines()]
    assert [(one["table"], one["key"]) for one in lines] == [("posts", "1")]


def test_a_person_is_erased_with_what_hangs_on_it_and_the_record_names_nobody(soft: Database) -> None:
    soft.sql(f"BEGIN; SET LOCAL nova.actor = '{ADA}'; DELETE FROM posts WHERE id = 3; COMMIT")
    done = soft.command("soft-delete", "erase", "--person", ADA, "--reference", "TICKET-17")
    assert (done.returncode, done.stderr) == (0, "")
    assert soft.rows("SELECT id, deleted_by::text FROM posts") == [(3, NOBODY)]
    assert soft.rows("SELECT id FROM comments") == []  # his answers stood under hers, and hers under his post
    assert soft.value("SELECT count(*) FROM messages") == 1
    assert soft.value("SELECT count(*) FROM follows") == soft.value("SELECT count(*) FROM blocks") == 0
    assert soft.rows("SELECT user_id::text, post_id FROM media") == [(BOB, None)]  # SET NULL is left to PostgreSQL
    assert soft.rows("SELECT user_id::text FROM likes") == [(ADA,)]  # of a table that nobody named
    (record,) = [json.loads(line) for line in soft.command("soft-delete", "audit", "--erasures").stdout.splitlines()]
    assert record["removed"] == {
        "posts": 2, "comments": 4, "messages": 1, "follows": 2, "blocks": 1, "media": 1, "likes": 1,
    }  # fmt: skip
    assert (record["reference"], record["finishedAt"] is None) == ("TICKET-17", False)
    assert ADA not in str(soft.rows("SELECT * FROM nova_erasures"))
    again = soft.command("soft-delete", "erase", "--person", ADA, "--reference", "TICKET-17")
    assert again.stdout == "removed: nothing\n"


def test_an_erasure_of_the_person_too_follows_all_foreign_keys(soft: Database) -> None:
    words = ("soft-delete", "erase", "--person", ADA, "--reference", "T-1", "--of", "users.id")
    assert soft.command(*words).returncode == 0
    assert soft.rows("SELECT name FROM users") == [("bob",)]
    refused = soft.command("soft-delete", "erase", "--person", BOB, "--reference", "bob@example.org")
    assert "it must not say who the person is" in refused.stderr


def test_the_commands_show_do_and_verify(social: Database) -> None:
    shown = social.command("soft-delete", "plan", "--table", "messages").stdout
    assert "-- messages: columns (short)\nALTER TABLE public.messages ADD COLUMN" in shown.replace('"', "")
    assert social.command("soft-delete", "verify", "--table", "messages").returncode == 1
    assert social.command("soft-delete", "install", "--table", "messages").returncode == 0
    verified = social.command("soft-delete", "verify", "--table", "messages")
    assert (verified.returncode, verified.stdout) == (0, "1 tables, all is there\n")
    assert social.command("soft-delete", "undo", "--table", "messages").returncode == 0


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_large_table_is_changed_while_writers_wait_no_longer_than_the_lock_timeout(database: Database) -> None:
    fill(database, 1_000_000)
    found = change_under_load(database, lock_timeout=0.2)
    assert found.steps > 8
    assert missing(database, "posts") == []
    assert found.waits  # the lock was not to be had at once
    assert found.writes
    assert found.refused == 0


def test_a_view_of_the_apps_own_is_neither_taken_nor_dropped(social: Database) -> None:
    social.sql("CREATE VIEW active_posts AS SELECT id, count(*) OVER () AS all_of_them FROM posts")
    before = catalog(social)
    with pytest.raises(SchemaError, match=r"public\.active_posts is there already and is not Nova's; rename it first"):
        install(social)
    assert catalog(social) == before
    social.sql("ALTER VIEW active_posts RENAME TO counted_posts")
    install(social)
    social.sql("DROP VIEW active_posts; CREATE VIEW active_posts AS SELECT id FROM posts WHERE id > 0")
    undo(social)
    assert social.value("SELECT count(*) FROM active_posts") == social.value("SELECT count(*) FROM posts")


def test_a_view_from_before_the_comment_is_known_and_gets_it(soft: Database) -> None:
    soft.sql("COMMENT ON VIEW active_posts IS NULL")
    assert missing(soft) == ["posts: view"]
    assert install(soft) == 1
    assert soft.value("SELECT obj_description('active_posts'::regclass)") == "nova: rows that are not deleted"
    assert missing(soft) == []


def test_row_level_security_that_hides_a_row_from_update_is_said(soft: Database) -> None:
    role = f"moderator_{uuid4().hex[:8]}"
    soft.sql(
        f"CREATE ROLE {role}; GRANT SELECT, UPDATE, DELETE ON posts TO {role};"
        f"GRANT SELECT, INSERT ON outbox_events TO {role}; GRANT USAGE ON SEQUENCE outbox_events_position TO {role};"
        "ALTER TABLE posts ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY reads ON posts FOR SELECT USING (true); CREATE POLICY deletes ON posts FOR DELETE USING (true);"
    )

    async def delete(connection: Any) -> None:
        await connection.execute(f"SET ROLE {role}")
        await connection.execute("DELETE FROM posts WHERE id = 1")

    try:
        with pytest.raises(
            asyncpg.InsufficientPrivilegeError, match="cannot be soft deleted: it is hidden from UPDATE"
        ):
            soft.do(delete)
        soft.sql("CREATE POLICY changes ON posts FOR UPDATE USING (true)")
        soft.do(delete)
        soft.do(delete)  # what is deleted already is no error
        assert soft.value("SELECT deleted_at IS NOT NULL FROM posts WHERE id = 1")
    finally:
        soft.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_view_follows_columns_that_are_renamed_and_added(soft: Database) -> None:
    (column,) = soft.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'posts'::regclass AND attnum = 2")
    soft.sql(f"ALTER TABLE posts RENAME {column[0]} TO renamed; ALTER TABLE posts ADD added int")
    assert missing(soft) == ["posts: view"]
    assert install(soft) == 1
    assert soft.rows("SELECT renamed, added FROM active_posts LIMIT 1")[0][1] is None
    assert missing(soft) == []
