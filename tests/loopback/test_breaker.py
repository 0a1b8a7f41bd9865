"""Callers of a failing upstream get a fast answer that says why, and the upstream gets quiet to recover."""

import time
from dataclasses import dataclass

import pytest

from nova_api.policies import (
    BreakerPolicy,
    RetryPolicy,
    SlowCallPolicy,
    TimeoutPolicy,
    WindowPolicy,
)
from nova_api.units import Duration, Share

from .conftest import StartApp, StartSidecar
from .support.app import App, Call
from .support.message import Message, request, response
from .support.peer import Listener, Peer
from .support.ports import free_ports
from .support.sidecar import ONCE, Sidecar, document, outbound, with_fields
from .support.waiting import eventually

ALONE = RetryPolicy(mode="Off")
STATES = ("closed", "open", "half_open")


@dataclass
class Scene:
    """An upstream whose health the test decides, behind an outbound with a breaker."""

    sidecar: Sidecar
    upstream: App
    client: Peer
    healthy: bool = True

    def call(self) -> Message:
        return self.client.exchange(request())

    def fail(self, times: int) -> None:
        self.healthy = False
        for _ in range(times):
            assert self.call().status == 500

    @property
    def state(self) -> str:
        return next(state for state in STATES if self.sidecar.metric("nova_breaker_state", state=state) == 1)

    def transitions(self, before: str, after: str) -> float:
        return self.sidecar.metric("nova_breaker_transitions_total", **{"from": before, "to": after})


@pytest.fixture
def scene(start: StartSidecar, app: StartApp):
    """Set the scene with this policy."""
    scenes: list[Scene] = []

    def answer(_: Call) -> bytes:
        return response("200 OK" if scenes[-1].healthy else "500 Oops", body=b"x")

    def make(**policy: object) -> Scene:
        upstream = app(answer)
        breaker = BreakerPolicy(**policy)  # type: ignore[arg-type]
        sidecar = start(document(outbound(upstream.address, circuit_breaker=breaker, retry=ALONE)))
        scenes.append(Scene(sidecar, upstream, sidecar.connect()))
        return scenes[-1]

    yield make
    for each in scenes:
        each.client.close()


def test_opens_after_consecutive_failures_and_answers_fast(scene) -> None:
    it = scene(failure_threshold=3)
    assert it.state == "closed"
    it.fail(3)
    assert it.state == "open"

    began = time.monotonic()
    refusal = it.call()

    assert time.monotonic() - began < 0.5
    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "circuit_open")
    assert 1 <= int(refusal.get("retry-after") or 0) <= 34
    assert len(it.upstream.requests) == 3
    assert it.sidecar.metric("nova_rejected_total", reason="circuit_open") == 1


def test_a_success_starts_the_count_again(scene) -> None:
    it = scene(failure_threshold=3)
    it.fail(2)
    it.healthy = True
    assert it.call().status == 200
    it.fail(2)

    assert it.state == "closed"


def test_client_errors_are_no_failures(start: StartSidecar, app: StartApp) -> None:
    upstream = app(lambda call: response(f"{call.request.target[1:]} No"))
    sidecar = start(
        document(outbound(upstream.address, circuit_breaker=BreakerPolicy(failure_threshold=1), retry=ALONE))
    )
    with sidecar.connect() as client:
        for status in (400, 401, 404, 409, 429, 499):
            assert client.exchange(request("GET", f"/{status}")).status == status
    assert sidecar.metric("nova_breaker_state", state="closed") == 1


def test_probes_close_it(scene) -> None:
    it = scene(failure_threshold=2, success_threshold=2, open_duration=Duration(0.3))
    it.fail(2)
    it.healthy = True
    assert it.call().status == 503

    eventually(lambda: it.call().status == 200, within=3)

    assert it.state == "half_open"
    assert it.call().status == 200
    assert it.state == "closed"
    assert [it.transitions(*pair) for pair in (("closed", "open"), ("open", "half_open"), ("half_open", "closed"))] == [
        1, 1, 1,
    ]  # fmt: skip
    moves = [line for line in it.sidecar.log if line["event"] == "breaker moved"]
    assert [(line["name"], line["from_state"], line["to_state"]) for line in moves] == [
        ("db", "closed", "open"), ("db", "open", "half_open"), ("db", "half_open", "closed"),
    ]  # fmt: skip
    assert 0.25 < it.sidecar.metric("nova_breaker_open_seconds_total") < 3


