"""What an erasure must not touch, and names that PostgreSQL quotes."""

from random import Random
from typing import Any

import pytest

from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete import manage
from nova_data.schema.steps import Stepper

from .database import Database
from .social import ADA, BOB

PARTITIONED = f"""
CREATE TABLE posts (id bigint PRIMARY KEY, user_id uuid NOT NULL);
CREATE TABLE views (
    id bigint, user_id uuid NOT NULL, post_id bigint REFERENCES posts, PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE views_1 PARTITION OF views FOR VALUES FROM (0) TO (100);
CREATE TABLE views_2 PARTITION OF views FOR VALUES FROM (100) TO (200);
INSERT INTO posts VALUES (1, '{ADA}'), (2, '{BOB}');
INSERT INTO views VALUES (1, '{ADA}', 2), (2, '{BOB}', 1), (3, '{BOB}', 2);
INSERT INTO views VALUES (101, '{BOB}', 2), (102, '{BOB}', 2), (103, '{ADA}', 2);
"""
"""Rows of two partitions lie at the same places: (0,1), (0,2), (0,3) in each."""


@pytest.fixture
def partitioned(database: Database) -> Database:
    database.sql(PARTITIONED)
    return database


def erase(database: Database, person: str, *places: str) -> str:
    of = [word for place in places for word in ("--of", place)]
    done = database.command("soft-delete", "erase", "--person", person, "--reference", "T-1", "--table", "posts", *of)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_of_a_partitioned_table_the_persons_rows_go_and_nobody_elses(partitioned: Database) -> None:
    assert erase(partitioned, ADA, "views.user_id") == "removed: 2 of views"
    assert partitioned.rows("SELECT id FROM views ORDER BY id") == [(2,), (3,), (101,), (102,)]


def test_rows_of_a_partitioned_table_that_refer_to_the_persons_go_and_no_others(partitioned: Database) -> None:
    assert erase(partitioned, ADA, "posts.user_id") == "removed: 1 of posts, 1 of views"
    assert partitioned.rows("SELECT id FROM views ORDER BY id") == [(1,), (3,), (101,), (102,), (103,)]


def test_schemas_and_roles_whose_names_need_quotes_are_names_as_others(database: Database) -> None:
    database.sql(
        f"""
        CREATE SCHEMA "order";
        CREATE TABLE "order".posts (id bigint PRIMARY KEY, user_id uuid NOT NULL);
        CREATE TABLE "order".likes (post_id bigint REFERENCES "order".posts ON DELETE CASCADE);
        INSERT INTO "order".posts VALUES (1, '{ADA}');
        DO $$ BEGIN CREATE ROLE "shop-app"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        GRANT USAGE ON SCHEMA "order" TO "shop-app";
        GRANT SELECT ON "order".posts TO "shop-app";
        """
    )

    async def install(connection: Any) -> int:
        wanted = await manage.wish(connection, "Convert", events=False)
        stepper = Stepper(connection, Patience(timeout=20.0), random=Random(1))
        return await manage.install(connection, ("order.posts",), wanted, stepper)

    assert database.do(install) > 5
    database.sql('SET ROLE "shop-app"; SELECT * FROM "order".active_posts')
    index = '[{"table": "order.posts", "columns": ["user_id"]}]'
    done = database.command("indexes", "apply", "--spec", "/dev/stdin", input=index)
    assert done.returncode == 0, done.stderr
    assert erase(database, ADA, "order.posts.user_id") == "removed: 1 of posts"
