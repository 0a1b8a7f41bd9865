"""The time that is left travels with the request and ends it, wherever it is."""

import time

import pytest

from nova_api.policies import BackoffPolicy, BackpressurePolicy, BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, document, inbound, outbound
from .support.waiting import eventually
from .support.wire import Wire

HEADER = "x-nova-deadline-ms"


def test_the_budget_is_told(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(inbound(listener.address, timeout=TimeoutPolicy(request=Duration(2), attempt=Duration(2))))
    )
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        left = int(app.request().get(HEADER) or 0)
        assert 1000 < left <= 2000
        app.send(response())
        assert client.response().status == 200


def test_the_attempts_budget_is_told_where_it_is_shorter(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(inbound(listener.address, timeout=TimeoutPolicy(request=Duration(9), attempt=Duration(3))))
    )
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        assert 2000 < int(app.request().get(HEADER) or 0) <= 3000
        app.send(response())
        client.response()


def test_a_caller_may_shorten_it(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", f"{HEADER}: 900"))

    assert 0 < int(arrived.get(HEADER) or 0) <= 900
    app.send(response())
    assert client.response().status == 200


def test_a_caller_cannot_extend_it(wire: Wire) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", f"{HEADER}: 999999999"))

    assert int(arrived.get(HEADER) or 0) <= 15_000
    app.send(response())
    client.response()


@pytest.mark.parametrize("given", ["", "-1", "1e9", "soon", "1" * 30, "0x10", "5.5"])
def test_garbage_is_ignored(wire: Wire, given: str) -> None:
    client, app, arrived = wire.arrived(request("GET", "/", f"{HEADER}: {given}"))

    assert 1000 < int(arrived.get(HEADER) or 0) <= 15_000
    app.send(response())
    assert client.response().status == 200


def test_the_answer_comes_when_the_callers_time_is_over(wire: Wire) -> None:
    began = time.monotonic()
    client, app, _ = wire.arrived(request("GET", "/", f"{HEADER}: 300"))

    answer = client.response()

    assert (answer.status, answer.get("x-nova-reject")) == (504, "deadline_exceeded")
    assert 0.25 < time.monotonic() - began < 2
    wire.gone(app)


def test_no_time_left_at_all(wire: Wire) -> None:
    """Work for a caller that has given up is not begun."""
    client = wire.client()
    client.send(request("GET", "/", f"{HEADER}: 0"))

    answer = client.response()

    assert (answer.status, answer.get("x-nova-reject")) == (504, "deadline_exceeded")
    assert wire.untouched()


def test_it_shrinks_from_attempt_to_attempt(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            outbound(
                listener.address,
                pool=ONCE,
                circuit_breaker=BreakerPolicy(mode="Off"),
                retry=RetryPolicy(when=("timeout",), backoff=BackoffPolicy(base=Duration(0), max=Duration(0))),
                timeout=TimeoutPolicy(request=Duration(0.8), attempt=Duration(0.3)),
            )
        )
    )
    with sidecar.connect() as client:
        began = time.monotonic()
        client.send(request())
        told = [int(listener.accept().request().get(HEADER) or 0) for _ in range(3)]
        answer = client.response()
    assert answer.status == 504
    assert time.monotonic() - began < 2
    assert told[0] <= 300
    assert told[2] <= 210, "the third attempt only has what the first two left"


def test_waiting_for_a_place_counts(start: StartSidecar, listener: Listener) -> None:
    """The queue is part of the budget: a caller with 300 ms does not wait 10 s for a place."""
    sidecar = start(
        document(
            inbound(listener.address, pool=ONCE),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(10)),
        )
    )
    with sidecar.connect() as busy, sidecar.connect() as client:
        busy.send(request())
        app = listener.accept()
        app.request()
        answer = client.exchange(request("GET", "/", f"{HEADER}: 300"))
        assert (answer.status, answer.get("x-nova-reject")) == (504, "deadline_exceeded")
        app.send(response())
        assert busy.response().status == 200
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def test_a_long_upload_is_bounded_by_silence_only(start: StartSidecar, listener: Listener) -> None:
    """A big body is no fault: the budget begins when the request is complete."""
    sidecar = start(
        document(inbound(listener.address, timeout=TimeoutPolicy(request=Duration(0.5), attempt=Duration(0.5))))
    )
    with sidecar.connect() as client:
        client.send(request("POST", "/", "Content-Length: 20"))
        app = listener.accept()
        app.head()
        client.trickle(b"." * 20, every=0.05)
        assert app.read_exactly(20) == b"." * 20
        app.send(response(body=b"got it"))
        assert client.response().body == b"got it"


