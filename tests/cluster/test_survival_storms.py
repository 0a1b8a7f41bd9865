"""An API server that refuses for a while (too many requests, conflicts, errors) is waited for, not stormed."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_operator.access import CONNECTIONS
from nova_operator.kinds import DEPLOYMENT, LEASE
from tests.cluster.api import Api, eventually, until
from tests.cluster.gate import Fault, Gate
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

STORM = 4.0
"""Seconds that a storm lasts."""

MOST_WRITES = 60
"""Writes of one service that may be tried in that time: five backoffs with all the children that go along."""


@pytest.fixture(scope="module")
def gate(apiserver: Path, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with Gate(apiserver, tmp_path_factory.mktemp("gate")) as one:
        yield one


@pytest.fixture(scope="module")
def operator(gate: Gate, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(gate.kubeconfig(), log, f"--namespace={namespace}", "--sidecar-poll=0.3") as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


STORMS = {
    "too many requests": Fault(429, "too many requests, please try again later", retry_after=1),
    "conflicts": Fault(409, "the object has been modified"),
    "errors of its own": Fault(500, "etcdserver: leader changed"),
    "unavailable": Fault(503, "the server is currently unable to handle the request"),
}


@pytest.mark.parametrize("fault", STORMS.values(), ids=STORMS)
def test_a_storm_is_waited_out_and_everything_is_done_afterwards(
    gate: Gate, shop: Scene, operator: OperatorProcess, fault: Fault
) -> None:
    before, since = operator.metric("nova_operator_errors_total"), len(gate.calls)
    began = time.monotonic()
    try:
        gate.fault = lambda method, _path: fault if method != "GET" else None
        shop.create(replicas=2)
        until(lambda: time.monotonic() - began > STORM)
    finally:
        gate.fault = lambda _method, _path: None
    stormed = [call for call in gate.calls[since:] if call.status == fault.status]
    assert 0 < len(stormed) <= MOST_WRITES
    assert operator.metric("nova_operator_errors_total") > before
    shop.converges()
    assert operator.metric("nova_operator_services_failing") == 0
    assert operator.process.poll() is None


def test_retry_after_is_kept(gate: Gate, shop: Scene, operator: OperatorProcess) -> None:
    """One write is refused for two seconds; no other of the service is tried before."""
    tried: list[float] = []

    def fault(method: str, path: str) -> Fault | None:
        if method == "GET" or "/events" in path or (tried and time.monotonic() - tried[0] > 10):
            return None
        tried.append(time.monotonic())
        return Fault(429, "wait", retry_after=2) if time.monotonic() - tried[0] < 1.0 else None

    try:
        gate.fault = fault
        shop.create()
        until(lambda: shop.find(DEPLOYMENT))
    finally:
        gate.fault = lambda _method, _path: None
    together = [when for when in tried if when - tried[0] < 0.5]
    later = [when for when in tried if when - tried[0] >= 0.5]
    assert len(together) >= 1
    assert min(later) - max(together) >= 1.9


def test_a_storm_over_everything_is_survived(gate: Gate, shop: Scene, operator: OperatorProcess) -> None:
    """Reads and new watches, too, while the watches of before are broken off."""
    shop.settle()
    fault = STORMS["too many requests"]
    began = time.monotonic()
    try:
        gate.fault = lambda _method, _path: fault
        gate.cut()
        until(lambda: time.monotonic() - began > STORM)
    finally:
        gate.fault = lambda _method, _path: None
    shop.change(backpressure={"maxConcurrency": 7})
    eventually(shop.is_converged, 30)
    until(operator.ready, 30)


def test_the_lease_is_renewed_while_all_writes_hang(api: Api, apiserver: Path, tmp_path: Path) -> None:
    """As behind a webhook that does not answer. There are more of them than the operator has connections."""
    with api.namespace() as namespace, Gate(apiserver, tmp_path) as gate:
        times: set[str] = set()

        def renewed_twice() -> bool:
            times.add(api.get(LEASE, namespace, "nova-operator")["spec"]["renewTime"])
            return len(times) > 2

        options = (f"--namespace={namespace}", f"--leader-election-namespace={namespace}")
        with running(gate.kubeconfig(), tmp_path / "log", *options) as operator:
            until(operator.leads)
            gate.held = lambda method, path: method != "GET" and "/leases/" not in path
            try:
                for number in range(CONNECTIONS):
                    api.service(namespace, f"s-{number}")
                until(lambda: gate.waiting >= CONNECTIONS)
                until(renewed_twice)
                assert gate.waiting >= CONNECTIONS
                assert operator.leads()
            finally:
                gate.held = lambda _method, _path: False
