"""Cache-Control as it is written in the world, and as attackers write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.wire.directives import LONGEST, directives, parse


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", {}),
        (b"max-age=60", {b"max-age": 60}),
        (b"Max-Age = 60 , PUBLIC", {b"max-age": 60, b"public": -1}),
        (b'max-age="60"', {b"max-age": 60}),
        (b"max-age", {b"max-age": 0}),
        (b"max-age=", {b"max-age": 0}),
        (b"max-age=-1", {b"max-age": 0}),
        (b"max-age=1.5", {b"max-age": 0}),
        (b"max-age=0x10", {b"max-age": 0}),
        (b"max-age=\xb2", {b"max-age": 0}),
        (b"max-age=60, max-age=10", {b"max-age": 10}),
        (b"max-age=10, max-age=60", {b"max-age": 10}),
        (b"max-age=60, max-age=x", {b"max-age": 0}),
        (b"min-fresh=1, min-fresh=5", {b"min-fresh": 5}),
        (b"max-age=99999999999999999999", {b"max-age": LONGEST}),
        (b"max-stale", {b"max-stale": LONGEST}),
        (b'no-cache="set-cookie, x", private', {b"no-cache": -1, b"private": -1}),
        (b'x="a, no-store", public', {b"x": -1, b"public": -1}),
        (b",,, no-store ,,", {b"no-store": -1}),
        (b"no-store;max-age=5", {b"no-store": -1}),
        (b'max-age="60, no-store', {b"max-age": 0, b"no-store": -1}),
        (b"private=x", {b"private": -1}),
    ],
)
def test_what_is_said(value: bytes, said: dict[bytes, int]) -> None:
    assert parse(value) == said


def test_lines_are_one_list() -> None:
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nA: no-store\r\ncache-control: private\r\n"
    assert directives(head) == {b"max-age": 60, b"private": -1}
    assert directives(b"HTTP/1.1 200 OK\r\nX-Cache-Control: max-age=60\r\n") == {}


@given(st.binary(max_size=200))
def test_anything_is_read_in_time_and_never_as_more_than_it_says(value: bytes) -> None:
    said = parse(value)
    assert all(-1 <= seconds <= LONGEST for seconds in said.values())
    assert parse(value + b", no-store").get(b"no-store") == -1 or b'"' in value


@given(st.sampled_from([b"max-age", b"s-maxage"]), st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_the_strictest_counts(name: bytes, seconds: list[int]) -> None:
    assert parse(b",".join(b"%b=%d" % (name, each) for each in seconds)) == {name: min(seconds)}
