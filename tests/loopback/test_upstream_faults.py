"""What clients get when the app or an upstream fails, in every phase of a request."""

import contextlib
import resource
import socket
from pathlib import Path

import pytest

from nova_api.policies import BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.faulty import FaultyLink
from .support.message import Message, request, response
from .support.peer import Listener, Peer
from .support.ports import free_ports
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually, holds
from .support.wire import Wire

IMPATIENT = TimeoutPolicy(request=Duration(1), attempt=Duration(0.3), connect=Duration(0.3), stream_idle=Duration(0.3))
PLAIN = {"circuit_breaker": BreakerPolicy(mode="Off"), "retry": RetryPolicy(mode="Off")}


def refusal(message: Message) -> tuple[int, str | None]:
    return message.status, message.get("x-nova-reject")


# refused and reset


def test_connection_refused(start: StartSidecar) -> None:
    sidecar = start(document(inbound(("127.0.0.1", free_ports(1)[0]))))

    with sidecar.connect() as client:
        assert refusal(client.exchange(request())) == (503, "connect_failure")
        assert refusal(client.exchange(request("POST", "/", body=b"x" * 1000))) == (503, "connect_failure")
    assert sidecar.metric("nova_requests_in_flight") == 0


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["none", "line", "head"])
def test_the_app_breaks_off_before_its_head_is_complete(wire: Wire, sent: bytes, end: str) -> None:
    client, app, _ = wire.arrived(request("POST", "/", body=b"once"))
    app.send(sent)
    app.reset() if end == "reset" else app.close()

    answer = client.response()

    assert refusal(answer) in {(502, "upstream_reset"), (502, "bad_response")}
    assert wire.untouched(), "a POST that reached the app was repeated"


@pytest.mark.parametrize("end", ["reset", "close"])
def test_the_app_breaks_off_in_its_body(wire: Wire, end: str) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Content-Length: 100", body=None) + b"some")
    assert client.head().status == 200
    client.read_until(b"some")
    app.reset() if end == "reset" else app.close()

    assert client.expect_closed() == b""


@pytest.mark.parametrize("end", ["reset", "close"])
def test_the_app_breaks_off_during_an_upload(wire: Wire, end: str) -> None:
    client = wire.client()
    client.send(request("PUT", "/", "Content-Length: 1000000") + b"x" * 1000)
    app = wire.app()
    app.head()
    app.read_exactly(1000)
    app.reset() if end == "reset" else app.close()

    assert refusal(client.response()) == (502, "upstream_reset")


def test_half_close_by_the_app_after_its_response(wire: Wire) -> None:
    """A FIN after a complete response only says that this connection is used up."""
    client, app, _ = wire.arrived(request())
    app.send(response(body=b"done"))
    app.finish()

    assert client.response().body == b"done"
    wire.gone(app)


