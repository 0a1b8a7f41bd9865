"""Connections to the app: reused, bounded, renewed, and closed before they go stale."""

import threading

from nova_api.policies import PoolPolicy, TimeoutPolicy
from nova_api.units import Duration, Share

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import document, inbound
from .support.waiting import eventually

NO_JITTER = Share(0)


def test_a_connection_is_reused(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address)))
    for _ in range(10):
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
            assert client.exchange(request("POST", "/", body=b"x")).status == 200

    assert {call.connection for call in it.calls} == {0}


def test_no_more_than_are_needed(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address)))
    clients = [sidecar.connect() for _ in range(30)]
    for _ in range(3):
        for client in clients:
            assert client.exchange(request()).status == 200
    for client in clients:
        client.close()

    assert len(it.connections) == 1


def test_size_is_never_exceeded(start: StartSidecar, app: StartApp) -> None:
    gate = threading.Event()

    def answer(_: Call) -> bytes:
        gate.wait(5)
        return response(body=b"x")

    it = app(answer)
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(size=3))))
    clients = [sidecar.connect() for _ in range(10)]
    for client in clients:
        client.send(request())
    eventually(lambda: len(it.calls) == 3)
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 10)
    assert len(it.connections) == 3

    gate.set()

    for client in clients:
        assert client.response().status == 200
        client.close()
    assert len(it.connections) == 3


def test_waiting_for_a_connection_has_an_end(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            inbound(
                listener.address,
                pool=PoolPolicy(size=1),
                timeout=TimeoutPolicy(request=Duration(0.5), attempt=Duration(0.5), connect=Duration(0.3)),
            )
        )
    )
    with sidecar.connect() as busy, sidecar.connect() as client:
        busy.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", "Content-Length: 10", body=None) + b"5")
        busy.head()
        refusal = client.exchange(request())
        assert (refusal.status, refusal.get("x-nova-reject")) in {
            (503, "pool_exhausted"),
            (504, "deadline_exceeded"),
            (504, "attempt_timeout"),
        }
        app.send(b"123456789")
        assert busy.read_exactly(10)


def test_max_requests_renews_it(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(max_requests=3))))
    with sidecar.connect() as client:
        for _ in range(9):
            assert client.exchange(request()).status == 200

    assert [call.connection for call in it.calls] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sidecar.metric("nova_connections_closed_total", reason="requests") == 3


def test_max_age_renews_it(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(max_age=Duration(0.3), jitter=NO_JITTER))))
    with sidecar.connect() as client:

        def renewed() -> bool:
            assert client.exchange(request()).status == 200
            return len(it.connections) >= 3

        eventually(renewed)
    assert sidecar.metric("nova_connections_closed_total", reason="age") >= 2


def test_age_never_cuts_a_request(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, pool=PoolPolicy(max_age=Duration(0.2), jitter=NO_JITTER))))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("200 OK", "Content-Length: 12", body=None))
        client.head()
        app.trickle(b"." * 12, every=0.05)
        assert client.read_exactly(12)
        app.expect_closed()


def test_idle_connections_are_closed(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, pool=PoolPolicy(idle_timeout=Duration(0.3), jitter=NO_JITTER))))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"x"))
        assert client.response().status == 200

        app.expect_closed()

        assert sidecar.metric("nova_connections_closed_total", reason="idle") == 1
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"y"))
        assert client.response().body == b"y"


def test_a_connection_that_the_app_closes_is_not_kept(start: StartSidecar, app: StartApp) -> None:
    it = app(lambda _: response("200 OK", "Connection: close", body=b"x"))
    sidecar = start(document(inbound(it.address)))
    with sidecar.connect() as client:
        for _ in range(5):
            assert client.exchange(request()).status == 200

    assert [call.connection for call in it.calls] == [0, 1, 2, 3, 4]
    eventually(lambda: sidecar.stats()["inbound"]["web"]["pool"]["open"] == 0)


