"""The time that is left travels with the request and ends it, wherever it is."""

import time

import pytest

from nova_api.policies import BackoffPolicy, BackpressurePolicy, BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener
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