def test_half_close_by_the_app_in_its_body(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    app.send(response("200 OK", "Content-Length: 10", body=None) + b"12345")
    app.finish()

    client.head()
    assert client.expect_closed() == b"12345"


# stalls


@pytest.fixture
def impatient(start: StartSidecar, listener: Listener) -> Sidecar:
    """A sidecar with budgets of fractions of a second on both sides."""
    return start(
        document(inbound(listener.address, timeout=IMPATIENT), outbound(listener.address, timeout=IMPATIENT, **PLAIN))
    )


@pytest.mark.parametrize("side", ["web", "db"], ids=["inbound", "outbound"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX: y\r\n"], ids=["none", "line", "head"])
def test_the_app_never_completes_its_head(impatient: Sidecar, listener: Listener, side: str, sent: bytes) -> None:
    with impatient.connect(side) as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(sent)

        assert refusal(client.response()) in {(504, "attempt_timeout"), (504, "deadline_exceeded")}
        app.expect_closed()


def test_the_app_falls_silent_in_its_body(impatient: Sidecar, listener: Listener) -> None:
    with impatient.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", "Content-Length: 100", body=None) + b"some")

        client.head()
        assert client.expect_closed() == b"some"
        app.expect_closed()
    assert impatient.metric("nova_rejected_total", reason="stream_idle_timeout") == 1


def test_a_body_may_take_longer_than_the_request_budget(impatient: Sidecar, listener: Listener) -> None:
    """Budgets end with the head; a body is bounded by silence only."""
    with impatient.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", "Content-Length: 15", body=None))
        client.head()
        app.trickle(b"." * 15, every=0.1)
        assert client.read_exactly(15) == b"." * 15


def test_the_app_stops_reading_an_upload(start: StartSidecar) -> None:
    """Flow control reaches back to the client, and silence ends it."""
    listener = Listener(receive_buffer=4096)
    sidecar = start(document(inbound(listener.address, timeout=IMPATIENT)))
    before = sidecar.rss
    try:
        with sidecar.connect() as client:
            client.socket.settimeout(0.5)
            client.send(request("POST", "/", "Content-Length: 500000000"))
            app = listener.accept()
            app.head()
            with pytest.raises((TimeoutError, ConnectionError)):
                client.send(bytes(500_000_000))
            assert sidecar.rss - before < 16_000_000
        eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    finally:
        listener.close_all()


def test_nobody_accepts(start: StartSidecar) -> None:
    """A full accept queue drops SYNs: the connect budget ends it, not the kernel's two minutes."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    sidecar = start(document(inbound(full.getsockname(), timeout=IMPATIENT)))
    try:
        with sidecar.connect() as client:
            assert refusal(client.exchange(request())) == (503, "connect_failure")
    finally:
        for each in [full, *fillers]:
            each.close()


# links


def test_a_slow_link_changes_nothing_but_time(start: StartSidecar, app: StartApp) -> None:
    upstream = app(lambda call: response(body=call.request.body))
    with FaultyLink(upstream.address) as link:
        link.latency = 0.05
        sidecar = start(document(inbound(link.address)))
        with sidecar.connect() as client:
            for size in (0, 1, 100_000):
                assert client.exchange(request("POST", "/", body=b"x" * size)).body == b"x" * size
        assert link.accepted == 1


def test_a_link_that_is_cut_and_comes_back(start: StartSidecar, app: StartApp) -> None:
    upstream = app()
    with FaultyLink(upstream.address) as link:
        sidecar = start(document(inbound(link.address)))
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
            link.refuse()
            link.reset_all()
            eventually(lambda: link.open_connections == 0)
            assert refusal(client.exchange(request())) == (503, "connect_failure")
            link.listen()
            assert client.exchange(request()).status == 200


def test_a_link_that_swallows_everything(start: StartSidecar, app: StartApp) -> None:
    """No RST, no FIN, only silence: the attempt's budget ends it and the connection is not trusted again."""
    upstream = app()
    with FaultyLink(upstream.address) as link:
        sidecar = start(document(inbound(link.address, timeout=IMPATIENT)))
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
            link.stalled = True
            assert client.exchange(request()).status == 504
            link.stalled = False
            assert client.exchange(request()).status == 200
        assert link.accepted >= 2


# keep-alive connections that the app has closed


def test_a_stale_connection_is_replaced_silently(start: StartSidecar, app: StartApp) -> None:
    """RFC 9112 section 9.3.1: a server may close an idle connection at any time; a GET is sent once more."""
    upstream = app()
    sidecar = start(document(inbound(upstream.address)))
    with sidecar.connect() as client:
        for _ in range(20):
            assert client.exchange(request()).status == 200
            upstream.stop()
            upstream.restart()
    assert len(upstream.requests) == 20


def test_the_app_closes_as_the_request_arrives(start: StartSidecar, listener: Listener) -> None:
    """The race that no proxy can see coming: closed by the app with the request already on its way."""
    sidecar = start(document(inbound(listener.address)))
    with sidecar.connect() as client:
        client.send(request("GET", "/1"))
        app = listener.accept()
        app.request()
        app.send(response(body=b"1"))
        assert client.response().body == b"1"
        client.send(request("GET", "/2"))
        app.request()
        app.reset()

        again = listener.accept()

        assert again.request().target == "/2"
        again.send(response(body=b"2"))
        assert client.response().body == b"2"


def test_a_post_on_a_stale_connection_is_not_repeated(start: StartSidecar, listener: Listener) -> None:
    """The app may have acted before it closed; only the client can know whether doing it twice is fine."""
    sidecar = start(document(inbound(listener.address)))
    with sidecar.connect() as client:
        client.send(request("GET", "/1"))
        app = listener.accept()
        app.request()
        app.send(response(body=b"1"))
        assert client.response().body == b"1"
        client.send(request("POST", "/order", body=b"1 bike"))
        assert app.request().target == "/order"
        app.reset()

        assert refusal(client.response()) == (502, "upstream_reset")
    assert not listener.pending()


def test_restarts_under_load_lose_no_get(start: StartSidecar, app: StartApp) -> None:
    upstream = app(lambda call: response(body=call.request.target.encode()))
    sidecar = start(document(inbound(upstream.address)))
    clients = [sidecar.connect() for _ in range(8)]
    for turn in range(40):
        if turn % 4 == 3:
            upstream.stop()
            upstream.restart()
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{turn}/{number}"))
        for number, client in enumerate(clients):
            answer = client.response()
            assert (answer.status, answer.body) == (200, f"/{turn}/{number}".encode())
    for client in clients:
        client.close()


def test_an_app_that_answers_and_closes_every_time(start: StartSidecar, app: StartApp) -> None:
    def once(call: Call) -> bytes:
        return response("200 OK", "Connection: close", body=call.request.target.encode())

    upstream = app(once)
    sidecar = start(document(inbound(upstream.address)))
    with sidecar.connect() as client:
        for number in range(50):
            assert client.exchange(request("GET", f"/{number}")).body == f"/{number}".encode()


def test_an_app_that_closes_without_saying_so(start: StartSidecar, app: StartApp) -> None:
    def rude(call: Call) -> None:
        call.peer.send(response(body=b"rude"))

    upstream = app(rude)
    sidecar = start(document(inbound(upstream.address)))
    peer: Peer
    with sidecar.connect() as peer:
        for _ in range(50):
            assert peer.exchange(request()).body == b"rude"


def test_a_post_does_not_meet_a_connection_that_was_closed_before(start: StartSidecar, listener: Listener) -> None:
    """A POST cannot be repeated, so it must not be sent where it is known that nobody listens.

    The app's FIN and the request may be read in one turn of the event loop; many turns, so that both orders come up.
    """
    sidecar = start(document(inbound(listener.address)))
    with sidecar.connect() as client:
        app = _answered(client, listener)
        for _ in range(50):
            app.close()
            app = _answered(client, listener)


def _answered(client: Peer, listener: Listener) -> Peer:
    client.send(request("POST", "/", body=b"once"))
    eventually(lambda: listener.pending() or client.poll(), every=0.001)
    assert listener.pending(), client.response()
    app = listener.accept()
    assert app.request().body == b"once"
    app.send(response())
    assert client.response().status == 200
    return app


def test_out_of_file_descriptors(tmp_path: Path, app: StartApp) -> None:
    """What cannot be accepted is turned away, nothing spins, and afterwards everything is as before."""
    sidecar = Sidecar.start(document(inbound(app().address)), tmp_path)
    try:
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (40, 40))
        clients = [sidecar.connect() for _ in range(60)]
        for client in clients:
            client.send(request())
        eventually(lambda: sum(bool(client.poll()) for client in clients) >= 5)
        before = sidecar.cpu_seconds
        holds(lambda: sidecar.cpu_seconds - before < 0.4, for_seconds=0.5)
        for client in clients:
            client.close()

        eventually(lambda: _answers(sidecar))
        assert "Traceback" not in sidecar.text
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()


def _answers(sidecar: Sidecar) -> bool:
    with contextlib.suppress(ConnectionError), sidecar.connect() as client:
        return client.exchange(request()).status == 200
    return False