def test_a_response_that_was_not_read_to_its_end_ends_its_connection(start: StartSidecar, listener: Listener) -> None:
    """The rest of a body that nobody wants must not be the beginning of the next response."""
    sidecar = start(document(inbound(listener.address)))
    client = sidecar.connect()
    client.send(request())
    app = listener.accept()
    app.request()
    app.send(response("200 OK", "Content-Length: 1000", body=None) + b"x" * 500)
    client.head()
    client.reset()
    app.expect_closed()

    with sidecar.connect() as other:
        other.send(request("GET", "/2"))
        fresh = listener.accept()
        assert fresh.request().target == "/2"
        fresh.send(response(body=b"two"))
        assert other.response().body == b"two"


def test_connect_failures_are_counted(start: StartSidecar, app: StartApp) -> None:
    it = app()
    it.stop()
    sidecar = start(document(inbound(it.address)))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 503
        it.restart()
        assert client.exchange(request()).status == 200

    assert sidecar.metric("nova_connect_failures_total") == 1


def test_warm_connections_are_there_before_anybody_calls(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(warm_connections=3))))
    eventually(lambda: len(it.connections) == 3)
    with sidecar.connect() as client:
        for _ in range(5):
            assert client.exchange(request()).status == 200
    assert len(it.connections) == 3


def test_never_more_warm_ones_than_size(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(warm_connections=5, size=2))))
    eventually(lambda: len(it.connections) == 2)
    with sidecar.connect() as client:
        for _ in range(3):
            assert client.exchange(request()).status == 200
    assert sidecar.stats()["inbound"]["web"]["pool"]["open"] == 2
    assert len(it.connections) == 2


def test_warm_connections_come_back_when_the_app_does(start: StartSidecar, app: StartApp) -> None:
    """While it is gone a wait that doubles lies between two tries; then the pool is as warm as before."""
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(warm_connections=2))))
    eventually(lambda: it.open_connections == 2)
    it.stop()
    eventually(lambda: sidecar.metric("nova_connect_failures_total") >= 4)
    it.restart()
    eventually(lambda: sidecar.stats()["inbound"]["web"]["pool"]["idle"] == 2, within=10)
    assert sidecar.metric("nova_connect_failures_total") < 12
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200


def test_warm_connections_are_renewed_and_not_missed(start: StartSidecar, app: StartApp) -> None:
    """An idle one goes when its successor is there, so that there is always one."""
    it = app()
    policy = PoolPolicy(warm_connections=1, idle_timeout=Duration(0.3), jitter=NO_JITTER)
    sidecar = start(document(inbound(it.address, pool=policy)))
    least = 1

    def renewed() -> bool:
        nonlocal least
        least = min(least, sidecar.stats()["inbound"]["web"]["pool"]["idle"] if it.connections else 1)
        return len(it.connections) >= 4

    eventually(lambda: len(it.connections) == 1)
    eventually(renewed)
    assert least == 1
    eventually(lambda: it.open_connections <= 2)


def test_an_old_connection_goes_when_its_successor_is_there(start: StartSidecar, app: StartApp) -> None:
    """No request waits for a connect: the successor is opened without one."""
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(max_age=Duration(0.2), jitter=NO_JITTER))))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200
        eventually(lambda: client.exchange(request()).status == 200 and len(it.connections) == 2)
        calls = len(it.calls)
        eventually(lambda: sidecar.metric("nova_connections_closed_total", reason="age") == 1)
        assert len(it.calls) == calls
        assert client.exchange(request()).status == 200
    assert it.calls[-1].connection == 1


def test_an_old_connection_serves_on_when_it_has_no_successor(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(inbound(it.address, pool=PoolPolicy(max_age=Duration(0.2), jitter=NO_JITTER))))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200
        it.refuse_new()
        eventually(
            lambda: client.exchange(request()).status == 200 and sidecar.metric("nova_connect_failures_total") > 0
        )
        for _ in range(20):
            assert client.exchange(request()).status == 200
    assert {call.connection for call in it.calls} == {0}
