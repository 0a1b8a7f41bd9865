"""Indexes on a real PostgreSQL: built while it is in use, mended, replaced; and what they are worth."""

import json
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from nova_api.database import Index
from nova_data.errors import SchemaError
from nova_data.schema.indexes import build
from nova_data.schema.indexes.explain import explain
from nova_data.schema.indexes.wanted import REFERENCE
from nova_data.schema.patience import Patience
from nova_data.schema.steps import Stepper

from .database import Database
from .social import SCHEMA

QUICK = Patience(lock_timeout=0.2, hold=3.0, timeout=30.0)
BY_USER = Index(table="posts", columns=("user_id", "created_at desc"))


@pytest.fixture
def social(database: Database) -> Database:
    """The tables, with the column that the reference's conditions speak of."""
    database.sql(
        SCHEMA
        + "".join(f"ALTER TABLE {table} ADD deleted_at timestamptz;" for table in ("posts", "messages", "follows"))
    )
    return database


def apply(database: Database, *wanted: Index) -> list[str]:
    async def work(connection: Any) -> list[str]:
        findings = await build.look(connection, wanted)
        await Stepper(connection, QUICK, random=Random(1)).take(build.steps(findings))
        return [one.state for one in findings]

    return database.do(work)


def definition(database: Database, name: str) -> str:
    return str(database.value(f"SELECT pg_get_indexdef('{name}'::regclass)"))


def test_the_reference_indexes_are_built_once(social: Database) -> None:
    assert apply(social, *REFERENCE) == ["missing"] * 4
    assert apply(social, *REFERENCE) == ["there"] * 4
    assert definition(social, "posts_user_id_visibility_created_at_active") == (
        "CREATE INDEX posts_user_id_visibility_created_at_active ON public.posts USING btree"
        " (user_id, visibility, created_at DESC) WHERE (deleted_at IS NULL)"
    )
    assert social.command("indexes", "verify").returncode == 0


def test_one_that_was_asked_for_differently_before_is_replaced(social: Database) -> None:
    named = Index(table="posts", columns=("user_id",), name="posts_of")
    apply(social, named)
    other = Index(table="posts", columns=("user_id", "created_at desc"), where="visibility = 'public'", name="posts_of")
    assert apply(social, other) == ["another"]
    assert "created_at DESC) WHERE (visibility = 'public'::text)" in definition(social, "posts_of")
    assert apply(social, other) == ["there"]
    assert social.value("SELECT to_regclass('posts_of_next')") is None


def test_one_that_somebody_else_made_is_left_alone(social: Database) -> None:
    social.sql("CREATE INDEX posts_user_id_created_at ON posts (user_id)")
    assert apply(social, BY_USER) == ["there"]


def broken(database: Database, name: str) -> None:
    """Leave an index behind as a run that failed does."""
    database.sql("CREATE TABLE IF NOT EXISTS twice AS SELECT 1 AS a UNION ALL SELECT 1")
    with pytest.raises(asyncpg.UniqueViolationError):
        database.sql(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON twice (a)")


def test_a_broken_one_is_found_and_built_again(social: Database) -> None:
    broken(social, "twice_a")
    assert social.command("indexes", "verify").returncode == 1
    assert apply(social, Index(table="twice", columns=("a",))) == ["invalid"]
    assert apply(social, Index(table="twice", columns=("a",))) == ["there"]


def test_all_broken_ones_are_mended_and_leftovers_dropped(social: Database) -> None:
    broken(social, "one")
    broken(social, "two_ccnew")
    social.sql("DELETE FROM twice WHERE ctid IN (SELECT max(ctid) FROM twice)")
    done = social.command("indexes", "repair")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 broken indexes were mended")
    assert social.rows("SELECT relname FROM pg_class WHERE relname IN ('one', 'two_ccnew')") == [("one",)]
    assert social.command("indexes", "repair").stdout == "no index is broken\n"


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (Index(table="nowhere", columns=("a",)), "there is no table nowhere"),
        (Index(table="posts", columns=("user_id",), where="TRUE; DROP TABLE posts"), "expected one condition such as"),
        (Index(table="posts", columns=("user_id",), where="visibility ="), "where: syntax error"),
        (Index(table="posts", columns=("nothing",)), 'column "nothing" does not exist'),
    ],
)
def test_what_cannot_be_built_is_named(social: Database, index: Index, rule: str) -> None:
    with pytest.raises(SchemaError) as raised:
        apply(social, index)
    assert rule in str(raised.value)
    assert social.value("SELECT to_regclass('posts')") == "posts"


def test_two_that_differ_cannot_have_one_name(social: Database) -> None:
    with pytest.raises(SchemaError, match="index i: two that differ have this name"):
        apply(social, *(Index(table="posts", columns=(column,), name="i") for column in ("user_id", "body")))
    assert apply(social, BY_USER, BY_USER) == ["missing", "missing"]  # which is one


def test_the_command_takes_a_list(social: Database, tmp_path: Path) -> None:
    spec = tmp_path / "indexes.json"
    spec.write_text(json.dumps([{"table": "media", "columns": ["user_id"]}]))
    assert "CREATE INDEX CONCURRENTLY" in social.command("indexes", "plan", "--spec", spec).stdout
    assert social.command("indexes", "apply", "--spec", spec).returncode == 0
    assert social.value("SELECT to_regclass('media_user_id')") == "media_user_id"
    spec.write_text(json.dumps([{"table": "Media", "columns": ["user_id"]}]))
    refused = social.command("indexes", "apply", "--spec", spec)
    assert (refused.returncode, "table" in refused.stderr, "lower case" in refused.stderr) == (1, True, True)


def test_explain_shows_that_a_scan_of_all_rows_becomes_a_look_into_an_index(database: Database) -> None:
    async def work(connection: Any) -> Any:
        stepper = Stepper(connection, QUICK, random=Random(1))
        return await explain(connection, stepper, 60_000, keep=False, say=lambda _: None)

    times = database.do(work)
    assert len(times) == 4
    for one in times:
        assert "using" not in one.before_plan or "created_at" not in one.before_plan
        assert "Seq Scan" in one.before_plan or "visibility" in one.what
        assert "created_at_active" in one.after_plan
    assert sum(one.after_ms for one in times) < sum(one.before_ms for one in times)
    assert database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'nova_explain'") == 0
