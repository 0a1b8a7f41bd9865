from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nova_sidecar.policy.idempotency import (
    HostileError,
    Lease,
    LocalRecords,
    Record,
    Spent,
    decode,
    encode,
    fingerprint,
    identity,
    kept_fields,
    parse_key,
    scope,
    storable,
)

PRINT = bytes(range(32))
UUID = b"8e03978e-40d5-43dd-bc93-6894a57f9324"
CREATED = Record(PRINT, 201, b"content-type: application/json\r\nlocation: /orders/7\r\n", b'{"id":7}')


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"%b"' % UUID, UUID),  # as the draft has it
        (UUID, UUID),  # as most send it
        (b'"a b, c"', b"a b, c"),
        (rb'"a\"b\\c"', rb'a"b\c'),
        (b'"abc";v=1', b"abc"),
        (b"A" * 255, b"A" * 255),
        (b'"%b"' % (b"A" * 255), b"A" * 255),
        (rb'"%b"' % (rb"\"" * 255), b'"' * 255),
        (b"order:42/retry+1==", b"order:42/retry+1=="),
    ],
)
def test_what_is_a_key(value: bytes, key: bytes) -> None:
    assert parse_key(value) == key


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'""',
        b'"',
        b'"abc',
        b'abc"',
        b"A" * 256,
        b'"%b"' % (b"A" * 256),
        b'"abc", "def"',  # two fields
        b"abc, def",
        b"abc def",
        rb'"a\b"',
        b'"a\x7f"',
        b'"a\tb"',
        b'"\xc3\xa4"',
        b"\xc3\xa4",
        b":YWJj:x,",
        b'"abc" "def"',
        b'"abc";\x01',
    ],
)
def test_what_is_none(value: bytes) -> None:
    assert parse_key(value) is None


@given(st.binary(max_size=600))
@example(b'"' + rb"\\" * 300 + b'"')
def test_a_key_is_bounded_whatever_comes(value: bytes) -> None:
    key = parse_key(value)
    assert key is None or 1 <= len(key) <= 255


ALICE = identity(subject=b"alice", tenant=b"", shown=())
BEARER = identity(subject=b"", tenant=b"", shown=((b"authorization", b"Bearer a"),))


def test_a_key_is_its_owners_alone() -> None:
    others = [
        identity(subject=b"bob", tenant=b"", shown=()),
        identity(subject=b"alice", tenant=b"shop", shown=()),
        BEARER,
        identity(subject=b"", tenant=b"", shown=((b"authorization", b"Bearer b"),)),
        identity(subject=b"", tenant=b"", shown=((b"cookie", b"Bearer a"),)),
        identity(subject=b"", tenant=b"", shown=((b"authorization", b"Bearer a"), (b"cookie", b"s=1"))),
        identity(subject=b"", tenant=b"", shown=()),
    ]
    assert len({ALICE, *others}) == len(others) + 1


def test_who_is_known_is_the_same_whatever_else_is_shown() -> None:
    assert identity(subject=b"alice", tenant=b"", shown=((b"cookie", b"_ga=1"),)) == ALICE


def test_a_key_counts_within_port_method_host_and_path() -> None:
    base = (UUID, b"POST", b"shop.example", b"/orders", ALICE)
    here = partial(scope, port=b"http")
    assert here(*base) == here(UUID, b"POST", b"Shop.Example", b"/orders", ALICE)
    others = [
        here(UUID + b"x", *base[1:]),
        scope(*base, port=b"admin"),
        here(UUID, b"PATCH", *base[2:]),
        here(UUID, b"POST", b"other.example", b"/orders", ALICE),
        here(UUID, b"POST", b"shop.example", b"/refunds", ALICE),
        here(UUID, b"POST", b"shop.example", b"/orders", BEARER),
        here(UUID + b"POST", b"", b"shop.example", b"/orders", ALICE),  # parts do not run together
    ]
    assert len({here(*base), *others}) == len(others) + 1


def test_what_a_request_says() -> None:
    first = fingerprint(b"a=1", b"{}", 2)
    assert first == fingerprint(b"a=1", b"{}", -1)  # chunked or not
    others = [
        fingerprint(b"a=2", b"{}", 2),
        fingerprint(b"a=1", b"{ }", 3),
        fingerprint(b"a=1", b"", 0),
        fingerprint(b"a=1{}", b"", 0),
        fingerprint(b"a=1", None, 100_000),
        fingerprint(b"a=1", None, 100_001),
        fingerprint(b"a=1", None, -1),
    ]
    assert len({first, *others}) == len(others) + 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 301, 303, 304, 400, 403, 404, 409, 410, 422, 499])
def test_a_last_word_is_kept(status: int) -> None:
    assert storable(status)