def cancelled(app: Peer, within: float) -> float:
    """Seconds until the app's connection is reset: not closed in order, which it might take for half a close."""
    began = time.monotonic()
    app.socket.settimeout(within)
    with pytest.raises(ConnectionResetError):
        assert not app.socket.recv(1), "closed in order"
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("given", "reason", "least"),
    [(f"{HEADER}: 300", "deadline_exceeded", 0.2), ("X: y", "attempt_timeout", 0.6)],
    ids=["the caller's", "the attempt's"],
)
def test_the_app_is_told_that_nobody_waits(
    start: StartSidecar, listener: Listener, given: str, reason: str, least: float
) -> None:
    """On expiry the work is cancelled and not only abandoned, whoever set the deadline."""
    sidecar = start(document(inbound(listener.address, timeout=TimeoutPolicy(attempt=Duration(0.8)))))
    with sidecar.connect() as client:
        client.send(request("GET", "/", given))
        app = listener.accept()
        app.request()
        assert least < cancelled(app, 5) < 2
        assert client.response().get("x-nova-reject") == reason
    assert sidecar.metric("nova_connections_closed_total", reason="timeout") == 1
    assert sidecar.metric("nova_pool_connections", state="active") == 0


def test_the_app_is_told_when_the_client_leaves(wire: Wire) -> None:
    client, app, _ = wire.arrived(request())
    client.reset()
    assert cancelled(app, 5) < 2


def test_the_end_of_the_budget_ends_a_backoff(start: StartSidecar, listener: Listener) -> None:
    """A wait that leaves time is begun; when the caller's time ends in the next attempt, that is all."""
    sidecar = start(
        document(
            outbound(
                listener.address,
                pool=ONCE,
                circuit_breaker=BreakerPolicy(mode="Off"),
                retry=RetryPolicy(backoff=BackoffPolicy(base=Duration(10), max=Duration(10)), attempts=10),
            )
        )
    )
    with sidecar.connect() as client:
        for _ in range(5):  # the wait is drawn from 0 to 10 s
            began = time.monotonic()
            client.send(request("GET", "/", f"{HEADER}: 400"))
            answer, seconds = _fail_all(client, listener), time.monotonic() - began
            assert answer in {(503, None), (504, "deadline_exceeded")}
            assert seconds < 2
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def _fail_all(client: Peer, listener: Listener) -> tuple[int, str | None]:
    """Answer 503 to every attempt until the client has its answer."""
    while True:
        eventually(lambda: listener.pending() or client.poll())
        if not listener.pending():
            answer = client.response()
            return answer.status, answer.get("x-nova-reject")
        app = listener.accept()
        app.request()
        app.send(response("503 Busy"))


def test_a_deadline_in_the_middle_of_an_upload_is_silence(start: StartSidecar, listener: Listener) -> None:
    """The caller's own deadline begins anew with the complete request too: it was set before the upload began."""
    sidecar = start(document(inbound(listener.address)))
    with sidecar.connect() as client:
        client.send(request("POST", "/", f"{HEADER}: 400", "Content-Length: 10"))
        app = listener.accept()
        app.head()
        client.trickle(b"." * 10, every=0.06)
        app.read_exactly(10)
        began = time.monotonic()
        assert cancelled(app, 5) < 2
        assert client.response().get("x-nova-reject") == "deadline_exceeded"
        assert time.monotonic() - began > 0.25
