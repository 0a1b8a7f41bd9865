"""What is read back from a store: exactly what was written, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.freshness import Stored, Terms
from nova_sidecar.wire import entries

LARGEST = 10_000
HEAD = b'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: "a"\r\n'


def stored(head: bytes = HEAD, body: bytes = b"body", status: int = 200, **fields: object) -> Stored:
    terms = fields.pop("terms", Terms(60.0, 5.0, -1.0, always_ask=False))
    assert isinstance(terms, Terms)
    return Stored(b"key\n/a", b"/a", status, head, body, at=100.0, age=3.0, terms=terms, etag=b'"a"', modified=b"then")


def read(data: bytes, key: bytes = b"key\n/a", wall: float = 1010.0) -> Stored | None:
    return entries.decode(data, key, 50.0, wall, LARGEST)


def test_what_was_written_comes_back_older() -> None:
    one = stored()
    found = read(entries.encode(one, 102.0, 1000.0))
    assert found is not None
    for name in ("key", "target", "status", "head", "body", "terms", "etag", "modified", "size"):
        assert getattr(found, name) == getattr(one, name)
    assert (found.at, found.age) == (50.0, 15.0), "5 s when it was written, 10 s ago"


def test_a_clock_that_is_behind_makes_nothing_younger_than_new() -> None:
    found = read(entries.encode(stored(), 102.0, 1000.0), wall=900.0)
    assert found is not None
    assert found.age == 0.0


@given(st.binary(max_size=300))
def test_anything_else_is_nothing(data: bytes) -> None:
    assert read(data) is None
    assert read(b"NV1E" + data) is None
    assert entries.decode_names(data) is None or data.startswith(b"NV1N")


@given(st.data())
def test_one_byte_changed_or_cut_is_noticed(data: st.DataObject) -> None:
    """But for the times and terms in front, which no checksum covers: those are checked by range."""
    good = entries.encode(stored(), 102.0, 1000.0)
    at = data.draw(st.integers(37, len(good) - 1))
    changed = good[:at] + bytes((good[at] ^ data.draw(st.integers(1, 255)),)) + good[at + 1 :]
    assert read(changed) is None
    assert read(good[:at]) is None
    assert read(good + b"x") is None


def test_an_entry_answers_its_own_key_alone() -> None:
    assert read(entries.encode(stored(), 102.0, 1000.0), key=b"key\n/b") is None


@pytest.mark.parametrize(
    "line",
    [
        b"content-length: 4",
        b"Transfer-Encoding: chunked",
        b"transfer_encoding: chunked",
        b"Set-Cookie: a=1",
        b"connection: close",
        b"age: 1",
        b"trailer: x",
        b"a b: c",
        b"a: b\nc: d",
        b"a: \0",
        b" folded",
        b"",
        b"\r\nHTTP/1.1 200 OK",
    ],
)
def test_lines_that_no_stored_head_has(line: bytes) -> None:
    assert read(entries.encode(stored(HEAD + line + b"\r\n"), 102.0, 1000.0)) is None


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD, 304),
        (HEAD, 404),
        (b"HTTP/1.1 304 No\r\n", 304),
        (b"HTTP/1.1 100 Go\r\n", 100),
        (b"x\r\n", 200),
        (HEAD[:-2], 200),
    ],
)
def test_heads_of_another_status(head: bytes, status: int) -> None:
    assert read(entries.encode(stored(head, status=status), 102.0, 1000.0)) is None


@pytest.mark.parametrize(
    "terms",
    [
        Terms(-1.0, 0.0, 0.0, always_ask=False),
        Terms(float("nan"), 0.0, 0.0, always_ask=False),
        Terms(float("inf"), 0.0, 0.0, always_ask=False),
        Terms(1.0, -1.0, 0.0, always_ask=False),
        Terms(1.0, 0.0, -2.0, always_ask=False),
        Terms(1e12, 0.0, 0.0, always_ask=False),
    ],
)
def test_terms_out_of_range(terms: Terms) -> None:
    assert read(entries.encode(stored(terms=terms), 102.0, 1000.0)) is None


def test_bodies_beyond_the_limit() -> None:
    assert read(entries.encode(stored(body=b"x" * LARGEST), 102.0, 1000.0)) is not None
    assert read(entries.encode(stored(body=b"x" * (LARGEST + 1)), 102.0, 1000.0)) is None


@pytest.mark.parametrize("names", [(b"accept",), (b"accept", b"accept-language")])
def test_names_come_back(names: tuple[bytes, ...]) -> None:
    assert entries.decode_names(entries.encode_names(names)) == names


@pytest.mark.parametrize(
    "data",
    [b"NV1N", b"NV1NAccept", b"NV1Nb,a", b"NV1Na,a", b"NV1Na b", b"NV1N" + b",".join(b"h%03d" % n for n in range(33))],
)
def test_names_that_are_none(data: bytes) -> None:
    assert entries.decode_names(data) is None
