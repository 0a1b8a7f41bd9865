"""Request heads: what is read, what goes upstream, and what is refused and why."""

import tracemalloc

import pytest

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import MAX_FIELDS, MAX_HEAD, MAX_TARGET, Malformed
from nova_sidecar.wire.head import check_start, head_end
from nova_sidecar.wire.request import RequestHead, RequestReader, Upgrades

CAPTURE = frozenset((b"x-correlation-id", b"x-nova-deadline-ms"))


def read(text: bytes, upgrades: Upgrades = "none") -> RequestHead:
    return RequestReader(capture=CAPTURE, upgrades=upgrades, host=b"127.0.0.1:8080").read(text)


def head(*lines: str, start: str = "GET / HTTP/1.1", host: str | None = "a") -> bytes:
    fields = ([f"Host: {host}"] if host is not None else []) + list(lines)
    return "\r\n".join([start, *fields, "", ""]).encode("latin-1")


def test_a_head_goes_on_as_it_came() -> None:
    text = head("X-One: 1", "x-one:2", "Accept:  */*  ", "Cookie: a=\xe4")

    got = read(text)

    assert got.forward == text[:-2]
    assert (got.verb, got.path, got.length, got.keep_alive) == ("GET", "/", 0, True)


def test_the_query_is_forwarded_and_kept_out_of_the_path() -> None:
    got = read(head(start="GET /a/b?token=secret HTTP/1.1"))

    assert got.path == "/a/b"
    assert got.forward.startswith(b"GET /a/b?token=secret HTTP/1.1\r\n")
    assert "secret" not in repr(got)


@pytest.mark.parametrize(
    "dropped",
    ["Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Upgrade: h2c"],
)
def test_what_belongs_to_the_connection_ends_here(dropped: str) -> None:
    assert read(head(dropped, "X-Kept: 1")).forward == head("X-Kept: 1")[:-2]


def test_fields_that_connection_names_end_here_too() -> None:
    got = read(head("Connection: x-Private, keep-alive", "X-Private: 1", "X-Kept: 1"))

    assert got.forward == head("X-Kept: 1")[:-2]
    assert got.keep_alive


def test_captured_fields_are_taken_out() -> None:
    got = read(head("X-Correlation-Id: abc", "X-Nova-Deadline-MS: 250"))

    assert got.captured == {b"x-correlation-id": b"abc", b"x-nova-deadline-ms": b"250"}
    assert got.forward == head()[:-2]


@pytest.mark.parametrize(
    ("start", "lines", "keep"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: close",), False),
        ("GET / HTTP/1.1", ("Connection: Keep-Alive, Close",), False),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), True),
    ],
)
def test_persistence(start: str, lines: tuple[str, ...], keep: bool) -> None:
    assert read(head(*lines, start=start)).keep_alive is keep


def test_http10_goes_on_as_http11_with_a_host_and_without_expect() -> None:
    got = read(head("Expect: 100-continue", start="GET / HTTP/1.0", host=None))

    assert got.forward == b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
    assert not got.expects


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        ("http://b/x?y", b"GET /x?y HTTP/1.1\r\nHost: b\r\n"),
        ("HTTP://b:81", b"GET / HTTP/1.1\r\nHost: b:81\r\n"),
        ("https://b?y", b"GET /?y HTTP/1.1\r\nHost: b\r\n"),
    ],
)
def test_absolute_form_becomes_origin_form_and_decides_the_host(target: str, forwarded: bytes) -> None:
    assert read(head(start=f"GET {target} HTTP/1.1", host="other")).forward == forwarded


@pytest.mark.parametrize(
    ("lines", "length"),
    [((), 0), (("Content-Length: 0",), 0), (("Content-Length: 12",), 12), (("Transfer-Encoding: Chunked",), CHUNKED)],
)
def test_framing(lines: tuple[str, ...], length: int) -> None:
    assert read(head(*lines)).length == length