def test_a_failed_probe_opens_it_for_longer(scene) -> None:
    it = scene(failure_threshold=1, open_duration=Duration(0.2), max_open_duration=Duration(10))
    it.fail(1)
    eventually(lambda: it.call().status == 500, within=3)  # the probe
    began = time.monotonic()
    assert it.state == "open"
    it.healthy = True

    eventually(lambda: it.call().status == 200, within=3)

    assert time.monotonic() - began > 0.35
    assert it.transitions("half_open", "open") == 1


def probed(client: Peer, listener: Listener) -> Peer:
    """Ask until the breaker lets a request through; returns the upstream's end of it, not yet answered."""

    def through() -> bool:
        client.send(request("GET", "/probe"))
        eventually(lambda: listener.pending() or client.poll())
        return listener.pending() or not client.response()

    eventually(through)
    probe = listener.accept()
    probe.request()
    return probe


def test_one_probe_at_a_time(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            outbound(
                listener.address,
                pool=ONCE,
                retry=ALONE,
                circuit_breaker=BreakerPolicy(failure_threshold=1, success_threshold=1, open_duration=Duration(0.2)),
            )
        )
    )
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response("500 Oops"))
        assert client.response().status == 500

        probe = probed(client, listener)
        with sidecar.connect() as other:
            refusal = other.exchange(request())
            assert refusal.get("x-nova-reject") == "circuit_open"
            assert int(refusal.get("retry-after") or 0) >= 1
        probe.send(response())
        assert client.response().status == 200
    assert sidecar.metric("nova_breaker_state", state="closed") == 1


def test_a_probe_that_is_abandoned_gives_its_place_back(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            outbound(
                listener.address,
                pool=ONCE,
                retry=ALONE,
                circuit_breaker=BreakerPolicy(failure_threshold=1, success_threshold=1, open_duration=Duration(0.1)),
            )
        )
    )
    client = sidecar.connect()
    client.send(request())
    app = listener.accept()
    app.request()
    app.reset()
    assert client.response().status == 502

    for _ in range(3):
        probe = probed(client, listener)
        client.reset()
        probe.expect_closed()
        client = sidecar.connect()
    probe = probed(client, listener)
    probe.send(response())
    assert client.response().status == 200
    client.close()


@pytest.mark.parametrize("fault", ["refused", "reset", "timeout", "bad response"])
def test_every_kind_of_failure_counts(start: StartSidecar, app: StartApp, fault: str) -> None:
    def answer(call: Call) -> None:
        if fault == "reset":
            call.peer.reset()
        elif fault == "timeout":
            call.peer.expect_closed()
        elif fault == "bad response":
            call.peer.send(b"nonsense\r\n\r\n")

    address = ("127.0.0.1", free_ports(1)[0]) if fault == "refused" else app(answer).address
    sidecar = start(
        document(
            outbound(
                address,
                circuit_breaker=BreakerPolicy(failure_threshold=2),
                retry=ALONE,
                timeout=TimeoutPolicy(attempt=Duration(0.2)),
            )
        )
    )
    with sidecar.connect() as client:
        reasons = [client.exchange(request("POST", "/", body=b"")).get("x-nova-reject") for _ in range(3)]

    assert reasons[2] == "circuit_open", reasons
    assert "circuit_open" not in reasons[:2]


def test_a_response_that_breaks_off_is_a_failure(start: StartSidecar, app: StartApp) -> None:
    def half(call: Call) -> None:
        call.peer.send(response("200 OK", "Content-Length: 100", body=None) + b"half")

    sidecar = start(
        document(outbound(app(half).address, circuit_breaker=BreakerPolicy(failure_threshold=2), retry=ALONE))
    )
    for _ in range(2):
        with sidecar.connect() as client:
            client.send(request())
            client.head()
            client.expect_closed()
    assert sidecar.metric("nova_breaker_state", state="open") == 1


