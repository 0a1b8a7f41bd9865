"""A service with an outbox on a real API server: its relays, what belongs to them, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import (
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SERVICE,
    Kind,
)
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.definitions import POD_MONITOR_SPEC, PROMETHEUS_RULE_SPEC, installed
from tests.cluster.jobs import complete, job
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

pytestmark = pytest.mark.timeout(120)  # each waits for several rollouts, on a machine that may be busy
OUTBOX: Any = {"brokers": ["kafka:9092"], "kafkaSecretRef": "shop-kafka"}


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    """A namespace that refuses every pod which breaks Pod Security *restricted*."""
    with api.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(apiserver, log, f"--namespace={namespace}", "--discovery=0.5") as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    """A service that does not exist yet."""
    with scene(api, namespace) as one:
        yield one


def database(**outbox: Any) -> Any:
    return {"secretRef": "shop-db", "outbox": OUTBOX | outbox}


def relays(shop: Scene, kind: Kind = DEPLOYMENT) -> Object | None:
    return shop.api.find(kind, shop.namespace, names.relay(shop.name))


def pods(shop: Scene) -> list[Object]:
    return shop.api.list(POD, shop.namespace, f"app.kubernetes.io/name={names.relay(shop.name)}")


def report(shop: Scene, pod: Object, **status: Any) -> None:
    """What a kubelet says of a pod."""
    shop.api.patch(POD, shop.namespace, pod["metadata"]["name"], {"status": status}, subresource="status")


def test_relays_come_with_the_tables_and_go_with_mode_off(shop: Scene) -> None:
    shop.create(image="shop:1", database=database(), networkPolicy={"mode": "Enforce"})
    first = job(shop)
    shop.becomes("OutboxRelayReady", "False", "DatabasePreparing")
    assert relays(shop) is None
    complete(shop, first)
    shop.converges()
    until(lambda: len(pods(shop)) == 2)  # Pod Security lets them in
    assert relays(shop, POD_DISRUPTION_BUDGET) is not None
    assert relays(shop, NETWORK_POLICY) is not None
    shop.becomes("OutboxRelayReady", "False", "RelaysNotReady")
    selected = shop.api.get(SERVICE, shop.namespace, shop.name)["spec"]["selector"]
    assert not selected.items() <= pods(shop)[0]["metadata"]["labels"].items()

    for pod in pods(shop):
        report(shop, pod, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    shop.becomes("OutboxRelayReady", "True", "RelaysReady")

    shop.change(database=database(mode="Off"))
    until(lambda: not any(relays(shop, kind) for kind in (DEPLOYMENT, POD_DISRUPTION_BUDGET, NETWORK_POLICY)))
    shop.becomes("OutboxRelayReady", "False", "RelaysOff")
    shop.converges()  # neither the Job nor the pods had to run again
    assert job(shop)["metadata"]["uid"] == first["metadata"]["uid"]


def test_what_somebody_changes_of_them_is_put_back(shop: Scene) -> None:
    shop.create(image="shop:1", database=database())
    complete(shop, job(shop))
    until(lambda: relays(shop))
    name = names.relay(shop.name)
    shop.api.patch(DEPLOYMENT, shop.namespace, name, {"spec": {"replicas": 7}})

    def put_back() -> None:
        found = relays(shop)
        assert found is not None
        assert found["spec"]["replicas"] == 2

    eventually(put_back)
    shop.api.delete(DEPLOYMENT, shop.namespace, name)
    until(lambda: relays(shop))


def test_what_keeps_a_relay_from_running_is_said_and_the_service_is_ready(shop: Scene) -> None:
    shop.create(image="shop:1", database=database())
    complete(shop, job(shop))
    (pod, _) = until(lambda: found if len(found := pods(shop)) == 2 else None)
    words = f"couldn't find key url in Secret {shop.namespace}/shop-db"
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    container = {"name": "relay", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    report(shop, pod, phase="Pending", containerStatuses=[container])
    shop.becomes("OutboxRelayReady", "False", "ContainerRefused")
    assert words in shop.message("OutboxRelayReady")
    shop.becomes("Degraded", "True", "ContainerRefused")
    shop.becomes("Ready", "True", "PodsReady")

    scheduled = [{"type": "PodScheduled", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "False"}]
    report(shop, pod, containerStatuses=[container | {"state": {}}], conditions=scheduled)
    shop.becomes("Degraded", "False", "AsExpected")
    eventually(lambda: _in(shop.message("OutboxRelayReady"), "is Secret/shop-kafka there?"))


def test_alerts_come_with_their_kind(shop: Scene, api: Api) -> None:
    shop.create(image="shop:1", database=database(backlogAlert=250), monitoring={"labels": {"release": "p"}})
    complete(shop, job(shop))
    until(lambda: relays(shop))
    with installed(api, PROMETHEUS_RULE, PROMETHEUS_RULE_SPEC), installed(api, POD_MONITOR, POD_MONITOR_SPEC):
        rule = until(lambda: relays(shop, PROMETHEUS_RULE), 30)
        assert rule["metadata"]["labels"]["release"] == "p"
        (group,) = rule["spec"]["groups"]
        assert ">= 250" in group["rules"][0]["expr"]
        until(lambda: relays(shop, POD_MONITOR), 30)


def _in(text: str, words: str) -> None:
    assert words in text
