"""How long a response's body is, and that the client gets exactly that body (RFC 9112 sections 6 and 7)."""

import pytest

from .support.message import chunked, request, response
from .support.wire import Wire


@pytest.fixture(params=["web", "db"], ids=["inbound", "outbound"])
def side(request: pytest.FixtureRequest) -> str:
    """Both directions run the same data path; the ways a body ends are checked on both."""
    name: str = request.param
    return name


def test_content_length(wire: Wire, side: str) -> None:
    answer = wire.answered(request(), response("200 Fine", "X-Powered-By: tests", body=b"hello"), side)

    assert answer.start == "HTTP/1.1 200 Fine"
    assert answer.get("x-powered-by") == "tests"
    assert (answer.get("content-length"), answer.body) == ("5", b"hello")


def test_chunked(wire: Wire, side: str) -> None:
    client, app, _ = wire.arrived(request(), side)
    app.send(response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"ab", b"cde"))

    answer = client.response()

    assert answer.has("transfer-encoding", "chunked")
    assert answer.get("content-length") is None
    assert answer.body == b"abcde"
    assert client.unread == b""


def test_chunks_arrive_while_the_app_goes_on(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Transfer-Encoding: chunked", body=None) + b"4\r\ntick\r\n")
    client.head()
    client.read_until(b"tick")

    app.send(b"4\r\ntock\r\n0\r\n\r\n")

    client.read_until(b"tock")
    client.read_until(b"0\r\n\r\n")


def test_response_trailers_reach_the_client(wire: Wire) -> None:
    client, app, _ = wire.arrived(request("GET", "/", "TE: trailers"))
    app.send(
        response("200 OK", "Trailer: X-Sum", "Transfer-Encoding: chunked", body=None)
        + chunked(b"abc", trailers=["X-Sum: 42"])
    )

    answer = client.response()

    assert answer.body == b"abc"
    assert answer.get("x-sum") is None
    assert answer.trailers == [("X-Sum", "42")]


def test_close_delimited(wire: Wire, side: str) -> None:
    """Without a length the body ends with the connection; the client must be able to tell where."""
    client, app, _ = wire.arrived(request(), side)
    app.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst ")
    assert client.head().status == 200
    client.read_until(b"first ")
    app.send(b"second")
    app.close()

    client.read_until(b"second")


def test_close_delimited_is_complete(wire: Wire, side: str) -> None:
    answer = wire.answered(request(), b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 100_000, side)

    assert answer.body == b"z" * 100_000


def test_http10_response_from_the_app(wire: Wire, side: str) -> None:
    answer = wire.answered(request(), b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nold body", side)

    assert answer.start.startswith("HTTP/1.1 200")
    assert answer.body == b"old body"


@pytest.mark.parametrize("lines", [["Content-Length: 1234"], ["Transfer-Encoding: chunked"], []], ids=str)
def test_head_has_no_body_whatever_the_fields_say(wire: Wire, lines: list[str]) -> None:
    client, app, arrived = wire.arrived(request("HEAD", "/file"))
    assert arrived.method == "HEAD"
    app.send(response("200 OK", *lines, body=None))

    answer = client.response("HEAD")

    assert answer.status == 200
    if "Content-Length: 1234" in lines:
        assert answer.get("content-length") == "1234"
    client.send(request("GET", "/next"))  # the connection is in step
    app = wire.app()
    assert app.request().target == "/next"
    app.send(response(body=b"next"))
    assert client.response().body == b"next"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("close", [False, True], ids=["open", "closed"])
def test_no_content_and_not_modified_have_no_body(wire: Wire, status: str, *, close: bool) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response(status, 'ETag: "v1"', body=None))
    if close:
        app.close()

    answer = client.response()

    assert answer.start == f"HTTP/1.1 {status}"
    assert answer.get("etag") == '"v1"'
    assert not answer.has("transfer-encoding", "chunked")
    client.send(request())
    app = wire.app()
    app.request()
    app.send(response(body=b"in step"))
    assert client.response().body == b"in step"


def test_not_modified_keeps_the_length_of_the_other_response(wire: Wire) -> None:
    """A 304 may tell the length a 200 would have had (RFC 9110 section 8.6); no body follows."""
    answer = wire.answered(request(), response("304 Not Modified", "Content-Length: 500", body=None))

    assert answer.status == 304
    assert answer.body == b""


def test_empty_body_with_length_zero(wire: Wire) -> None:
    answer = wire.answered(request(), response("200 OK"))

    assert (answer.get("content-length"), answer.body) == ("0", b"")


def test_response_split_at_every_byte(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    for byte in response("200 OK", "Transfer-Encoding: chunked", "X-A: b", body=None) + chunked(b"abc", b"d" * 20):
        app.send(bytes([byte]))

    answer = client.response()

    assert (answer.get("x-a"), answer.body) == ("b", b"abc" + b"d" * 20)


def test_reason_phrase_and_unusual_status_pass(wire: Wire) -> None:
    assert wire.answered(request(), response("299 Whatever you say")).start == "HTTP/1.1 299 Whatever you say"
    assert wire.answered(request(), response("599 ")).status == 599


def test_a_missing_reason_phrase_is_fine(wire: Wire) -> None:
    """The phrase may be empty; many servers then leave out the space as well."""
    assert wire.answered(request(), b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok").body == b"ok"


def test_http10_client_gets_no_chunks(wire: Wire) -> None:
    """Transfer codings are not for HTTP/1.0 (RFC 9112 section 6.1): the body ends with the connection."""
    client, app, arrived = wire.arrived(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n")
    assert arrived.start == "GET / HTTP/1.1"
    app.send(response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"plain", b" text"))

    answer = client.head()

    assert not answer.all("transfer-encoding")
    assert client.read_to_end() == b"plain text"


def test_http10_client_is_closed_after_the_response(wire: Wire) -> None:
    client, app, _ = wire.arrived(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n")
    app.send(response(body=b"bye"))

    assert client.response().body == b"bye"
    client.expect_closed()


def test_http10_client_may_keep_the_connection(wire: Wire) -> None:
    client, app, _ = wire.arrived(b"GET /1 HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n")
    app.send(response(body=b"one"))
    first = client.response()
    assert first.body == b"one"
    if not first.has("connection", "keep-alive"):
        client.expect_closed()  # a server need not keep it, but then it must close
        return

    client.send(b"GET /2 HTTP/1.0\r\nHost: app\r\n\r\n")

    app = wire.app()
    assert app.request().target == "/2"
    app.send(response(body=b"two"))
    assert client.response().body == b"two"


def test_client_that_asks_to_close(wire: Wire) -> None:
    client, app, _ = wire.arrived(request("GET", "/", "Connection: close"))
    app.send(response(body=b"bye"))

    answer = client.response()

    assert answer.body == b"bye"
    assert answer.has("connection", "close")
    client.expect_closed()


def test_app_that_closes_does_not_close_the_client(wire: Wire) -> None:
    """Connection is per hop: the app's wish is about its own connection (RFC 9110 section 7.6.1)."""
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Connection: close", body=b"one"))
    app.close()
    answer = client.response()
    assert answer.body == b"one"
    assert not answer.has("connection", "close")

    client.send(request())

    app = wire.app()
    app.request()
    app.send(response(body=b"two"))
    assert client.response().body == b"two"