@pytest.mark.parametrize(
    ("upgrades", "value", "passed"),
    [
        ("none", "websocket", False),
        ("websocket", "WebSocket", True),
        ("websocket", "other", False),
        ("any", "other", True),
        ("any", "h2c", False),
        ("any", "websocket, h2c", False),
    ],
)
def test_upgrades_pass_where_the_port_allows_them(upgrades: Upgrades, value: str, passed: bool) -> None:
    got = read(head("Connection: Upgrade", f"Upgrade: {value}"), upgrades)

    assert got.upgrade is passed
    assert (b"\r\nupgrade: " in got.forward) is passed


BAD = {
    "no host": head(host=None),
    "two hosts": head("Host: b"),
    "host with a path": head(host="a/b"),
    "host with user": head(host="u@a"),
    "obs-fold": head("X: a", " b"),
    "space before colon": head("X : a"),
    "no colon": head("X"),
    "empty name": head(": a"),
    "nul in value": head("X: \0"),
    "bare cr in value": head("X: a\rb"),
    "bare lf": head("X: a\nY: b"),
    "delete in value": head("X: \x7f"),
    "two spaces": head(start="GET  / HTTP/1.1"),
    "lower-case version": head(start="GET / http/1.1"),
    "fragment": head(start="GET /#a HTTP/1.1"),
    "umlaut in target": head(start="GET /\xe4 HTTP/1.1"),
    "star for GET": head(start="GET * HTTP/1.1"),
    "ftp": head(start="GET ftp://a/ HTTP/1.1"),
    "both lengths": head("Content-Length: 1", "Transfer-Encoding: chunked"),
    "two content-lengths": head("Content-Length: 1", "Content-Length: 1"),
    "list of content-lengths": head("Content-Length: 1, 1"),
    "signed content-length": head("Content-Length: +1"),
    "long content-length": head("Content-Length: 1234567890123456789"),
    "two codings": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "empty coding": head("Transfer-Encoding: "),
    "disguised coding": head("Transfer_Encoding: chunked"),
    "disguised length": head("content_Length: 5"),
    "chunked in HTTP/1.0": head("Transfer-Encoding: chunked", start="GET / HTTP/1.0"),
    "connection names host": head("Connection: host"),
    "connection names content-length": head("Connection: Content-Length", "Content-Length: 5"),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_bad_requests(text: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read(text)
    assert refused.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (head(start="CONNECT a:1 HTTP/1.1"), Reason.UNSUPPORTED_METHOD),
        (head(start="GET / HTTP/2.0"), Reason.UNSUPPORTED_VERSION),
        (head(start="GET / HTTP/0.9"), Reason.UNSUPPORTED_VERSION),
        (b"PRI * HTTP/2.0\r\n\r\n", Reason.UNSUPPORTED_VERSION),
        (head("Transfer-Encoding: gzip, chunked"), Reason.NOT_IMPLEMENTED),
        (head("Transfer-Encoding: gzip"), Reason.BAD_REQUEST),
        (head(start=f"GET /{'a' * MAX_TARGET} HTTP/1.1"), Reason.URI_TOO_LONG),
        (head(*["X: 1"] * MAX_FIELDS), Reason.HEADER_TOO_LARGE),
        (head("X: " + "a" * MAX_HEAD), Reason.HEADER_TOO_LARGE),
    ],
)
def test_refusals_by_reason(text: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as refused:
        read(text)
    assert refused.value.reason is reason


STARTS = (
    "GET / HTTP/1.1", "GET / HTTP/1.0", "GET /a?q=1 HTTP/1.1", "HEAD / HTTP/1.1", "POST / HTTP/1.1",
    "GET http://b/x HTTP/1.1", "OPTIONS * HTTP/1.1", "GET * HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET  / HTTP/1.1",
)  # fmt: skip
FIELDS: tuple[tuple[str, ...], ...] = (
    ("Host: a",), ("host: a",), ("Host: c:8080", "X-One: 1"), ("Host: a b",), ("Host: a", "Host: a"), (),
    ("Host: a", "Connection: close"), ("Host: a", "Connection: x-one", "X-One: 1"), ("Host: a", "Content-Length: 3"),
    ("Host: a", "content_length: 3"), ("Host: a", "X-Correlation-Id: 1"), ("Host: a", "X-Correlation-Id: b\x00d"),
    ("Host: a", "X-Correlation-Id: 1", "x-correlation-id: 2"), ("Host: a", "traceparent: 00-1"), ("Host : a",),
    ("Host: a", "traceparent : 00-1"), ("X-Correlation-Id: 1",),
    ("Host: a", "Upgrade: websocket", "Connection: upgrade"), ("Host: a", "Expect: 100-continue", "Content-Length: 1"),
    ("Host: a", "Transfer-Encoding: chunked"),
)  # fmt: skip


def outcome(reader: RequestReader, text: bytes) -> object:
    try:
        got = reader.read(text)
    except Malformed as why:
        return (why.reason, why.why)
    return {name: getattr(got, name) for name in RequestHead.__slots__}


def test_what_was_read_before_changes_nothing() -> None:
    """Heads, lines and names are remembered: a reader that has seen everything reads each head as a new one does."""
    heads = [head(*fields, start=start, host=None) for start in STARTS for fields in FIELDS]

    def new() -> RequestReader:
        return RequestReader(capture=CAPTURE, upgrades="websocket", host=b"127.0.0.1:8080")

    alone = [outcome(new(), text) for text in heads]
    shared = new()
    assert [outcome(shared, text) for text in heads] == alone
    assert [outcome(shared, text) for text in reversed(heads)] == alone[::-1]
    assert {type(each) for each in alone} == {dict, tuple}


def test_lines_and_names_that_never_come_again_are_not_kept_for_good() -> None:
    reader = RequestReader(capture=CAPTURE, upgrades="none", host=b"127.0.0.1:8080")
    tracemalloc.start()
    try:
        for number in range(20_000):
            reader.read(head(f"x-{number}: 1", "x-value: " + "v" * 100, start=f"GET /{number}/{'p' * 100} HTTP/1.1"))
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_refusals_never_quote_the_message() -> None:
    for text in BAD.values():
        with pytest.raises(Malformed) as refused:
            read(text.replace(b"X", b"Secret"))
        assert "Secret" not in refused.value.why


def test_the_end_of_a_head_is_found_wherever_it_is_cut() -> None:
    text = head("X: 1") + b"rest"
    whole = len(text) - 4
    for cut in range(len(text) + 1):
        assert head_end(text[:cut]) == (whole if cut >= whole else -1)
        assert head_end(text, searched=min(cut, whole - 1)) == whole


def test_what_only_nova_says_is_not_believed_when_a_caller_says_it() -> None:
    guarded = frozenset((b"x-tenant-id", b"x-nova-subject"))
    shown = frozenset((b"x-tenant-id", b"x-api-key"))
    reader = RequestReader(capture=CAPTURE, upgrades="none", host=b"a", show=shown, guarded=guarded)
    spoofed = ("X-Tenant-Id: globex", "x_tenant_id: globex", "X-Nova_Subject: root")

    got = reader.read(head(*spoofed, "X-Api-Key: k"))

    assert got.forward == head("X-Api-Key: k")[:-2]
    assert got.captured == {b"x-api-key": b"k"}


@pytest.mark.parametrize(
    "text", [b"G", b"GET", b"GET ", b"GET /", b"GET / HT", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nX"]
)
def test_a_beginning_of_a_request_is_waited_for(text: bytes) -> None:
    check_start(text)


@pytest.mark.parametrize("text", [b"\x16\x03\x01", b"*1\r\n", b"hello\r\n", b" GET", b"GET  ", b"GET / X", b"\xff"])
def test_what_cannot_become_a_request_is_told_at_once(text: bytes) -> None:
    with pytest.raises(Malformed):
        check_start(text)


def test_later_minor_versions_are_read_as_the_last_one_known() -> None:
    """RFC 9110 section 2.5."""
    taken = read(head(start="GET / HTTP/1.7"))
    assert taken.forward.startswith(b"GET / HTTP/1.1\r\n")
    assert taken.keep_alive
    assert not taken.http10
