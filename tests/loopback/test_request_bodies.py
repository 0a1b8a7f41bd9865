"""How long a request's body is, and that the app gets exactly that body (RFC 9112 sections 6 and 7)."""

import pytest

from .support.message import chunked, request, response
from .support.wire import Wire


def test_content_length_body_arrives_whole(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("POST", "/orders", body=b"a=1&b=2"))

    assert arrived.start == "POST /orders HTTP/1.1"
    assert arrived.get("content-length") == "7"
    assert arrived.body == b"a=1&b=2"
    app.send(response("201 Created", body=b"done"))
    assert (client.response().status, client.unread) == (201, b"")


def test_body_is_passed_on_while_it_is_sent(wire: Wire) -> None:
    client = wire.client()
    client.send(request("POST", "/", "Content-Length: 10") + b"01234")
    app = wire.app()
    assert app.head().get("content-length") == "10"
    assert app.read_exactly(5) == b"01234"

    client.send(b"56789")

    assert app.read_exactly(5) == b"56789"
    app.send(response())
    assert client.response().status == 200


def test_head_in_single_bytes(wire: Wire) -> None:
    client = wire.client()
    for byte in request("PUT", "/slow", "X-A: b", body=b"xyz"):
        client.send(bytes([byte]))

    app = wire.app()
    arrived = app.request()
    assert (arrived.start, arrived.get("x-a"), arrived.body) == ("PUT /slow HTTP/1.1", "b", b"xyz")
    app.send(response())
    assert client.response().status == 200


def test_chunked_body_stays_chunked(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("POST", "/", "Transfer-Encoding: chunked") + chunked(b"abc", b"defgh"))

    assert arrived.has("transfer-encoding", "chunked")
    assert arrived.get("content-length") is None
    assert arrived.body == b"abcdefgh"
    app.send(response())
    assert client.response().status == 200


def test_chunks_are_passed_on_one_by_one(wire: Wire) -> None:
    client = wire.client()
    client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
    app = wire.app()
    app.head()
    assert app.read_until(b"abc").endswith(b"abc")

    client.send(b"2\r\nde\r\n0\r\n\r\n")

    app.read_until(b"de")
    app.read_until(b"0\r\n\r\n")
    app.send(response())
    assert client.response().status == 200


def test_chunked_body_split_at_every_byte(wire: Wire) -> None:
    client = wire.client()
    body = chunked(b"hello", b"x" * 17)
    client.send(request("POST", "/", "Transfer-Encoding: chunked"))
    for byte in body:
        client.send(bytes([byte]))

    app = wire.app()
    assert app.request().body == b"hello" + b"x" * 17
    app.send(response())
    assert client.response().status == 200


def test_chunk_extensions_are_dropped(wire: Wire) -> None:
    """A recipient must ignore unknown extensions (RFC 9112 section 7.1.1); passing them on would lend them weight."""
    _, app, arrived = wire.arrived(
        request("POST", "/", "Transfer-Encoding: chunked") + b'3;name="va lue";b\r\nabc\r\n0;last\r\n\r\n'
    )

    assert arrived.body == b"abc"
    assert b"name" not in app.received
    app.send(response())


def test_request_trailers_do_not_become_fields(wire: Wire) -> None:
    """Trailers are passed on as trailers or dropped, never merged into the head (RFC 9110 section 6.5.1)."""
    client, app, arrived = wire.arrived(
        request("POST", "/", "Trailer: X-Sum", "Transfer-Encoding: chunked")
        + chunked(b"abc", trailers=["X-Sum: 42", "Content-Length: 999"])
    )

    assert arrived.body == b"abc"
    assert arrived.get("x-sum") is None
    assert ("Content-Length", "999") not in arrived.trailers
    app.send(response())
    assert client.response().status == 200


def test_uppercase_transfer_encoding_and_sizes(wire: Wire) -> None:
    _, app, arrived = wire.arrived(request("POST", "/", "TRANSFER-ENCODING: Chunked") + b"A\r\n0123456789\r\n0\r\n\r\n")

    assert arrived.body == b"0123456789"
    app.send(response())


def test_zero_content_length(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("POST", "/", "Content-Length: 0"))

    assert arrived.get("content-length") == "0"
    app.send(response())
    assert client.response().status == 200


def test_post_without_a_body(wire: Wire) -> None:
    """No Content-Length and no Transfer-Encoding: no body (RFC 9112 section 6.3, rule 7)."""
    _, app, arrived = wire.arrived(request("POST", "/"))

    assert arrived.body == b""
    app.send(response())


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "REPORT"])
def test_any_method_may_have_a_body(wire: Wire, method: str) -> None:
    client, app, arrived = wire.arrived(request(method, "/", body=b"body"))

    assert (arrived.method, arrived.body) == (method, b"body")
    app.send(response())
    assert client.response(method).status == 200


def test_several_requests_on_one_connection(wire: Wire) -> None:
    client = wire.client()
    for body in (b"one", b"", b"three"):
        client.send(request("POST", "/", body=body))
        app = wire.app()
        assert app.request().body == body
        app.send(response(body=body * 2))
        assert client.response().body == body * 2


def test_early_response_does_not_wait_for_the_upload(wire: Wire) -> None:
    """The app refuses half-way: the client hears it before it has sent everything."""
    client = wire.client()
    client.send(request("POST", "/", "Content-Length: 1000000") + b"x" * 1000)
    app = wire.app()
    app.head()
    app.send(response("413 Content Too Large", "Connection: close", body=b"no"))
    app.close()

    refusal = client.response()

    assert (refusal.status, refusal.body) == (413, b"no")


def test_rest_of_an_abandoned_upload_is_not_a_request(wire: Wire) -> None:
    """After an early response the unread body must not be taken for the next request."""
    client = wire.client()
    hidden = request("GET", "/hidden")
    client.send(request("POST", "/", f"Content-Length: {1000 + len(hidden)}") + b"x" * 1000)
    app = wire.app()
    app.head()
    app.send(response("403 Forbidden", "Connection: close"))
    app.close()
    assert client.response().status == 403

    client.send_if_open(hidden)

    client.expect_closed()
    assert wire.untouched()
