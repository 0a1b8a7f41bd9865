import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.pool.statements import LONGEST, normalised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", "SELECT ?"),
        ("SELECT\n  a,\tb\nFROM t", "SELECT a, b FROM t"),
        ("SELECT * FROM t WHERE a = 'it''s' AND b = -1.5e+3", "SELECT * FROM t WHERE a = ? AND b = -?"),
        (r"SELECT E'a\'b', e'x''y', c", "SELECT ?, ?, c"),
        ("SELECT $$a 'b' $ c$$, $tag$ $$ $tag$, $1, $23", "SELECT ?, ?, $1, $23"),
        ("SELECT B'01', X'ff', N'a', U&'\\0061', 0x1F, 0b1, 1_000", "SELECT ?, ?, ?, ?, ?, ?, ?"),
        ("SELECT \"a 1 'x'\" FROM t1 JOIN t2_3 USING (id4)", "SELECT \"a 1 'x'\" FROM t1 JOIN t2_3 USING (id4)"),
        ("SELECT a -- secret 42\nFROM t", "SELECT a FROM t"),
        ("SELECT a /* x /* y */ secret */ FROM t", "SELECT a FROM t"),
        ("SELECT a /* never /* ends */ secret", "SELECT a"),
        ("SELECT 'never ends secret", "SELECT ?"),
        ("SELECT $x$ never ends secret", "SELECT ?"),
        ("a IN (1, 2,3) AND b IN ($1, $2) AND c IN ('x')", "a IN (?) AND b IN (?) AND c IN (?)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, DEFAULT)", "INSERT INTO t VALUES (?)"),
        ('SELECT "anna@example.com"', 'SELECT "[redacted]"'),
        ("", ""),
    ],
)
def test_values_and_comments_are_not_there(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_a_long_statement_is_cut() -> None:
    assert normalised("SELECT " + "column, " * 500).endswith("…")
    assert len(normalised("SELECT " + "column, " * 500)) <= LONGEST + 1


@given(st.text("ab'\"\\$/*-\n 1.E(),", max_size=80), st.text("xyz '\"\\$", max_size=20))
def test_whatever_stands_around_it_a_literal_never_leaves(around: str, secret: str) -> None:
    """A well-formed literal after a complete statement; `normalised` never raises, either."""
    normalised(around)
    literal = "'HIDDEN" + secret.replace("'", "''") + "HIDDEN'"
    assert "HIDDEN" not in normalised(f"SELECT a, {literal}, b FROM t WHERE c = {literal}")


@pytest.mark.parametrize("piece", ["'", "$", "/*", "(", "(?,", "E'\\", '"', "1.", "$a", "- ", "?,"])
def test_no_text_takes_long(piece: str) -> None:
    began = time.process_time()
    normalised(piece * 100_000)
    assert time.process_time() - began < 2