@pytest.mark.parametrize("window", ["Count", "Time"])
def test_every_other_call_failing_opens_it_too(scene, window) -> None:
    rate = WindowPolicy(type=window, calls=20, duration=Duration(60), minimum_calls=10, failure_rate=Share(0.5))
    it = scene(failure_threshold=3, window=rate)
    for _ in range(4):
        it.healthy = True
        assert it.call().status == 200
        it.fail(1)
    assert it.state == "closed"
    it.healthy = True
    assert it.call().status == 200
    it.fail(1)

    assert it.state == "open"
    assert it.call().get("x-nova-reject") == "circuit_open"
    assert it.sidecar.metric("nova_breaker_transitions_total", cause="failure_rate") == 1
    assert it.sidecar.metric("nova_breaker_transitions_total", cause="consecutive") == 0
    assert [line["cause"] for line in it.sidecar.log if line["event"] == "breaker moved"] == ["failure_rate"]


def test_slow_answers_open_it_and_a_slow_probe_opens_it_again(start: StartSidecar, app: StartApp) -> None:
    slow = [False] * 3 + [True] * 4

    def answer(_: Call) -> bytes:
        if slow and slow.pop(0):
            time.sleep(0.25)  # the upstream's own time
        return response(body=b"x")

    policy = BreakerPolicy(
        window=WindowPolicy(type="Count", calls=10, minimum_calls=6, failure_rate=Share(0)),
        slow_call=SlowCallPolicy(duration=Duration(0.2), rate=Share(0.5)),
        open_duration=Duration(0.1),
        success_threshold=1,
    )
    sidecar = start(document(outbound(app(answer).address, circuit_breaker=policy, retry=ALONE)))
    with sidecar.connect() as client:
        for _ in range(6):
            assert client.exchange(request()).status == 200
        assert sidecar.metric("nova_breaker_transitions_total", cause="slow_rate") == 1
        eventually(lambda: client.exchange(request()).status == 200)  # the probe, slow as well
        assert sidecar.metric("nova_breaker_transitions_total", **{"from": "half_open", "to": "open"}) == 1
        eventually(
            lambda: client.exchange(request()).status == 200 and sidecar.metric("nova_breaker_state", state="closed")
        )


def test_what_is_a_failure_is_the_policys_to_say(start: StartSidecar, app: StartApp) -> None:
    statuses = ["500 Oops", "429 Slow Down", "429 Slow Down"]
    bodies = [b"x", b"", b"x" * 100_000]  # in one piece with its head, without any, and long after it
    it = app(lambda _: response(statuses.pop(0), body=bodies.pop(0)))
    policy = BreakerPolicy(failure_threshold=2, failure_statuses=("429",))
    sidecar = start(document(outbound(it.address, circuit_breaker=policy, retry=ALONE)))
    with sidecar.connect() as client:
        for state in ("closed", "closed", "open"):
            client.exchange(request())
            assert sidecar.metric("nova_breaker_state", state=state) == 1


def test_shadow_sees_and_refuses_nothing(scene) -> None:
    it = scene(mode="Shadow", failure_threshold=2)
    it.fail(5)

    assert it.state == "open"
    assert len(it.upstream.requests) == 5
    assert it.sidecar.metric("nova_shadow_rejected_total", reason="circuit_open") == 3


def test_forced_open_refuses_everything(scene) -> None:
    it = scene(mode="ForcedOpen")

    refusal = it.call()

    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "circuit_open")
    assert it.upstream.requests == []
    assert it.state == "open"


def test_off_never_opens(scene) -> None:
    it = scene(mode="Off", failure_threshold=1)
    it.fail(10)

    assert it.state == "closed"


