"""Requests that two parsers could read differently (RFC 9112 section 11.2).

Each row must be refused with 400 and the connection closed, and no byte of it may reach the app. Where the standard
leaves a choice the strict reading is taken: the app behind the sidecar may take the other one.
"""

import pytest

from .support.message import chunked, request
from .support.wire import Wire

HIDDEN = request("GET", "/smuggled")
CHUNKED = b"0\r\n\r\n"


def post(*lines: str | bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    fields = [line.encode("latin-1") if isinstance(line, str) else line for line in ("Host: app", *lines)]
    return b"POST / " + version + b"\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


TWO_LENGTHS = {
    "CL and TE": post("Content-Length: 6", "Transfer-Encoding: chunked", body=CHUNKED + b"X"),
    "TE and CL": post("Transfer-Encoding: chunked", "Content-Length: 4", body=CHUNKED + HIDDEN),
    "CL 0 and TE": post("Content-Length: 0", "Transfer-Encoding: chunked", body=CHUNKED),
    "two different CL": post("Content-Length: 5", "Content-Length: 6", body=b"abcdef"),
    "list of different CL": post("Content-Length: 5, 6", body=b"abcdef"),
    "TE in HTTP/1.0": post("Transfer-Encoding: chunked", body=CHUNKED, version=b"HTTP/1.0"),
    "CL and TE in HTTP/1.0": post(
        "Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKED, version=b"HTTP/1.0"
    ),
    "CL in Connection": post("Connection: Transfer-Encoding", "Transfer-Encoding: chunked", "Content-Length: 5",
                             body=CHUNKED),
}  # fmt: skip

TRANSFER_ENCODINGS = {
    name: post(line, body=CHUNKED + HIDDEN)
    for name, line in {
        "space before colon": "Transfer-Encoding : chunked",
        "tab before colon": "Transfer-Encoding\t: chunked",
        "xchunked": "Transfer-Encoding: xchunked",
        "chunkedx": "Transfer-Encoding: chunkedx",
        "identity": "Transfer-Encoding: identity",
        "chunked, identity": "Transfer-Encoding: chunked, identity",
        "identity, chunked": "Transfer-Encoding: identity, chunked",
        "gzip": "Transfer-Encoding: gzip",
        "gzip, chunked": "Transfer-Encoding: gzip, chunked",
        "chunked, gzip": "Transfer-Encoding: chunked, gzip",
        "chunked twice in a list": "Transfer-Encoding: chunked, chunked",
        "chunked with parameter": "Transfer-Encoding: chunked;a=b",
        "quoted": 'Transfer-Encoding: "chunked"',
        "single quoted": "Transfer-Encoding: 'chunked'",
        "vertical tab before": b"Transfer-Encoding: \x0bchunked",
        "vertical tab after": b"Transfer-Encoding: chunked\x0b",
        "form feed": b"Transfer-Encoding: \x0cchunked",
        "NUL after": b"Transfer-Encoding: chunked\x00",
        "0xA0 before": b"Transfer-Encoding: \xa0chunked",
        "0x85 after": b"Transfer-Encoding: chunked\x85",
        "empty": "Transfer-Encoding:",
        "comma": "Transfer-Encoding: ,",
        "chunked and comma": "Transfer-Encoding: chunked,",
        "comma and chunked": "Transfer-Encoding: ,chunked",
        "space inside": "Transfer-Encoding: chun ked",
        "obsolete folding": b"Transfer-Encoding:\r\n chunked",
        "obsolete folding with tab": b"Transfer-Encoding:\r\n\tchunked",
        "folded value": b"Transfer-Encoding: chunked\r\n , identity",
        "folded field before": b"X-A: b\r\n Transfer-Encoding: chunked",
        "line break in name": b"Transfer\r\n-Encoding: chunked",
        "leading space in the first field": b" Transfer-Encoding: chunked",
        "bare CR before": b"X: y\rTransfer-Encoding: chunked",
        "bare LF before": b"X: y\nTransfer-Encoding: chunked",
        "bare LF after": b"Transfer-Encoding: chunked\nX: y",
        "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "identity then chunked": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "chunked then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "chunked then x": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "underscore twin": b"Content-Length: 5\r\nTransfer_Encoding : chunked",
    }.items()
}

CONTENT_LENGTHS = {
    f"CL {line!r}": post(b"Content-Length: " + line, body=b"abcde" + HIDDEN)
    for line in (
        b"+5", b"-5", b"-0", b"0x5", b"5.0", b"5e0", b"5 5", b"5,5", b"5, 5", b"5;", b"5a", b"a5", b"", b"five", b'"5"',
        b"5_0", b"\xb2", b"\xd9\xa5", b"5\x0b", b"\x0b5", b"5\x00", b"1" * 20, b"18446744073709551621",
        b"18446744073709551616", b"9223372036854775808", b"99999999999999999999999999",
    )
}  # fmt: skip
CONTENT_LENGTHS |= {
    "CL space before colon": post("Content-Length : 5", body=b"abcde"),
    "CL folded": post(b"Content-Length:\r\n 5", body=b"abcde"),
    "CL folded digits": post(b"Content-Length: 5\r\n 5", body=b"abcde" * 11),
    "CL bare CR": post(b"Content-Length: 5\rX: y", body=b"abcde"),
    "CL name with NUL": post(b"Content-Length\x00: 5", body=b"abcde"),
}

CHUNK_SIZES = {
    f"chunk size {size[:12]!r}{' and more' if len(size) > 40 else ''}": post(
        "Transfer-Encoding: chunked", body=size + b"abcde\r\n0\r\n\r\n" + HIDDEN
    )
    for size in (
        b"0x5\r\n", b"-5\r\n", b"+5\r\n", b" 5\r\n", b"5h\r\n", b"g\r\n", b"\r\n", b"5 5\r\n", b"5_\r\n", b"\xb25\r\n",
        b"5\n", b"5\r", b"5\rX\n", b"10000000000000005\r\n", b"fffffffffffffffff\r\n", b"ffffffffffffffff\r\n",
        b"5\x00\r\n", b"5;a\nb\r\n", b"5;a\rb\r\n", b"5;a=\x00\r\n", b'5;a="\n"\r\n', b"\t5\r\n", b"5\x0b\r\n",
        b"0" * 40_000 + b"5\r\n", b"5;" + b"e" * 40_000 + b"\r\n",
    )
}  # fmt: skip
CHUNK_DATA = {
    name: post("Transfer-Encoding: chunked", body=body + HIDDEN)
    for name, body in {
        "data longer than its size": b"5\r\nabcdefg\r\n0\r\n\r\n",
        "data without line break": b"5\r\nabcde0\r\n\r\n",
        "data ended by LF": b"5\r\nabcde\n0\r\n\r\n",
        "data ended by CR": b"5\r\nabcde\r0\r\n\r\n",
        "data ended by two bytes": b"5\r\nabcdeXX0\r\n\r\n",
        "last chunk ended by LF": b"5\r\nabcde\r\n0\n\n",
        "trailer ended by LF": b"5\r\nabcde\r\n0\r\nX: y\n\r\n",
        "trailer without colon": b"5\r\nabcde\r\n0\r\nnonsense\r\n\r\n",
        "trailer folded": b"5\r\nabcde\r\n0\r\nX: y\r\n z\r\n\r\n",
        "trailer with NUL": b"5\r\nabcde\r\n0\r\nX: \x00\r\n\r\n",
        "trailer flood": b"5\r\nabcde\r\n0\r\n" + b"X: yyyyyyyyyyyyyy\r\n" * 20_000 + b"\r\n",
        "empty line ended by LF": b"5\r\nabcde\r\n0\r\n\n",
    }.items()
}

LINES = {
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
    "bare CR after the request line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "bare CR at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n",
    "two CR": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "two CR after a field": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "folded value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "space before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "field without colon": b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
    "field without name": b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
    "space in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "space before Host's colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "flood of empty lines": b"\r\n" * 50_000 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "space after the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "vertical tab in the request line": b"GET /\x0bHTTP/1.1\r\nHost: a\r\n\r\n",
    "target without slash": b"GET index.html HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "no method": b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a colon": b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority for GET": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
}
CONTROLS = {
    f"{where} 0x{code:02x}": line % bytes([code])
    for where, line in {
        "value with": b"GET / HTTP/1.1\r\nHost: a\r\nX: y%sz\r\n\r\n",
        "name with": b"GET / HTTP/1.1\r\nHost: a\r\nX%sY: z\r\n\r\n",
        "target with": b"GET /a%sb HTTP/1.1\r\nHost: a\r\n\r\n",
        "method with": b"GE%sT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "host with": b"GET / HTTP/1.1\r\nHost: a%sb\r\n\r\n",
    }.items()
    for code in (0x00, 0x01, 0x07, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
}
NAMES = {
    f"name with {chr(code)!r}": b"GET / HTTP/1.1\r\nHost: a\r\nX%sY: z\r\n\r\n" % bytes([code])
    for code in (*b'()<>@,;\\"/[]?={}', 0x80, 0xFF)
}

REFUSED_AT_THE_HEAD = TWO_LENGTHS | TRANSFER_ENCODINGS | CONTENT_LENGTHS | LINES | CONTROLS | NAMES
REFUSED_IN_THE_BODY = CHUNK_SIZES | CHUNK_DATA


@pytest.mark.parametrize("data", REFUSED_AT_THE_HEAD.values(), ids=REFUSED_AT_THE_HEAD.keys())
def test_refused_before_the_app_hears_of_it(wire: Wire, data: bytes) -> None:
    """400; 431 where the line is refused for its size and 501 for a transfer coding that is not known."""
    refusal = wire.refused(data)

    assert refusal.status in {400, 431, 501}
    assert refusal.has("connection", "close")


@pytest.mark.parametrize("data", REFUSED_IN_THE_BODY.values(), ids=REFUSED_IN_THE_BODY.keys())
def test_a_broken_body_ends_the_exchange(wire: Wire, data: bytes) -> None:
    """The head was good, so the app may have been called: what it got must not look like a complete request."""
    client = wire.client()
    client.send_if_open(data)

    refusal = client.response()

    assert refusal.status in {400, 413, 431}
    client.expect_closed()
    for app in [] if wire.untouched() else [wire.app()]:
        app.expect_closed()
        assert b"/smuggled" not in app.received
        assert not app.received.endswith(b"0\r\n\r\n"), bytes(app.received)
    assert wire.untouched()


def test_the_shared_rows_are_refused_by_outbound_too(wire: Wire) -> None:
    for data in [*TWO_LENGTHS.values(), *LINES.values()]:
        assert wire.refused(data, "db").status in {400, 431, 501}


def test_what_is_odd_but_clear_passes(wire: Wire) -> None:
    """The other side of strictness: none of these can be read in two ways."""
    for data, body in {
        post("Content-Length: 5", body=b"abcde"): b"abcde",
        post("Content-Length:5", body=b"abcde"): b"abcde",
        post("Content-Length: \t5 \t ", body=b"abcde"): b"abcde",
        post("Content-Length: 005", body=b"abcde"): b"abcde",
        post("Transfer-Encoding: chunked \t", body=chunked(b"abcde")): b"abcde",
        post("transfer-encoding:CHUNKED", body=chunked(b"abcde")): b"abcde",
        post("Transfer-Encoding: chunked", body=b"0005\r\nabcde\r\n000\r\n\r\n"): b"abcde",
        post("Transfer-Encoding: chunked", body=b"5;a=b\r\nabcde\r\n0\r\n\r\n"): b"abcde",
    }.items():
        _, app, arrived = wire.arrived(data)
        assert arrived.body == body
        app.close()
