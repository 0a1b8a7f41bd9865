"""A configuration that sidecars refuse, on a real API server: taken back, told, remembered, and tried again in time."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_api import names
from nova_api.proxy import digest
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, Kind
from nova_operator.last_good import ANNOTATION_REFUSED
from tests.cluster.api import Api, eventually, until
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene


@pytest.fixture(scope="module")
def operator(apiserver: Path, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(apiserver, log, f"--namespace={namespace}", "--sidecar-poll=0.3") as process:
        yield process


@pytest.fixture
def shop(api: Api, namespace: str) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


def in_force(shop: Scene) -> str:
    config_map = shop.find(CONFIG_MAP)
    assert config_map is not None
    return digest(config_map["data"][names.CONFIG_KEY].encode())


def places(shop: Scene) -> int:
    config_map = shop.find(CONFIG_MAP)
    assert config_map is not None
    found: int = json.loads(config_map["data"][names.CONFIG_KEY])["backpressure"]["maxConcurrency"]
    return found


def refuse(shop: Scene, maximum: int) -> None:
    """Give it a configuration that no sidecar takes."""
    shop.kubelet.refuse = "expected less"
    shop.change(backpressure={"maxConcurrency": maximum})
    shop.becomes("Degraded", "True", "ConfigRejected")
    until(lambda: places(shop) != maximum)
    until(lambda: shop.kubelet.complaints() == 0)  # the sidecars have seen it, too


def test_it_is_taken_back_and_told(shop: Scene, operator: OperatorProcess) -> None:
    shop.settle(replicas=2, backpressure={"maxConcurrency": 5})
    good, pods = in_force(shop), {pod["metadata"]["uid"] for pod in shop.pods()}
    began = time.monotonic()
    refuse(shop, 9)
    assert time.monotonic() - began < 10
    eventually(lambda: _all_run(shop, good))
    status = shop.status()
    assert (in_force(shop), places(shop)) == (good, 5)
    assert (status["configHash"], len(status["refusedHash"])) == (good, len(good))
    assert shop.conditions()["Ready"] == ("True", "PodsReady")
    assert shop.conditions()["Converged"] == ("False", "ConfigRejected")
    assert shop.conditions()["Stalled"] == ("True", "ConfigRejected")
    assert "$.x: expected less; change that field" in shop.message("Degraded")
    assert {pod["metadata"]["uid"] for pod in shop.pods()} == pods
    until(lambda: "ConfigRejected" in shop.events())


def _all_run(shop: Scene, config_hash: str) -> None:
    status = shop.status()
    assert (status["configHash"], status["sidecars"]["summary"]) == (config_hash, "2/2")


def test_it_is_not_tried_again_until_the_spec_changes(shop: Scene, operator: OperatorProcess) -> None:
    shop.settle(backpressure={"maxConcurrency": 5})
    refuse(shop, 9)
    version = _version(shop)
    shop.change(replicas=2)  # a change elsewhere: the refused configuration is the same
    eventually(lambda: _has_pods(shop, 2))
    assert (places(shop), _version(shop)) == (5, version)
    shop.kubelet.refuse = None
    shop.change(backpressure={"maxConcurrency": 10})
    shop.converges()
    assert (places(shop), shop.status().get("refusedHash")) == (10, "")
    assert shop.conditions()["Degraded"] == ("False", "AsExpected")
    assert "Stalled" not in shop.conditions()


def _version(shop: Scene) -> str:
    version: str = shop.api.get(CONFIG_MAP, shop.namespace, names.config_map(shop.name))["metadata"]["resourceVersion"]
    return version


def _has_pods(shop: Scene, count: int, current: int | None = None) -> None:
    """All of them, or `current` of them, run what is in force."""
    assert shop.status()["sidecars"]["summary"] == f"{count if current is None else current}/{count}"


def test_whoever_removes_the_annotation_has_it_tried_again(shop: Scene, operator: OperatorProcess) -> None:
    shop.settle(backpressure={"maxConcurrency": 5})
    refuse(shop, 9)
    shop.kubelet.refuse = None
    gone = {"metadata": {"annotations": {ANNOTATION_REFUSED: None}}}
    shop.api.patch(CONFIG_MAP, shop.namespace, names.config_map(shop.name), gone)
    shop.converges()
    assert places(shop) == 9


def test_another_sidecar_has_it_tried_again(shop: Scene, operator: OperatorProcess) -> None:
    shop.settle(backpressure={"maxConcurrency": 5})
    refuse(shop, 9)
    shop.kubelet.refuse = None
    shop.change(sidecar={"image": "registry.example/sidecar:2"})
    until(lambda: places(shop) == 9)


def test_the_stable_versions_old_sidecars_take_nothing_back_from_a_canary(
    shop: Scene, operator: OperatorProcess
) -> None:
    """An update brings fields that only the canary's sidecars know, and the stable version is not replaced for days."""
    rollout = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "1h"}, {"weight": 100, "hold": "1h"}]}
    old, new = (f"registry.example/sidecar:{number}" for number in (1, 2))
    shop.settle(replicas=2, backpressure={"maxConcurrency": 5}, sidecar={"image": old}, rollout=rollout)
    shop.kubelet.refuse, shop.kubelet.refused_by = "unknown field", old
    shop.change(backpressure={"maxConcurrency": 9}, sidecar={"image": new})
    until(lambda: shop.status()["rollout"]["holdSince"])
    until(shop.kubelet.complaints)
    eventually(lambda: _has_pods(shop, 2, current=1))
    assert places(shop) == 9
    assert shop.conditions()["Converged"] == ("False", "ConfigPending")
    assert shop.conditions()["Degraded"] == ("False", "AsExpected")


def test_pods_that_start_before_it_is_taken_back_have_the_last_good_one(shop: Scene, operator: OperatorProcess) -> None:
    """The kubelet here does as the sidecar: one that starts and refuses its document takes the one beside it."""
    shop.settle(backpressure={"maxConcurrency": 5})
    shop.kubelet.refuse = "expected less"
    shop.change(backpressure={"maxConcurrency": 9}, replicas=3)
    shop.becomes("Degraded", "True", "ConfigRejected")
    eventually(lambda: _has_pods(shop, 3))
    assert places(shop) == 5


def test_an_operator_that_was_killed_remembers(api: Api, apiserver: Path, tmp_path: Path) -> None:
    with api.namespace() as namespace, scene(api, namespace) as shop:
        options = (f"--namespace={namespace}", "--sidecar-poll=0.3")
        with running(apiserver, tmp_path / "a", *options) as first:
            shop.settle(backpressure={"maxConcurrency": 5})
            shop.kubelet.refuse = "expected less"
            first.process.kill()
        shop.change(backpressure={"maxConcurrency": 9})
        with running(apiserver, tmp_path / "b", *options) as second:
            until(lambda: ANNOTATION_REFUSED in shop.api.get(*_config_map(shop))["metadata"]["annotations"])
            second.process.kill()
        with running(apiserver, tmp_path / "c", *options):
            shop.becomes("Degraded", "True", "ConfigRejected")
            eventually(lambda: _has_pods(shop, 1))
            assert places(shop) == 5
            assert shop.find(DEPLOYMENT) is not None
            assert shop.api.get(NOVA_SERVICE, namespace, shop.name)["status"]["refusedHash"]


def _config_map(shop: Scene) -> tuple[Kind, str, str]:
    return CONFIG_MAP, shop.namespace, names.config_map(shop.name)