def test_a_rehearsal_can_be_switched_on_and_off(scene) -> None:
    it = scene()
    assert it.call().status == 200
    config = it.sidecar.config
    (upstream,) = config.outbound

    rehearsal = with_fields(upstream, circuit_breaker=BreakerPolicy(mode="ForcedOpen"))
    it.sidecar.reload(with_fields(config, outbound=(rehearsal,)))
    eventually(lambda: it.call().status == 503)
    it.sidecar.reload(config)
    eventually(lambda: it.call().status == 200)


def test_state_survives_a_reload(scene) -> None:
    it = scene(failure_threshold=2)
    it.fail(2)
    (upstream,) = it.sidecar.config.outbound
    changed = with_fields(upstream, circuit_breaker=BreakerPolicy(failure_threshold=9))
    reloads = it.sidecar.metric("nova_config_reloads_total", result="applied")

    it.sidecar.reload(with_fields(it.sidecar.config, outbound=(changed,)))

    eventually(lambda: it.sidecar.metric("nova_config_reloads_total", result="applied") > reloads)
    assert it.state == "open"
    assert it.call().status == 503


def test_what_is_in_the_window_survives_a_reload(scene) -> None:
    rate = WindowPolicy(type="Count", calls=20, minimum_calls=4, failure_rate=Share(0.5))
    it = scene(failure_threshold=0, window=rate)
    it.fail(3)
    (upstream,) = it.sidecar.config.outbound
    changed = with_fields(
        upstream, circuit_breaker=BreakerPolicy(failure_threshold=0, window=rate, success_threshold=9)
    )
    reloads = it.sidecar.metric("nova_config_reloads_total", result="applied")
    it.sidecar.reload(with_fields(it.sidecar.config, outbound=(changed,)))
    eventually(lambda: it.sidecar.metric("nova_config_reloads_total", result="applied") > reloads)
    assert it.state == "closed"
    shown = it.sidecar.stats()["outbound"]["db"]["breaker"]
    assert (shown["calls"], shown["failedCalls"], shown["slowCalls"]) == (3, 3, 0)

    it.fail(1)

    assert it.state == "open"


def test_metrics_are_there_before_anything_happened(scene) -> None:
    """An alert on a metric that does not exist yet never fires."""
    it = scene()

    assert [it.sidecar.metric("nova_breaker_state", upstream="db", state=state) for state in STATES] == [1, 0, 0]
    assert it.transitions("closed", "open") == 0
    assert it.sidecar.metric("nova_breaker_open_seconds_total") == 0
    assert it.sidecar.metric("nova_rejected_total", reason="circuit_open") == 0


def test_upstreams_have_breakers_of_their_own(start: StartSidecar, app: StartApp) -> None:
    bad = app(lambda _: response("503 No"))
    good = app()
    policy = {"circuit_breaker": BreakerPolicy(failure_threshold=1), "retry": ALONE}
    sidecar = start(document(outbound(bad.address, "bad", **policy), outbound(good.address, "good", **policy)))
    with sidecar.connect("bad") as to_bad, sidecar.connect("good") as to_good:
        assert to_bad.exchange(request()).status == 503
        assert to_bad.exchange(request()).get("x-nova-reject") == "circuit_open"
        assert to_good.exchange(request()).status == 200


@pytest.mark.parametrize("reason", ["overloaded", "queue_full", "acquire_timeout"])
def test_an_upstream_that_sheds_load_is_not_a_failing_one(start: StartSidecar, app: StartApp, reason: str) -> None:
    shed = response("503 Service Unavailable", f"x-nova-reject: {reason}", body=b"x")
    answers = [shed] * 20 + [response("503 Service Unavailable", body=b"x")] * 3
    upstream = app(lambda _: answers.pop(0))
    breaker = BreakerPolicy(failure_threshold=3)
    sidecar = start(document(outbound(upstream.address, circuit_breaker=breaker, retry=ALONE)))
    with sidecar.connect() as client:
        for _ in range(20):
            assert client.exchange(request()).status == 503
        assert sidecar.metric("nova_breaker_state", state="closed") == 1
        for _ in range(3):
            client.exchange(request())
        assert sidecar.metric("nova_breaker_state", state="open") == 1
