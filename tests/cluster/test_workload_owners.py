"""The owner of an adopted Deployment goes on with kubectl or Helm as if Nova were not there.

A second version is put into force over the adopted first one, and what is given back equals the second version where
Nova never was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.workload import UPSTREAMS, adopt, delete, has_sidecar, is_adopted, pod_of, web

Put = Callable[[str, int], None]
"""Puts a version of the Deployment with this name into force."""


def version(name: str, number: int) -> Object:
    """The first has what the second has not, and the other way round."""
    manifest = web(name, terminationGracePeriodSeconds=60)
    pod, (app,) = pod_of(manifest), pod_of(manifest)["containers"]
    app["image"] = f"registry.example/web:{number}"
    if number == 1:
        app["env"].append({"name": "OLD", "value": "1"})
        pod["hostAliases"] = [{"ip": "10.0.0.1", "hostnames": ["old-db"]}]
    else:
        app["env"].insert(0, {"name": "NEW", "value": "$(MODE)"})
        app["resources"] = {"requests": {"cpu": "50m"}}
        pod["initContainers"] = [{"name": "migrate", "image": "registry.example/web:2"}]
        pod["volumes"] = [{"name": "work", "emptyDir": {}}]
        pod["hostAliases"] = [{"ip": "10.0.0.2", "hostnames": ["new-db"]}]
        pod["securityContext"] = {"runAsUser": 1000}
        manifest["spec"]["replicas"] = 3
    return manifest


@pytest.fixture(params=["kubectl", "kubectl --server-side", "helm"])
def put(request: pytest.FixtureRequest, apiserver: Path, namespace: str, tmp_path: Path) -> Put:
    """The owner's tool."""
    if request.param == "helm":
        return with_helm(apiserver, namespace, tmp_path)
    program = toolchain.kubectl(Console())
    options = request.param.split()[1:]

    def apply(name: str, number: int) -> None:
        command: list[Any] = [program, f"--kubeconfig={apiserver}", f"--namespace={namespace}", "apply", *options]
        run([*command, "-f", "-"], stdin=json.dumps(version(name, number)), timeout=60)

    return apply


def with_helm(kubeconfig: Path, namespace: str, folder: Path) -> Put:
    """A chart with the Deployment in it, and no values."""
    program = toolchain.helm(Console())
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: web, version: 1.0.0}")

    def upgrade(name: str, number: int) -> None:
        (folder / "templates" / "web.yaml").write_text(json.dumps(version(name, number)))
        options = [f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        run([program, *options, "upgrade", "--install", name, folder], timeout=60)

    return upgrade


def test_a_second_version_over_the_adopted_first(
    api: Api, namespace: str, operator: OperatorProcess, put: Put, request: pytest.FixtureRequest
) -> None:
    name = "web-" + request.node.callspec.params["put"].replace(" --", "-")
    put(name, 1)
    adopt(api, namespace, name, upstreams=UPSTREAMS)
    until(lambda: is_adopted(api.deployment(namespace, name)), 30)
    put(name, 2)

    def both() -> None:
        live = api.deployment(namespace, name)
        app = pod_of(live)["containers"][0]
        assert app["image"].endswith(":2")
        assert has_sidecar(live)
        variables = {one["name"] for one in app["env"]}
        assert variables == {"NOVA_UPSTREAM_AUTH_URL", "NOVA_UPSTREAM_STOCK_URL", "MODE", "NEW"}
        assert {one["ip"] for one in pod_of(live)["hostAliases"]} == {"127.77.0.1", "127.77.0.2", "10.0.0.2"}
        assert live["spec"]["replicas"] == 3

    eventually(both)
    delete(api, namespace, name)
    twin = name + "-twin"
    put(twin, 2)
    given_back, never_adopted = (api.deployment(namespace, one)["spec"] for one in (name, twin))
    assert names.LABEL_SERVICE not in given_back["template"]["metadata"]["labels"]
    assert json.loads(json.dumps(given_back).replace(f'"{name}"', f'"{twin}"')) == never_adopted
