"""What an upstream may send that must not reach a client, least of all the next one.

A response that cannot be read in one way only becomes 502 with the reason bad_response, and its connection is not
used again: whatever else is on it could be taken for the answer to somebody else's request.
"""

import pytest

from .conftest import StartSidecar
from .support.message import chunked, request, response
from .support.peer import Listener, Peer
from .support.sidecar import Sidecar, document, inbound
from .support.wire import Wire

OK = b"HTTP/1.1 200 OK\r\n"
BROKEN_HEADS = {
    "not HTTP": b"hello there\r\n\r\n",
    "request instead": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces before the status": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "CL and TE": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abcde"),
    "two different CL": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "list of different CL": OK + b"Content-Length: 5, 6\r\n\r\nabcdef",
    "negative CL": OK + b"Content-Length: -5\r\n\r\nabcde",
    "CL with plus": OK + b"Content-Length: +5\r\n\r\nabcde",
    "CL in hex": OK + b"Content-Length: 0x5\r\n\r\nabcde",
    "CL empty": OK + b"Content-Length:\r\n\r\nabcde",
    "CL too large": OK + b"Content-Length: 99999999999999999999999\r\n\r\nabcde",
    "TE unknown": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + chunked(b"abcde"),
    "TE identity": OK + b"Transfer-Encoding: identity\r\n\r\nabcde",
    "TE chunked, identity": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunked(b"abcde"),
    "TE with vertical tab": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + chunked(b"abcde"),
    "TE in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abcde"),
    "folded field": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": OK + b"Content-Length : 5\r\n\r\nabcde",
    "field without colon": OK + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "bare LF": OK + b"X: a\nSet-Cookie: admin=1\r\nContent-Length: 0\r\n\r\n",
    "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare CR": OK + b"X: a\rSet-Cookie: admin=1\r\nContent-Length: 0\r\n\r\n",
    "NUL": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": OK + b"X\x00: b\r\nContent-Length: 0\r\n\r\n",
    "control character in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "101 nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw",
    "empty lines first": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("reply", BROKEN_HEADS.values(), ids=BROKEN_HEADS.keys())
@pytest.mark.parametrize("side", ["web", "db"], ids=["inbound", "outbound"])
def test_a_broken_head_becomes_502(wire: Wire, side: str, reply: bytes) -> None:
    client, app, _ = wire.arrived(request("GET", "/first"), side)
    app.send(reply)

    refusal = client.response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (502, "bad_response")
    wire.gone(app)
    assert b"admin" not in client.received
    client.send_if_open(request("GET", "/second"))  # and the next answer is the next request's
    if not refusal.has("connection", "close"):
        app = wire.app()
        assert app.request().target == "/second"
        app.send(response(body=b"second"))
        assert client.response().body == b"second"


def test_a_head_that_is_too_large(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send_if_open(OK + b"X-Big: " + b"b" * 400_000 + b"\r\n\r\n")

    refusal = client.response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (502, "response_head_too_large")
    wire.gone(app)


def test_too_many_fields(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send_if_open(OK + b"X: y\r\n" * 5000 + b"\r\n")

    assert client.response().status == 502
    wire.gone(app)


BROKEN_CHUNKS = {
    "size not hex": b"zz\r\nabcde\r\n0\r\n\r\n",
    "size negative": b"-5\r\nabcde\r\n0\r\n\r\n",
    "size 0x": b"0x5\r\nabcde\r\n0\r\n\r\n",
    "size too large": b"fffffffffffffffff\r\nabcde",
    "data too long": b"5\r\nabcdefg\r\n0\r\n\r\n",
    "bare LF": b"5\nabcde\n0\n\n",
    "trailer with LF": b"5\r\nabcde\r\n0\r\nX: y\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_a_broken_body_is_seen_to_be_broken(wire: Wire, body: bytes) -> None:
    """The head may have gone out already: the client must see an end that is no end, never a complete message."""
    client, app, _ = wire.arrived(request())
    app.send_if_open(response("200 OK", "Transfer-Encoding: chunked", body=None) + body)

    head = client.head()

    rest = client.expect_closed()
    if head.status == 200:
        assert not rest.endswith(b"0\r\n\r\n"), rest
    else:
        assert (head.status, head.get("x-nova-reject")) == (502, "bad_response")
    wire.gone(app)


def test_a_short_body_is_seen_to_be_short(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Content-Length: 10", body=None) + b"12345")
    app.close()

    assert client.head().get("content-length") == "10"
    assert client.expect_closed() == b"12345"


def test_chunks_without_an_end(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Transfer-Encoding: chunked", body=None) + b"5\r\nabcde\r\n")
    app.close()

    client.head()

    assert not client.expect_closed().endswith(b"0\r\n\r\n")


def _keepalive(start: StartSidecar, listener: Listener) -> tuple[Sidecar, Peer, Peer]:
    """A sidecar that would reuse its connection to the app, and a connection that answered once."""
    sidecar = start(document(inbound(listener.address)))
    client = sidecar.connect()
    client.send(request("GET", "/1"))
    app = listener.accept()
    app.request()
    return sidecar, client, app


@pytest.mark.parametrize(
    "extra",
    [b"x", response(body=b"for somebody else"), b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"],
    ids=["a byte", "a response", "408"],
)
@pytest.mark.parametrize("together", [True, False], ids=["with it", "later"])
def test_bytes_after_a_response_are_nobodys(
    start: StartSidecar, listener: Listener, extra: bytes, *, together: bool
) -> None:
    """Left in the connection, they would answer the next client's request."""
    sidecar, client, app = _keepalive(start, listener)
    if together:
        app.send(response(body=b"one") + extra)
        assert client.response().body == b"one"
    else:
        app.send(response(body=b"one"))
        assert client.response().body == b"one"
        app.send(extra)
    app.expect_closed()

    with sidecar.connect() as other:
        other.send(request("GET", "/2"))
        fresh = listener.accept()
        assert fresh.request().target == "/2"
        fresh.send(response(body=b"two"))
        assert other.response().body == b"two"
    assert client.poll() == b""
    client.close()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_body_where_none_may_be(start: StartSidecar, listener: Listener, status: str) -> None:
    _, client, app = _keepalive(start, listener)
    app.send(f"HTTP/1.1 {status}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".encode())

    assert client.response().start == f"HTTP/1.1 {status}"
    client.send_if_open(request("GET", "/2"))
    fresh = listener.accept()
    assert fresh.request().target == "/2"
    fresh.send(response(body=b"two"))
    assert client.response().body == b"two"
    client.close()


def test_a_body_after_head(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address)))
    with sidecar.connect() as client:
        client.send(request("HEAD", "/1"))
        app = listener.accept()
        app.request()
        app.send(response(body=b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
        assert client.response("HEAD").status == 200

        client.send(request("GET", "/2"))

        fresh = listener.accept()
        assert fresh.request().target == "/2"
        fresh.send(response(body=b"two"))
        assert client.response().body == b"two"


def test_a_response_before_any_request(start: StartSidecar, listener: Listener) -> None:
    """Sent before the request was complete, it could have been meant for anybody."""
    _, client, app = _keepalive(start, listener)
    app.send(response(body=b"one"))
    assert client.response().body == b"one"
    app.send(response(body=b"evil"))
    app.expect_closed()

    client.send(request("GET", "/2"))

    fresh = listener.accept()
    fresh.request()
    fresh.send(response(body=b"two"))
    assert client.response().body == b"two"
    client.close()