@pytest.mark.parametrize("status", [100, 101, 103, 401, 407, 408, 421, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_be_tried_again_is_not(status: int) -> None:
    assert not storable(status)


def test_which_fields_are_kept() -> None:
    head = (
        b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nSet-Cookie: s=1\r\nContent-Length: 2\r\n"
        b"x-nova-reject: overloaded\r\nLocation: /1\r\nDate: now\r\nIdempotent-Replayed: true\r\n"
    )
    assert kept_fields(head) == b"Content-Type: text/plain\r\nLocation: /1\r\nDate: now\r\n"
    assert kept_fields(b"HTTP/1.1 204 No Content\r\n") == b""
    assert kept_fields(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101) is None
    assert kept_fields(b"HTTP/1.1 200 OK\r\na: " + b"b" * 33_000 + b"\r\n") is None


def test_an_answer_as_it_is_repeated() -> None:
    assert CREATED.head() == (
        b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nlocation: /orders/7\r\ncontent-length: 8\r\n"
        b"idempotent-replayed: true\r\n"
    )
    assert Record(PRINT, 204, b"", b"").head() == b"HTTP/1.1 204 No Content\r\nidempotent-replayed: true\r\n"
    assert Record(PRINT, 299, b"", b"").head().startswith(b"HTTP/1.1 299 \r\ncontent-length: 0\r\n")


@pytest.mark.parametrize("remembered", [Lease(b"t" * 16, PRINT), Spent(PRINT), CREATED, Record(PRINT, 204, b"", b"")])
def test_what_is_stored_is_read_back(remembered: Lease | Spent | Record) -> None:
    assert decode(encode(remembered), 100) == remembered


@given(
    status=st.integers(200, 499).filter(storable).filter(lambda status: status not in (204, 304)),
    lines=st.lists(st.from_regex(rb"\A[a-z]{1,9}x: [ -~]{0,20}\Z"), max_size=5),
    body=st.binary(max_size=200),
)
def test_every_answer_that_is_kept_is_read_back(status: int, lines: list[bytes], body: bytes) -> None:
    fields = kept_fields(b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines))
    assert fields is not None
    record = Record(PRINT, status, fields, body)
    assert decode(encode(record), 200) == record


GOOD = encode(CREATED)
HOSTILE = {
    "nothing": b"",
    "another program's value": b"hello",
    "the value of another version": b"nova2" + GOOD[5:],
    "cut before the fingerprint": GOOD[:30],
    "an unknown kind": GOOD[:5] + b"X" + GOOD[6:],
    "a lease with more": encode(Lease(b"t" * 16, PRINT)) + b"x",
    "a spent key with more": encode(Spent(PRINT)) + b"x",
    "no sizes": GOOD[:40],
    "sizes that are no numbers": GOOD[:38] + b"2x100054" + GOOD[46:],
    "a refusal": encode(CREATED._replace(status=503)),
    "a challenge": encode(CREATED._replace(status=401)),
    "an upgrade": encode(CREATED._replace(status=101)),
    "a body larger than is kept": encode(CREATED._replace(body=b"x" * 101)),
    "more fields than there are": encode(CREATED)[:60],
    "a second answer": encode(CREATED._replace(fields=b"a: b\r\n\r\nHTTP/1.1 200 OK\r\n")),
    "a bare line feed": encode(CREATED._replace(fields=b"a: b\nset-cookie: s=1\r\n")),
    "half a line": encode(CREATED._replace(fields=b"a: b\r\nc: d")),
    "a folded line": encode(CREATED._replace(fields=b"a: b\r\n c\r\n")),
    "a cookie": encode(CREATED._replace(fields=b"Set-Cookie: s=1\r\n")),
    "a length of its own": encode(CREATED._replace(fields=b"content-length: 1\r\n")),
    "a framing of its own": encode(CREATED._replace(fields=b"Transfer-Encoding: chunked\r\n")),
    "a space before the colon": encode(CREATED._replace(fields=b"a : b\r\n")),
    "too many fields": encode(CREATED._replace(fields=b"a: b\r\n" * 101)),
    "a content with 204": encode(CREATED._replace(status=204)),
    "a zero byte": encode(CREATED._replace(fields=b"a: \x00\r\n")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_nova_has_not_written_is_refused(name: str) -> None:
    with pytest.raises(HostileError):
        decode(HOSTILE[name], 100)


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda data: GOOD[:38] + data))
def test_whatever_the_store_says_ends_in_an_answer_or_an_error(value: bytes) -> None:
    try:
        found = decode(value, 100)
    except HostileError:
        return
    if isinstance(found, Record):
        head = found.head()
        assert b"\r\n\r\n" not in head
        assert head.lower().count(b"content-length:") == (found.status not in (204, 304))


def test_local_records_expire() -> None:
    records = LocalRecords(100)
    records.put("a", b"1", 10, now=0)
    assert records.get("a", now=9.9) == b"1"
    assert records.get("a", now=10) is None
    assert (len(records), records.size) == (0, 0)


def test_local_records_are_bounded_and_the_oldest_leave() -> None:
    records = LocalRecords(10)
    for name in ("a", "b", "c"):
        records.put(name, b"12345", 60, now=0)
    assert [records.get(name, 0) for name in ("a", "b", "c")] == [None, b"12345", b"12345"]
    records.put("b", b"1", 60, now=0)
    assert (len(records), records.size) == (2, 6)
    records.put("d", b"x" * 11, 60, now=0)
    assert records.get("d", 0) is None
    records.drop("c")
    records.drop("c")
    assert repr(records) == "<LocalRecords 1 names, 1 bytes>"
