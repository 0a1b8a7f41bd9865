"""What a NovaService says about itself: conditions, printer columns and Events, whether its pods run or not.

There is no kubelet here; `Kubelet` stands in for one and answers for the sidecars over HTTP.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_operator.kinds import NOVA_SERVICE, POD
from tests.cluster.api import QUOTA, Api, eventually, until
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

SECONDS_TO_CONVERGE = 3.0  # the goal of the whole project, kubelet included; here without one


@pytest.fixture(scope="module")
def operator(apiserver: Path, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(apiserver, log, f"--namespace={namespace}", "--sidecar-poll=0.3") as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


def test_a_service_becomes_ready_and_converged(shop: Scene, apiserver: Path) -> None:
    shop.kubelet.breakers = {"auth": "closed", "stock": "closed"}
    upstreams = [{"name": "auth", "host": "auth", "port": 80}, {"name": "stock", "host": "stock", "port": 80}]
    shop.settle(replicas=2, upstreams=upstreams)
    kubectl = [toolchain.kubectl(Console()), f"--kubeconfig={apiserver}", f"--namespace={shop.namespace}"]
    run([*kubectl, "wait", "--for=condition=Ready", f"nsvc/{shop.name}", "--timeout=5s"], timeout=10)
    status = shop.status()
    assert (status["replicas"], status["readyReplicas"]) == (2, 2)
    assert (status["sidecars"]["summary"], status["upstreams"]) == ("2/2", "2/2")
    assert shop.conditions()["Progressing"] == ("False", "PodsReady")
    assert not {"Reconciling", "Stalled"} & set(shop.conditions())
    assert status["drain"] == {"neededSeconds": 15, "gracePeriodSeconds": 45}
    until(lambda: shop.events() == ["Created", "RolledOut"])
    path = f"/apis/nova.dev/v1alpha1/namespaces/{shop.namespace}/novaservices/{shop.name}/scale"
    scale = shop.api.call("GET", path)
    assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (2, f"nova.dev/service={shop.name}")


def test_an_idle_operator_writes_nothing(shop: Scene, operator: OperatorProcess) -> None:
    shop.settle(replicas=2)
    until(lambda: shop.events() == ["Created", "RolledOut"])
    before, version = operator.writes(), shop.api.get(NOVA_SERVICE, shop.namespace, shop.name)["metadata"]
    time.sleep(2.5)  # nothing must happen: eight looks at the sidecars, and the watch events of the last writes
    assert operator.writes() == before
    assert shop.api.get(NOVA_SERVICE, shop.namespace, shop.name)["metadata"] == version


def test_a_changed_threshold_reaches_every_sidecar_and_no_pod_restarts(shop: Scene) -> None:
    shop.settle(replicas=3)
    pods = {pod["metadata"]["uid"] for pod in shop.pods()}
    old, syncs = shop.status()["configHash"], shop.kubelet.syncs
    began = time.monotonic()
    shop.change(backpressure={"maxConcurrency": 7})
    shop.converges()
    took = time.monotonic() - began
    status = shop.status()
    assert (status["configHash"] != old, status["sidecars"]["summary"]) == (True, "3/3")
    assert {pod["metadata"]["uid"] for pod in shop.pods()} == pods
    assert shop.kubelet.syncs == syncs + 3  # one nudge for each pod
    assert took < SECONDS_TO_CONVERGE
    until(lambda: "ConfigChanged" in shop.events())


def test_a_new_pod_needs_no_nudge(shop: Scene) -> None:
    shop.settle()
    shop.change(replicas=3)

    def three() -> None:
        shop.is_converged()
        assert shop.status()["sidecars"]["summary"] == "3/3"

    eventually(three)
    for pod in shop.pods():
        assert names.ANNOTATION_CONFIG_HASH not in pod["metadata"].get("annotations", {})


def test_a_silent_sidecar_is_told(shop: Scene) -> None:
    shop.settle()
    shop.kubelet.stop()  # nobody answers any more, and the pod stays ready
    shop.becomes("Converged", "False", "SidecarUnreachable")
    assert "NetworkPolicy" in shop.message("Converged")


def test_breakers_are_seen_and_told(shop: Scene) -> None:
    def upstreams(expected: str) -> None:
        assert shop.status()["upstreams"] == expected

    shop.kubelet.breakers = {"auth": "closed"}
    shop.settle(upstreams=[{"name": "auth", "host": "auth", "port": 80}])
    eventually(lambda: upstreams("1/1"))
    shop.kubelet.breakers = {"auth": "open"}
    eventually(lambda: upstreams("0/1"))
    shop.becomes("CircuitOpen", "True", "BreakersOpen")
    assert "calls to auth in 1 of 1 pod are refused" in shop.message("CircuitOpen")
    assert shop.status()["openBreakers"] == [{"upstream": "auth", "pods": 1}]
    shop.kubelet.breakers = {"auth": "closed"}
    eventually(lambda: upstreams("1/1"))
    shop.becomes("CircuitOpen", "False", "BreakersClosed")
    until(lambda: shop.events() == ["Created", "RolledOut", "CircuitOpened", "CircuitClosed"])


def test_pods_that_cannot_start_say_what_to_do(shop: Scene) -> None:
    shop.kubelet.waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    shop.create()
    shop.becomes("Degraded", "True", "ImagePullFailed")
    assert shop.conditions()["Ready"] == ("False", "ImagePullFailed")
    assert "no such image; check spec.image" in shop.message()
    shop.kubelet.waiting = None
    kill_pods(shop)
    shop.converges()
    shop.becomes("Degraded", "False", "AsExpected")


def test_pods_that_come_back_are_no_rollout(shop: Scene) -> None:
    shop.settle()
    shop.kubelet.waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    kill_pods(shop)
    shop.becomes("Ready", "False", "ImagePullFailed")
    shop.kubelet.waiting = None
    kill_pods(shop)
    shop.converges()
    until(lambda: "ReadyAgain" in shop.events())
    assert shop.events().count("RolledOut") == 1
    assert shop.status()["readyGeneration"] == 1


def kill_pods(shop: Scene) -> None:
    for pod in shop.pods():
        shop.api.delete(POD, shop.namespace, pod["metadata"]["name"], gracePeriodSeconds=0)


def test_scaling_to_zero_and_back(shop: Scene) -> None:
    shop.settle()
    shop.change(replicas=0)
    shop.becomes("Ready", "True", "ScaledToZero")
    shop.becomes("Converged", "True", "NoPods")
    shop.change(replicas=1)
    shop.converges()


INVALID: dict[str, tuple[Any, str, str]] = {
    "an app port that the sidecar keeps": (
        {"ports": [{"port": 8080, "appPort": 15020}]},
        "SpecInvalid",
        "$.spec.ports[0].appPort: expected a port outside 15000-15199",
    ),
    "an override that breaks a rule with its base": (
        {"upstreams": [{"name": "a", "host": "a", "port": 1, "circuitBreaker": {"maxOpenDuration": "1s"}}]},
        "SpecInvalid",
        "$.spec.upstreams[0].circuitBreaker",
    ),
    "a port that app and upstream share": (
        {"upstreams": [{"name": "a", "host": "a", "port": 8080}]},
        "SpecInvalid",
        "let the app take another one and name it in ports[].appPort",
    ),
    "a probe that is none, with a good threshold": (
        {"readinessProbe": {"httpGet": {"path": "/"}}, "backpressure": {"maxConcurrency": 5}},
        "ChildRejected",
        "readinessProbe",
    ),
    "a probe with a field that there is not": (
        {"readinessProbe": {"httpGt": {"path": "/", "port": 8080}}},
        "ChildRejected",
        "readinessProbe.httpGt: field not declared in schema",
    ),
    "a variable of another type": (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": 1}}}]},
        "ChildRejected",
        "valueFrom.fieldRef.fieldPath: expected string",
    ),
    "a request above the limit, with a good number of replicas": (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}, "replicas": 2},
        "ChildRejected",
        "must be less than or equal to cpu limit",
    ),
}


@pytest.mark.parametrize(("spec", "reason", "message"), INVALID.values(), ids=INVALID)
def test_a_spec_that_cannot_work_is_told_and_what_runs_stays(shop: Scene, spec: Any, reason: str, message: str) -> None:
    shop.settle()
    before = shop.said()
    shop.change(**spec)
    shop.becomes("Ready", "False", reason)
    assert message in shop.message()
    assert shop.conditions()["Degraded"] == ("True", reason)
    assert shop.said() == before
    shop.change(**(dict.fromkeys(spec) | {"ports": [{"port": 8080}]}))
    shop.converges()


def test_a_service_that_never_worked_says_so_and_leaves_no_half_behind(shop: Scene) -> None:
    shop.create(readinessProbe={"httpGet": {"path": "/"}})
    shop.becomes("Ready", "False", "ChildRejected")
    assert f"the API server refuses Deployment/{shop.name}" in shop.message()
    assert shop.said() == {}
    until(lambda: shop.events() == ["ChildRejected"])


def test_pods_that_are_not_admitted_are_told(shop: Scene) -> None:
    shop.api.create(QUOTA, shop.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    try:
        until(lambda: (shop.api.get(QUOTA, shop.namespace, "none").get("status") or {}).get("hard"))
        shop.create()
        shop.becomes("Degraded", "True", "PodsRefused")
        assert "exceeded quota" in shop.message()
    finally:
        shop.api.delete(QUOTA, shop.namespace, "none")
