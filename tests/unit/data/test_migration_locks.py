"""The table of locks against PostgreSQL's documentation, and the patience with which they are waited for."""

from random import Random

import pytest

from nova_data.schema.locks import Lock, advice, holds_up, locks, makes, waits_harmlessly
from nova_data.schema.patience import PAUSES, Patience
from nova_data.schema.statements import Statement, statements

ALL = "ACCESS EXCLUSIVE"
GENTLE = "SHARE UPDATE EXCLUSIVE"


def only(sql: str) -> Statement:
    (one,) = statements(sql)
    return one


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ALTER TABLE posts ADD COLUMN state text", [("posts", ALL)]),
        ("ALTER TABLE shop.posts VALIDATE CONSTRAINT c", [("shop.posts", GENTLE)]),
        ("ALTER TABLE posts ALTER a SET STATISTICS 100", [("posts", GENTLE)]),
        ("ALTER TABLE posts SET (fillfactor = 70)", [("posts", GENTLE)]),
        ("ALTER TABLE posts DISABLE TRIGGER t", [("posts", "SHARE ROW EXCLUSIVE")]),
        ("ALTER TABLE posts ADD CHECK (a > 0) NOT VALID", [("posts", ALL)]),
        (
            "ALTER TABLE posts ADD FOREIGN KEY (u) REFERENCES users NOT VALID",
            [("users", "SHARE ROW EXCLUSIVE"), ("posts", "SHARE ROW EXCLUSIVE")],
        ),
        ("ALTER TABLE posts ADD COLUMN u int REFERENCES users", [("users", "SHARE ROW EXCLUSIVE"), ("posts", ALL)]),
        ("ALTER TABLE log ATTACH PARTITION log_1 DEFAULT", [("log_1", ALL), ("log", GENTLE)]),
        ("ALTER TABLE log DETACH PARTITION log_1", [("log_1", ALL), ("log", ALL)]),
        ("CREATE INDEX i ON posts (a)", [("posts", "SHARE")]),
        ("CREATE INDEX CONCURRENTLY i ON posts (a)", [("posts", GENTLE)]),
        ("DROP INDEX i", [("the table of i", ALL)]),
        ("DROP TABLE a, shop.b", [("a", ALL), ("shop.b", ALL)]),
        ("DROP TRIGGER t ON posts", [("posts", ALL)]),
        ("CREATE TRIGGER t BEFORE DELETE ON posts EXECUTE FUNCTION f()", [("posts", "SHARE ROW EXCLUSIVE")]),
        ("CREATE TABLE b (a int REFERENCES posts)", [("posts", "SHARE ROW EXCLUSIVE")]),
        ("TRUNCATE posts", [("posts", ALL)]),
        ("VACUUM FULL posts", [("posts", ALL)]),
        ("VACUUM posts", [("posts", GENTLE)]),
        ("REINDEX TABLE posts", [("posts", "SHARE")]),
        ("REINDEX TABLE CONCURRENTLY posts", [("posts", GENTLE)]),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", [("v", "EXCLUSIVE")]),
        ("ALTER TABLE posts RENAME TO articles", [("posts", ALL)]),
        ("ALTER INDEX i RENAME TO j", [("i", GENTLE)]),
        ("LOCK TABLE posts IN SHARE MODE", [("posts", "SHARE")]),
        ("UPDATE posts SET a = 1", [("posts", "ROW EXCLUSIVE")]),
        ("SELECT * FROM posts", [("posts", "ACCESS SHARE")]),
        ("SELECT * FROM posts FOR UPDATE", [("posts", "ROW SHARE")]),
        ("CREATE TYPE mood AS ENUM ('good')", []),
    ],
)
def test_the_locks_of_a_statement_are_those_of_the_documentation(sql: str, expected: list[tuple[str, str]]) -> None:
    assert locks(only(sql)) == tuple(Lock(relation, mode) for relation, mode in expected)


def test_what_runs_inside_is_not_guessed_at() -> None:
    assert locks(only("DO $$ BEGIN DROP TABLE posts; END $$")) is None
    assert holds_up(only("DO $$ BEGIN END $$"), frozenset())


@pytest.mark.parametrize(
    ("mode", "waiting"),
    [(ALL, "reads and writes"), ("EXCLUSIVE", "writes"), ("SHARE", "writes"), (GENTLE, ""), ("ROW EXCLUSIVE", "")],
)
def test_who_waits_for_a_lock_follows_from_its_mode(mode: str, waiting: str) -> None:
    assert Lock("posts", mode).holds_up == waiting


def test_a_table_that_is_new_in_the_file_keeps_nobody_waiting() -> None:
    new = makes(only("CREATE TABLE fresh (a int)"))
    assert not holds_up(only("CREATE INDEX i ON fresh (a)"), new)
    assert holds_up(only("CREATE INDEX i ON posts (a)"), new)


def test_concurrently_waits_as_long_as_it_likes() -> None:
    assert waits_harmlessly(only("CREATE INDEX CONCURRENTLY i ON t (a)"))
    assert not waits_harmlessly(only("CREATE INDEX i ON t (a)"))
    assert not waits_harmlessly(only("VACUUM t"))


@pytest.mark.parametrize(
    ("sql", "better"),
    [
        ("CREATE INDEX i ON t (a)", "CONCURRENTLY"),
        ("ALTER TABLE t ADD CHECK (a > 0)", "NOT VALID"),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u", "NOT VALID"),
        ("ALTER TABLE t ALTER a SET NOT NULL", "IS NOT NULL"),
        ("ALTER TABLE t ALTER a TYPE bigint", "a new column"),
    ],
)
def test_what_looks_at_all_rows_under_a_strong_lock_has_a_better_way(sql: str, better: str) -> None:
    assert better in " ".join(advice(only(sql)))


def test_what_is_done_well_needs_no_advice() -> None:
    assert not list(advice(only("ALTER TABLE t ADD CHECK (a > 0) NOT VALID")))
    assert not list(advice(only("ALTER TABLE t ADD COLUMN a int")))


def test_pauses_grow_with_jitter_until_the_time_is_over() -> None:
    patience, random = Patience(timeout=100), Random(7)
    pauses = [patience.pause(tries, 0, random) for tries in range(1, 12)]
    for tries, pause in enumerate(pauses, start=1):
        longest = min(PAUSES.longest, PAUSES.base * 2 ** (tries - 1))
        assert pause is not None
        assert longest / 2 <= pause <= longest
    assert patience.pause(1, 99.9, random) is None


@pytest.mark.parametrize("field", ["lock_timeout", "hold", "timeout"])
def test_a_time_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"expected a {field} above 0"):
        Patience(**{field: 0.0})
