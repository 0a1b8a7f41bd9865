"""What a client may do to the sidecar, and that the app and the other clients do not suffer from it."""

import threading

from nova_api.policies import BackpressurePolicy, BreakerPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import ONCE, document, inbound, outbound
from .support.waiting import eventually
from .support.wire import Wire

PLENTY = 64 << 20


def test_a_client_that_leaves_cancels_the_app(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    client.close()

    wire.gone(app)


def test_a_client_that_resets_cancels_the_app(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    client.reset()

    wire.gone(app)


def test_a_client_that_leaves_in_its_upload(wire: Wire) -> None:
    """The app must not take half a body for a whole one."""
    client = wire.client()
    client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"4\r\nhalf\r\n")
    app = wire.app()
    app.head()
    app.read_until(b"half")
    client.close()

    assert not app.expect_closed().endswith(b"0\r\n\r\n")


def test_a_client_that_leaves_in_the_response(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", f"Content-Length: {PLENTY}", body=None) + b"x" * 100)
    client.head()
    client.reset()

    wire.gone(app)


def test_half_close_after_a_complete_request(wire: Wire) -> None:
    """A FIN from a client that has said everything is not a goodbye: it may still read, as `nc -N` does."""
    client, app, _ = wire.arrived(request())
    client.finish()
    app.send(response(body=b"still here"))

    assert client.response().body == b"still here"
    client.expect_closed()


def test_half_close_in_a_request(wire: Wire) -> None:
    """Nothing more can come, so the request can never be complete."""
    client = wire.client()
    client.send(request("POST", "/", "Content-Length: 10") + b"12345")
    app = wire.app()
    app.head()
    client.finish()

    app.expect_closed()
    client.expect_closed()


def test_half_close_in_a_head(wire: Wire) -> None:
    client = wire.client()
    client.send(b"GET / HTTP/1.1\r\nHost:")
    client.finish()

    client.expect_closed()
    assert wire.untouched()


def test_connections_that_never_say_anything(wire: Wire) -> None:
    """Load balancers and port scanners open and close; that is no error and no access log line."""
    before = len(wire.sidecar.log)
    for _ in range(20):
        wire.client().close()
        wire.client().reset()

    wire.answered(request("GET", "/after"), response(body=b"x"))

    access = [line for line in wire.sidecar.log[before:] if line.get("path")]
    assert all(line["path"] != "-" for line in access)


def test_a_head_that_comes_too_slowly(start: StartSidecar, listener: Listener) -> None:
    """Slow heads hold a connection for the request's budget at most (Slowloris)."""
    sidecar = start(document(inbound(listener.address, timeout=TimeoutPolicy(request=Duration(0.5)))))
    with sidecar.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow:")
        rest = client.expect_closed()
        assert not rest or rest.startswith(b"HTTP/1.1 408 ")
    assert not listener.pending()


def test_an_upload_that_falls_silent(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(inbound(listener.address, timeout=TimeoutPolicy(request=Duration(30), stream_idle=Duration(0.3))))
    )
    with sidecar.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100") + b"some")
        app = listener.accept()
        app.head()
        app.expect_closed()
        rest = client.expect_closed()
        assert not rest or rest.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 504 "))
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def test_a_client_that_does_not_read_stops_the_app(start: StartSidecar, listener: Listener) -> None:
    """The sidecar holds a few buffers, not the response: flow control reaches back to the app."""
    sidecar = start(document(inbound(listener.address)))
    before = sidecar.rss
    sent = 0
    with sidecar.connect(receive_buffer=4096) as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", f"Content-Length: {PLENTY}", body=None))
        app.socket.settimeout(0.5)
        try:
            while sent < PLENTY:
                sent += app.socket.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < PLENTY / 2, "the app was never stopped"
        assert sidecar.rss - before < 16_000_000

        app.socket.settimeout(20)
        rest = threading.Thread(target=app.send, args=(b"x" * (PLENTY - sent),))
        rest.start()
        client.head()
        assert client.discard(PLENTY) == PLENTY  # and it goes on where it stopped
        rest.join()


def test_a_client_that_never_reads_is_cut_off(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, timeout=TimeoutPolicy(stream_idle=Duration(0.3)))))
    with sidecar.connect(receive_buffer=4096) as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send_if_open(response("200 OK", f"Content-Length: {PLENTY}", body=None) + b"x" * PLENTY)
        app.expect_closed()
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def test_a_vanished_client_gives_its_place_back(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            inbound(listener.address, pool=ONCE), backpressure=BackpressurePolicy(max_concurrency=1, threshold=0.5)
        )
    )
    for _ in range(5):
        client = sidecar.connect()
        client.send(request())
        app = listener.accept()
        app.request()
        with sidecar.connect() as other:
            assert other.exchange(request()).status == 503
        client.reset()
        app.expect_closed()
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"in"))
        assert client.response().body == b"in"


def test_vanished_clients_say_nothing_about_the_upstream(start: StartSidecar, listener: Listener) -> None:
    """Impatient callers must not open the breaker of a healthy upstream."""
    sidecar = start(document(outbound(listener.address, pool=ONCE, circuit_breaker=BreakerPolicy(failure_threshold=1))))
    for _ in range(5):
        client = sidecar.connect()
        client.send(request())
        app = listener.accept()
        app.request()
        client.reset()
        app.expect_closed()
    assert sidecar.metric("nova_breaker_state", state="closed") == 1
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"healthy"))
        assert client.response().body == b"healthy"


def test_one_slow_client_does_not_hold_up_the_others(start: StartSidecar, app: StartApp) -> None:
    upstream = app(lambda call: response(body=b"x" * (1 << 20 if call.request.target == "/big" else 10)))
    sidecar = start(document(inbound(upstream.address)))
    slow = [sidecar.connect(receive_buffer=4096) for _ in range(10)]
    for client in slow:
        client.send(request("GET", "/big"))

    with sidecar.connect() as quick:
        for _ in range(200):
            assert quick.exchange(request("GET", "/small")).body == b"x" * 10

    for client in slow:
        assert len(client.response().body) == 1 << 20
        client.close()
