"""Interim responses and Expect: 100-continue (RFC 9110 sections 10.1.1 and 15.2)."""

from .support.message import chunked, request, response
from .support.wire import Wire

EXPECT = "Expect: 100-continue"


def test_client_waits_for_100_and_gets_it(wire: Wire) -> None:
    client = wire.client()
    client.send(request("POST", "/", EXPECT, "Content-Length: 4"))
    app = wire.app()
    assert app.head().get("expect") == "100-continue"
    app.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert client.response(interim=True).start == "HTTP/1.1 100 Continue"
    client.send(b"body")

    assert app.read_exactly(4) == b"body"
    app.send(response(body=b"thanks"))
    assert client.response().body == b"thanks"


def test_app_refuses_instead_of_100(wire: Wire) -> None:
    """The client never sent its body, so nothing after this can be told from it: the connection ends."""
    client = wire.client()
    client.send(request("POST", "/", EXPECT, "Content-Length: 100000"))
    app = wire.app()
    app.head()
    app.send(response("417 Expectation Failed", "Connection: close", body=b"too big"))
    app.close()

    refusal = client.response()

    assert (refusal.status, refusal.body) == (417, b"too big")
    if not refusal.has("connection", "close"):
        client.send(b"x" * 100_000 + request("GET", "/after"))
        app = wire.app()
        assert app.request().target == "/after"
        app.send(response())
        assert client.response().status == 200
    else:
        client.expect_closed()


def test_client_that_does_not_wait(wire: Wire) -> None:
    client = wire.client()
    client.send(request("POST", "/", EXPECT, body=b"impatient"))
    app = wire.app()
    assert app.request().body == b"impatient"
    app.send(response(body=b"fine"))

    assert client.response().body == b"fine"


def test_client_that_does_not_wait_still_may_get_100(wire: Wire) -> None:
    client = wire.client()
    client.send(request("POST", "/", EXPECT, "Transfer-Encoding: chunked") + chunked(b"abc"))
    app = wire.app()
    app.head()
    app.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    app.read_until(b"0\r\n\r\n")
    app.send(response(body=b"fine"))

    assert client.response().body == b"fine"


def test_early_hints_reach_the_client(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")

    hints = client.response(interim=True)

    assert (hints.status, hints.get("link")) == (103, "</a.css>; rel=preload")
    app.send(response(body=b"page"))
    assert client.response().body == b"page"


def test_many_interim_responses_in_one_packet(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + response(body=b"page"))

    assert [client.response(interim=True).status for _ in range(3)] == [102, 102, 102]
    assert client.response().body == b"page"


def test_http10_client_gets_no_interim_response(wire: Wire) -> None:
    """A server must not send a 1xx response to an HTTP/1.0 client (RFC 9110 section 15.2)."""
    client, app, _ = wire.arrived(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n")
    app.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + response(body=b"page"))

    assert client.head().status == 200


def test_endless_interim_responses_are_cut_off(wire: Wire) -> None:
    """An upstream that only ever sends 1xx holds the request for its deadline, not for ever."""
    client, app, _ = wire.arrived(request())
    app.send_if_open(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + response(body=b"page"))

    assert client.response().status in {200, 502}
