"""A canary's share of an outbound port: exact, changed and ended without a lost request, and no burden on callers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from nova_api.policies import BreakerPolicy, RetryPolicy
from nova_api.proxy import Address, Canary, Outbound
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.app import App
from .support.grpcapp import GrpcApp, GrpcClient
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import Sidecar, document, outbound, with_fields
from .support.waiting import eventually


@pytest.fixture
def stable() -> Iterator[App]:
    with App(lambda _: response("200 OK", body=b"stable")) as running:
        yield running


@pytest.fixture
def canary() -> Iterator[App]:
    with App(lambda _: response("200 OK", body=b"canary")) as running:
        yield running


def split(stable: tuple[str, int], canary: tuple[str, int], weight: int, **fields: Any) -> Outbound:
    share = Canary(address=Address(host=canary[0], port=canary[1]), weight=weight)
    return outbound(stable, canary=share, **fields)


def answers(sidecar: Sidecar, count: int) -> Counter[str]:
    """Whom so many requests of one client reached, one after the other."""
    found: Counter[str] = Counter()
    with sidecar.connect() as client:
        for _ in range(count):
            found[client.exchange(request()).body.decode()] += 1
    return found


@pytest.mark.parametrize("weight", [1, 10, 37, 50, 99, 100])
def test_shares_are_exact(start: StartSidecar, stable: App, canary: App, weight: int) -> None:
    sidecar = start(document(split(stable.address, canary.address, weight)))
    found = answers(sidecar, 200)
    assert abs(found["canary"] - 2 * weight) <= 1
    assert found["canary"] + found["stable"] == 200
    assert sidecar.metric("nova_requests_total", direction="outbound", code="2xx") == 200


def test_both_hear_the_name_that_the_caller_used(start: StartSidecar, stable: App, canary: App) -> None:
    sidecar = start(document(split(stable.address, canary.address, 50)))
    answers(sidecar, 4)
    hosts = {message.get("host") for app in (stable, canary) for message in app.requests}
    assert len(hosts) == 1


def test_a_share_comes_grows_and_goes_while_requests_are_under_way(
    start: StartSidecar, stable: App, canary: App
) -> None:
    sidecar = start(document(outbound(stable.address)))
    plain = sidecar.config
    with sidecar.connect() as client:

        def reached() -> str:
            return client.exchange(request()).body.decode()

        assert reached() == "stable"
        for weight in (20, 100):
            share = Canary(address=Address(host=canary.address[0], port=canary.address[1]), weight=weight)
            sidecar.reload(with_fields(plain, outbound=(replace(plain.outbound[0], canary=share),)))
            eventually(lambda: reached() == "canary")
        eventually(lambda: {reached() for _ in range(5)} == {"canary"})
        sidecar.reload(plain)
        eventually(lambda: reached() == "stable")
        assert {reached() for _ in range(20)} == {"stable"}  # all of it on one connection of the client


def test_what_the_canary_does_wrong_opens_no_breaker_of_the_stable_version(start: StartSidecar, stable: App) -> None:
    breaker = BreakerPolicy(failure_threshold=3, open_duration=Duration(300))
    with App(lambda _: response("500 Broken", body=b"canary")) as broken:
        settings = split(stable.address, broken.address, 50, circuit_breaker=breaker, retry=RetryPolicy(mode="Off"))
        sidecar = start(document(settings))
        found = answers(sidecar, 40)
    assert found == {"canary": 3, "stable": 37}  # then its breaker is open, and nobody waits for that
    port = sidecar.stats()["outbound"]["db"]
    assert (port["breaker"]["state"], port["canary"]["breaker"]["state"]) == ("closed", "open")


def test_grpc_calls_are_shared_one_by_one(start: StartSidecar) -> None:
    stable, canary = GrpcApp(name="stable"), GrpcApp(name="canary")
    try:
        sidecar = start(document(split(stable.address, canary.address, 25, protocol="grpc")))
        with GrpcClient(sidecar.address()) as client:
            found = Counter(client.inspect()["name"] for _ in range(40))
    finally:
        stable.stop()
        canary.stop()
    assert found == {"canary": 10, "stable": 30}


def test_tcp_connections_are_shared(start: StartSidecar, listener: Listener) -> None:
    other = Listener()
    sidecar = start(document(split(listener.address, other.address, 50, protocol="tcp")))
    clients = [sidecar.connect() for _ in range(4)]
    ends = [listener.accept(), listener.accept(), other.accept(), other.accept()]
    for end in [*clients, *ends]:
        end.close()
    other.close()
