"""YAML that would take the process down, or all of the memory, before a field of it is looked at."""

import tracemalloc

import pytest

from nova_api.errors import ConfigError
from nova_cli.documents import DEEPEST, LARGEST, parse

LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


def test_every_document_that_says_anything() -> None:
    assert parse(b"a: 1\n---\n---\nb: [x, y]\n") == [{"a": 1}, {"b": ["x", "y"]}]


def test_aliases_are_written_out() -> None:
    assert parse("base: &base {a: 1}\nboth: [*base, *base]\nmore: {<<: *base, b: 2}\n") == [
        {"base": {"a": 1}, "both": [{"a": 1}, {"a": 1}], "more": {"a": 1, "b": 2}}
    ]


def test_keys_are_the_same_by_kind_and_text() -> None:
    assert parse('{1: a, "1": b}\n---\n{on: a, "on": b}\n') == [{1: "a", "1": "b"}, {True: "a", "on": "b"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, f"line 7, column 45 of at most {LARGEST} values, aliases written out"),
        ("a: &a [1, *a]", r"line 1, column 11 without a value that contains itself \(\*a\)"),
        ("a: &a {b: {c: *a}}", r"without a value that contains itself \(\*a\)"),
        ("[" * 500, f"line 1, column {DEEPEST} of at most {DEEPEST} levels"),
        (
            "[" * 100_000,
            rf"line 1, column ({DEEPEST} of at most {DEEPEST} levels|\d+ \(exceeded maximum nesting depth)",
        ),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)), f"at most {DEEPEST} levels"),
        ("a: *nobody", "undefined alias"),
        ("a: 2026-02-30", "dates and numbers"),
        ('a: !!timestamp "never"', "dates and numbers"),
        ('a: !!bool "perhaps"', "dates and numbers"),
        ("a: " + "9" * 5000, "dates and numbers"),
        (b"a: \xff", "expected YAML"),
        ("kind: a\n\tspec: b", "line 2, column 1"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", r"line 2, column 17 \(the key c comes twice\)"),
        ("a: 1\n---\nb: 1\nb: 2", r"line 4, column 1 \(the key b comes twice\)"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_a_bomb_is_not_set_off() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="aliases written out"):
            parse(LAUGHS)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
