"""The release as Helm has it: it tests itself, and an upgrade to it from the previous one disturbs nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import names, schema
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import Provider
from nova_cli.console import Console
from nova_cli.demo.bring_up import RELEASE, SERVICES, SYSTEM_NAMESPACE, install
from nova_cli.demo.claims import STOREFRONT
from nova_cli.demo.stage import Stage
from nova_cli.errors import CommandError
from nova_cli.images.build import build
from nova_cli.repository import find_repository
from tests.bench.convergence.node import delivery
from tests.e2e import previous

pytestmark = pytest.mark.alone

RATE = 40
NOVA = ("operator", "sidecar")
DELIVERED = 3.0


def helm(stage: Stage, *arguments: str) -> str:
    command = [toolchain.helm(Console()), f"--kubeconfig={stage.kubeconfig}", f"--namespace={SYSTEM_NAMESPACE}"]
    return run([*command, *arguments], timeout=200).stdout


def test_the_release_tests_itself_in_a_pod(stage: Stage) -> None:
    """What it says while it runs is tested as a process; Helm takes the pod away when it has succeeded."""
    said = helm(stage, "test", RELEASE, "--timeout=100s")
    phases = [line.split()[1] for line in said.splitlines() if line.startswith("Phase:")]
    assert phases == ["Succeeded"] * 4, said  # the account, its rights in two parts, the pod


def test_a_change_reaches_every_sidecar_within_three_seconds(stage: Stage) -> None:
    times = delivery(stage, 20)
    print(f"config to sidecar: {times.figures()}")
    assert times.share(0.99) < DELIVERED, times


@pytest.fixture
def older(cluster: Provider, stage: Stage, tmp_path: Path) -> None:
    """The previous release runs, with its operator, its definition and its sidecar in every pod."""
    root = find_repository()
    try:
        then = previous.sources(root, tmp_path / "then")
    except CommandError as error:
        pytest.skip(f"the previous release, {previous.COMMIT}, is not in this clone: {error}")
    today = dict(zip(NOVA, build(Console(), NOVA, root), strict=True))
    cluster.load([previous.image(name, today[name], then, tmp_path) for name in NOVA])
    tags = [f"--set={name}.image.tag={previous.TAG}" for name in NOVA]
    helm(stage, "upgrade", RELEASE, str(then / "charts" / "nova"), *tags, "--wait", "--timeout=120s")
    assert stage.eventually(lambda: rolled(stage, previous.TAG), within=120, every=1)


def test_an_upgrade_from_the_previous_release_under_load_loses_no_request(
    older: None, cluster: Provider, stage: Stage
) -> None:
    """The definition, the operator's replicas, and with them the sidecars of all services, one pod at a time."""
    chart = find_repository() / "charts" / "nova"
    with stage.load_meanwhile(STOREFRONT, rate=RATE, fresh=True) as meanwhile:
        install(stage, chart, toolchain.helm(Console()), "upgraded")
        assert stage.eventually(lambda: rolled(stage, "dev"), within=150, every=1)
        result = meanwhile()
    print(f"{result['requests']} requests in {result['seconds']:.0f} s; p99 {result['accepted']['p99_ms']:.0f} ms")
    assert result["statuses"] == {"200": result["requests"]}, result
    served = json.loads(stage.kubectl("get", "crd", schema.CRD_NAME, "-o", "json"))
    assert fields(served) == fields(
        yaml.safe_load((find_repository() / "crds" / f"{schema.CRD_NAME}.yaml").read_text())
    )


def rolled(stage: Stage, tag: str) -> bool:
    """Whether operator and services run with images of the tag, have converged, and nothing of another is left."""
    system = f"--namespace={SYSTEM_NAMESPACE}"
    operators = json.loads(stage.kubectl("get", "pods", "-l", "app.kubernetes.io/name=nova", system, "-o", "json"))
    pods = [*operators["items"], *(pod for name in SERVICES for pod in _pods(stage, name))]
    images = {image for pod in pods for image in _images(pod) if "operator" in image or "sidecar" in image}
    return images == {f"nova/{name}:{tag}" for name in NOVA} and all(_settled(stage, name) for name in SERVICES)


def fields(definition: dict[str, Any]) -> Any:
    """Names of everything that the definition knows, level by level."""

    def below(schema: Any) -> Any:
        properties = schema.get("properties") or schema.get("items", {}).get("properties") or {}
        return {name: below(inner) for name, inner in properties.items()}

    return below(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def _pods(stage: Stage, service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.get("pods", "-l", f"{names.LABEL_SERVICE}={service}")["items"]
    return found


def _images(pod: dict[str, Any]) -> list[str]:
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return [container["image"] for container in containers]


def _settled(stage: Stage, service: str) -> bool:
    found = stage.get("novaservice", service)
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
    generation = found["metadata"]["generation"]
    return all(
        conditions.get(kind, {}).get("status") == "True" and conditions[kind]["observedGeneration"] == generation
        for kind in ("Ready", "Converged")
    )
