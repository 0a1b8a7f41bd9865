"""One bad endpoint among good ones is taken out of rotation, for a while and within bounds; requests are the check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nova_api.policies import BackoffPolicy, BreakerPolicy, EndpointBreakerPolicy, PoolPolicy, RetryPolicy
from nova_api.units import Duration, Share

from .conftest import StartSidecar
from .support.app import App, Call, ok
from .support.message import request, response
from .support.nameserver import NameServer, Record, from_table
from .support.sidecar import Sidecar, document, outbound, with_fields
from .support.waiting import eventually

NAME = "db.test"
ALONE = RetryPolicy(mode="Off")


def oops(_: Call) -> bytes:
    return response("500 Oops", body=b"x")


def busy(_: Call) -> bytes:
    return response("503 Busy", body=b"x")


@dataclass
class Scene:
    """An upstream with several endpoints behind one name, and a client."""

    apps: list[App]
    sidecar: Sidecar
    names: NameServer
    statuses: list[int] = field(default_factory=list)

    def call(self, times: int) -> list[int]:
        """Statuses of so many requests, one after the other."""
        with self.sidecar.connect() as client:
            return [client.exchange(request()).status for _ in range(times)]

    def called(self, app: App, times: int) -> int:
        """How many of so many requests go to this endpoint."""
        before = len(app.calls)
        self.call(times)
        return len(app.calls) - before

    @property
    def pool(self) -> dict[str, Any]:
        pool: dict[str, Any] = self.sidecar.stats()["outbound"]["db"]["pool"]
        return pool

    def shown(self, app: App) -> dict[str, Any]:
        """What /stats says of an endpoint."""
        return next(e for e in self.pool["endpoints"] if e["address"] == f"{app.address[0]}:{app.address[1]}")

    @property
    def ejections(self) -> float:
        return self.sidecar.metric("nova_endpoint_ejections_total", direction="outbound")

    @property
    def ejected(self) -> float:
        return self.sidecar.metric("nova_endpoints_ejected", direction="outbound")

    def events(self) -> list[tuple[str, str]]:
        return [(line["event"], line["address"]) for line in self.sidecar.log if line["event"].startswith("endpoint ")]


StartScene = Callable[..., Scene]


@pytest.fixture
def scene(start: StartSidecar) -> Iterator[StartScene]:
    """Set the scene: endpoints that answer like this, this policy for them, and no breaker unless given."""
    apps: list[App] = []
    servers: list[NameServer] = []

    def make(
        *answers: Callable[[Call], bytes], ttl: int = 60, fields: dict[str, Any] | None = None, **policy: Any
    ) -> Scene:
        apps.append(App(answers[0]))
        port = apps[0].address[1]
        apps.extend(App(answer, address=(f"127.0.0.{at}", port)) for at, answer in enumerate(answers[1:], 2))
        servers.append(NameServer(from_table(*(Record(NAME, "A", app.address[0], ttl) for app in apps))))
        breaker = BreakerPolicy(mode="Off", endpoints=EndpointBreakerPolicy(**policy))
        settings = {"circuit_breaker": breaker, "retry": ALONE, **(fields or {})}
        sidecar = start(document(outbound((NAME, port), **settings), resolver="dns"), servers[0])
        it = Scene(apps, sidecar, servers[0])
        eventually(lambda: len(it.pool["endpoints"]) == len(answers))
        return it

    yield make
    for app in apps:
        app.stop()
    for server in servers:
        server.close()


def test_a_bad_endpoint_is_taken_out_and_the_breaker_stays_closed(scene: StartScene) -> None:
    endpoints = EndpointBreakerPolicy(failure_threshold=3)
    it = scene(ok, oops, ok, fields={"circuit_breaker": BreakerPolicy(endpoints=endpoints)})
    bad = it.apps[1]
    assert (it.ejections, it.ejected) == (0, 0)

    assert it.call(30).count(500) == 3

    assert (it.ejections, it.ejected) == (1, 1)
    assert it.call(30) == [200] * 30
    assert len(bad.calls) == 3
    shown = it.shown(bad)
    assert (shown["ejected"], shown["ejections"], shown["open"]) == (True, 1, 0)
    assert 0 < shown["backIn"] <= 10
    assert it.events() == [("endpoint ejected", f"127.0.0.2:{bad.address[1]}")]
    assert it.sidecar.metric("nova_breaker_state", state="closed") == 1
    assert it.sidecar.metric("nova_connections_closed_total", reason="ejected") == 1
    assert it.sidecar.metric("nova_endpoints", direction="outbound") == 3


def test_it_comes_back_and_stays_out_longer_when_it_is_still_bad(scene: StartScene) -> None:
    it = scene(ok, oops, ok, failure_threshold=2, eject_duration=Duration(0.3), max_eject_duration=Duration(0.5))
    bad = it.apps[1]
    it.call(12)
    assert it.ejected == 1

    def again() -> bool:
        it.call(6)
        return it.ejections >= 2

    eventually(again)
    assert bad.answer is oops
    assert it.shown(bad)["backIn"] <= 0.5
    bad.answer = ok
    eventually(lambda: it.called(bad, 6) > 0)
    assert it.ejected == 0
    assert ("endpoint back", f"127.0.0.2:{bad.address[1]}") in it.events()


def test_no_more_than_the_largest_share_is_out(scene: StartScene) -> None:
    it = scene(oops, oops, oops, ok, failure_threshold=2, max_ejected=Share(0.5))
    it.call(60)

    assert (it.ejected, it.ejections) == (2, 2)
    assert it.call(20).count(500) in range(8, 13)  # the third one is used in turn with the good one
    assert not it.pool["ejection"]["panic"]


def test_panic_uses_all_of_them(scene: StartScene) -> None:
    it = scene(oops, oops, ok, failure_threshold=2, max_ejected=Share(1.0), panic_threshold=Share(0.5))
    it.call(30)

    assert it.ejected == 2
    assert it.pool["ejection"]["panic"]
    assert it.call(30).count(500) > 10


def test_an_endpoint_that_refuses_connections_costs_nobody_an_error(scene: StartScene) -> None:
    it = scene(ok, ok, failure_threshold=2, fields={"pool": PoolPolicy(max_requests=1)})
    it.apps[1].stop()

    assert it.call(20) == [200] * 20
    assert it.ejected == 1
    assert it.sidecar.metric("nova_connect_failures_total") == 2


def test_a_single_endpoint_is_never_taken_out(scene: StartScene) -> None:
    it = scene(oops, failure_threshold=1, max_ejected=Share(1.0))

    assert it.call(5) == [500] * 5
    assert (it.ejected, it.ejections) == (0, 0)


def test_shadow_takes_nothing_out_and_counts(scene: StartScene) -> None:
    it = scene(ok, oops, ok, mode="Shadow", failure_threshold=2)
    bad = it.apps[1]

    assert it.call(30).count(500) >= 8
    assert (it.ejected, it.ejections) == (0, 0)
    assert it.sidecar.metric("nova_shadow_endpoint_ejections_total", direction="outbound") == 1
    assert it.shown(bad)["wouldBeEjected"]
    assert not it.shown(bad)["ejected"]
    assert it.events() == [("endpoint would be ejected", f"127.0.0.2:{bad.address[1]}")]


def test_who_is_out_stays_so_through_reloads_and_looks_at_the_names(scene: StartScene) -> None:
    it = scene(ok, oops, ok, ttl=1, failure_threshold=2)
    it.call(20)
    assert it.ejected == 1
    (upstream,) = it.sidecar.config.outbound
    changed = with_fields(upstream, pool=PoolPolicy(balance="RoundRobin"))
    asked, reloads = len(it.names.asked), it.sidecar.metric("nova_config_reloads_total", result="applied")

    it.sidecar.reload(with_fields(it.sidecar.config, outbound=(changed,)))
    eventually(lambda: it.sidecar.metric("nova_config_reloads_total", result="applied") > reloads)
    eventually(lambda: len(it.names.asked) > asked + 1)

    assert it.call(12) == [200] * 12
    assert (it.ejected, it.ejections) == (1, 1)


@pytest.mark.parametrize("balance", ["RoundRobin", "LeastRequest"])
def test_a_retry_goes_to_another_endpoint_than_the_failed_one(scene: StartScene, balance: Any) -> None:
    """Also where it is the failed one's turn again, because somebody else came in between."""
    backoff = BackoffPolicy(base=Duration(0.2), max=Duration(0.2))
    retry = RetryPolicy(attempts=2, min_per_second=1000, backoff=backoff)
    it = scene(ok, busy, mode="Off", fields={"retry": retry, "pool": PoolPolicy(balance=balance)})
    bad = it.apps[1]
    with it.sidecar.connect() as client, it.sidecar.connect() as other:
        for _ in range(10):
            before = len(bad.calls)
            client.send(request())
            eventually(lambda seen=before: len(bad.calls) > seen or client.poll(), every=0.002)
            if len(bad.calls) > before:
                assert other.exchange(request()).status == 200
            assert client.response().status == 200
    assert len(bad.calls) >= 4
