"""Leaving without anybody noticing: what is in flight finishes, nobody is refused in the delay, the process exits 0."""

import signal
import time
from collections.abc import Callable

import pytest

from nova_api.proxy import DrainPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound
from .support.waiting import eventually

Begin = Callable[[Sidecar], None]


def by_signal(sidecar: Sidecar) -> None:
    sidecar.terminate()


def by_request(sidecar: Sidecar) -> None:
    assert sidecar.control("POST", "/drain")[0] == 202


BOTH = pytest.mark.parametrize("begin", [by_signal, by_request], ids=["SIGTERM", "POST /drain"])


def drains(delay: float, timeout: float) -> DrainPolicy:
    return DrainPolicy(delay=Duration(delay), timeout=Duration(timeout))


@BOTH
def test_what_is_in_flight_finishes(start: StartSidecar, listener: Listener, begin: Begin) -> None:
    sidecar = start(document(inbound(listener.address), drain=drains(0, 5)))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        begin(sidecar)
        eventually(lambda: sidecar.status("/readyz")[0] == 503)

        app.send(response("200 OK", "Content-Length: 10", body=None) + b"01234")
        client.head()
        app.send(b"56789")

        assert client.read_exactly(10) == b"0123456789"
        client.expect_closed()
    if begin is by_signal:
        assert sidecar.wait() == 0


@BOTH
def test_not_ready_at_once_and_still_serving(start: StartSidecar, app: StartApp, begin: Begin) -> None:
    """Endpoints take seconds to disappear: until then new connections are served, and told to come back elsewhere."""
    sidecar = start(document(inbound(app().address), drain=drains(2, 5)))
    begin(sidecar)
    eventually(lambda: sidecar.status("/readyz")[0] == 503, within=1)

    for _ in range(3):
        with sidecar.connect() as client:
            answer = client.exchange(request())
            assert answer.status == 200
            assert answer.has("connection", "close")
            client.expect_closed()


def test_connections_in_use_learn_of_it(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), drain=drains(2, 5)))
    with sidecar.connect() as client:
        assert not client.exchange(request()).has("connection", "close")
        by_request(sidecar)

        assert client.exchange(request()).has("connection", "close")

        client.expect_closed()


def test_idle_connections_are_closed(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), drain=drains(0.3, 5)))
    idle, silent = sidecar.connect(), sidecar.connect()
    assert idle.exchange(request()).status == 200
    began = time.monotonic()

    sidecar.terminate()

    idle.expect_closed(within=3)
    silent.expect_closed(within=3)
    assert sidecar.wait() == 0
    assert time.monotonic() - began < 3


def test_the_door_closes_after_the_delay(start: StartSidecar, listener: Listener) -> None:
    """Whoever still comes then gets a clean connection refused, while the last request goes on."""
    sidecar = start(document(inbound(listener.address), drain=drains(0.2, 5)))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        sidecar.terminate()

        def refused() -> bool:
            try:
                Peer.connect(sidecar.address()).close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused)
        app.send(response(body=b"last"))
        assert client.response().body == b"last"
    assert sidecar.wait() == 0


def test_the_timeout_bounds_it(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address), drain=drains(0.1, 0.5)))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        began = time.monotonic()

        sidecar.terminate()

        client.expect_closed()
        sidecar.wait()
        assert 0.5 < time.monotonic() - began < 3


def test_the_app_can_call_out_to_the_end(start: StartSidecar, listener: Listener) -> None:
    """A request that is being finished may need its upstreams until its last byte."""
    sidecar = start(document(inbound(listener.address, pool=ONCE), outbound(listener.address, pool=ONCE)))
    with sidecar.connect("web") as client:
        client.send(request("GET", "/work"))
        app = listener.accept()
        app.request()
        sidecar.terminate()
        eventually(lambda: sidecar.status("/readyz")[0] == 503)

        with sidecar.connect("db") as calling:
            calling.send(request("GET", "/needed"))
            upstream = listener.accept()
            assert upstream.request().target == "/needed"
            upstream.send(response(body=b"data"))
            assert calling.response().body == b"data"
        app.send(response(body=b"worked"))
        assert client.response().body == b"worked"
    assert sidecar.wait() == 0


def test_pipelined_requests_get_their_answers(start: StartSidecar, listener: Listener) -> None:
    """What has been received is not thrown away; the close comes with the last answer or says where it stopped."""
    sidecar = start(document(inbound(listener.address), drain=drains(1, 5)))
    with sidecar.connect() as client:
        client.send(request("GET", "/1") + request("GET", "/2"))
        app = listener.accept()
        app.request()
        by_request(sidecar)
        app.send(response(body=b"1"))

        first = client.response()

        assert first.body == b"1"
        if not first.has("connection", "close"):
            app.request()
            app.send(response(body=b"2"))
            assert client.response().body == b"2"
        client.expect_closed()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_being_asked_twice_changes_nothing(start: StartSidecar, listener: Listener, second: int) -> None:
    sidecar = start(document(inbound(listener.address), drain=drains(0.3, 5)))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        by_request(sidecar)
        by_request(sidecar)
        sidecar.terminate()
        eventually(lambda: sidecar.status("/readyz")[0] == 503)
        if second == signal.SIGTERM:
            sidecar.process.send_signal(second)
        app.send(response(body=b"calm"))
        assert client.response().body == b"calm"
    assert sidecar.wait() == 0


def test_no_request_is_lost_under_load(start: StartSidecar, app: StartApp) -> None:
    """Clients that keep their connections until told otherwise see no error until the door closes."""
    sidecar = start(document(inbound(app().address), drain=drains(1, 5)))
    clients = [sidecar.connect() for _ in range(10)]
    by_request(sidecar)
    served = 0
    for client in clients:
        answer = client.exchange(request())
        assert answer.status == 200
        assert answer.has("connection", "close")
        served += 1
    assert served == 10
    sidecar.terminate()
    assert sidecar.wait() == 0
