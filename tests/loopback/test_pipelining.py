"""Requests sent ahead on one connection are answered in their order (RFC 9112 section 9.3.2)."""

import pytest

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.message import chunked, request, response
from .support.sidecar import document, inbound
from .support.waiting import eventually
from .support.wire import Wire


def echo_target(call: Call) -> bytes:
    return response(body=call.request.target.encode())


def test_a_hundred_requests_in_one_packet(start: StartSidecar, app: StartApp) -> None:
    upstream = app(echo_target)
    sidecar = start(document(inbound(upstream.address)))

    with sidecar.connect() as client:
        client.send(b"".join(request("GET", f"/{number}") for number in range(100)))

        assert [client.response().body for _ in range(100)] == [b"/%d" % number for number in range(100)]
    assert [each.target for each in upstream.requests] == [f"/{number}" for number in range(100)]


def test_with_bodies_of_every_kind(start: StartSidecar, app: StartApp) -> None:
    upstream = app(lambda call: response(body=call.request.body))
    sidecar = start(document(inbound(upstream.address)))

    with sidecar.connect() as client:
        client.send(
            request("POST", "/", body=b"one")
            + request("POST", "/", "Transfer-Encoding: chunked")
            + chunked(b"t", b"wo")
            + request("GET", "/")
            + request("HEAD", "/")
            + request("POST", "/", body=b"five" * 20_000)
        )

        assert client.response().body == b"one"
        assert client.response().body == b"two"
        assert client.response().body == b""
        assert client.response("HEAD").status == 200
        assert client.response().body == b"five" * 20_000


def test_the_second_waits_for_the_first(wire: Wire) -> None:
    client = wire.client()
    client.send(request("GET", "/first") + request("GET", "/second"))
    first = wire.app()
    assert first.request().target == "/first"

    first.send(response(body=b"1"))

    assert client.response().body == b"1"
    second = wire.app()
    assert second.request().target == "/second"
    second.send(response(body=b"2"))
    assert client.response().body == b"2"


def test_a_pipelined_request_after_a_bad_one_is_never_read(wire: Wire) -> None:
    refusal = wire.refused(b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n" + request("GET", "/smuggled"))

    assert refusal.status == 400


def test_a_bad_request_after_a_good_one(wire: Wire) -> None:
    """The good one keeps its answer; the bad one gets 400 and the end."""
    client = wire.client()
    client.send(request("GET", "/good") + b"GARBAGE\r\n\r\n")
    app = wire.app()
    assert app.request().target == "/good"
    app.send(response(body=b"good"))

    assert client.response().body == b"good"
    assert client.response().status == 400
    client.expect_closed()
    assert wire.untouched()


def test_nothing_after_connection_close_is_answered(wire: Wire) -> None:
    """RFC 9112 section 9.6: a server must not process requests after one with the close option."""
    client, app, arrived = wire.arrived(request("GET", "/last", "Connection: close") + request("GET", "/more"))
    assert arrived.target == "/last"
    app.send(response(body=b"last"))

    assert client.response().body == b"last"
    assert client.expect_closed() == b""
    assert wire.untouched()


def test_refusals_keep_their_place(wire: Wire) -> None:
    """A request that gets a refusal without the app's help still waits for the answers before it."""
    client = wire.client()
    client.send(request("GET", "/slow") + request("GET", "/", host=None))
    app = wire.app()
    app.request()
    assert client.poll() == b""

    app.send(response(body=b"slow"))

    assert client.response().body == b"slow"
    assert client.response().status == 400


def test_empty_lines_before_a_request(wire: Wire) -> None:
    """A server should ignore at least one empty line before the request line (RFC 9112 section 2.2)."""
    client, app, arrived = wire.arrived(b"\r\n" + request("GET", "/"))
    assert arrived.target == "/"
    app.send(response())
    assert client.response().status == 200


def test_line_break_after_a_body(wire: Wire) -> None:
    """Old clients send CRLF after a POST body; it belongs to nothing."""
    client, app, _ = wire.arrived(request("POST", "/1", body=b"x") + b"\r\n")
    app.send(response(body=b"1"))
    assert client.response().body == b"1"

    client.send(request("GET", "/2"))

    app = wire.app()
    assert app.request().target == "/2"
    app.send(response(body=b"2"))
    assert client.response().body == b"2"


def test_half_close_after_several_requests(start: StartSidecar, app: StartApp) -> None:
    """As `printf ... | nc -N`: everything was said and received, so everything is answered."""
    sidecar = start(document(inbound(app(echo_target).address)))
    with sidecar.connect() as client:
        client.send(b"".join(request("GET", f"/{number}") for number in range(3)))
        client.finish()

        assert [client.response().body for _ in range(3)] == [b"/0", b"/1", b"/2"]
        client.expect_closed()


@pytest.mark.parametrize(
    "rest",
    [
        request("POST", "/cut", "Content-Length: 10") + b"12345",
        request("POST", "/cut", "Transfer-Encoding: chunked") + b"5\r\nab",
        b"GET /cut HTTP/1.1\r\nHo",
        b"\r",
        b"garbage",
    ],
    ids=["body", "chunk", "head", "CR", "garbage"],
)
def test_half_close_with_an_unfinished_request(start: StartSidecar, app: StartApp, rest: bytes) -> None:
    """What was complete is answered; what can never be complete is not waited for."""
    upstream = app(echo_target)
    sidecar = start(document(inbound(upstream.address)))
    with sidecar.connect() as client:
        client.send(request("GET", "/whole") + rest)
        client.finish()

        assert client.response().body == b"/whole"
        client.expect_closed(within=3)
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    assert [each.target for each in upstream.requests] == ["/whole"]


def test_a_client_that_leaves_while_its_second_request_is_under_way(wire: Wire) -> None:
    client = wire.client()
    client.send(request("GET", "/1") + request("GET", "/2"))
    client.finish()
    first = wire.app()
    first.request()
    first.send(response(body=b"1"))
    assert client.response().body == b"1"
    second = wire.app()
    assert second.request().target == "/2"

    client.close()

    wire.gone(second)
