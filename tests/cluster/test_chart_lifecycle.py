"""A release over its life: tested, upgraded, uninstalled and installed again, beside services that must not notice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import block_yaml, schema
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, SERVICE
from tests.cluster.api import CRDS, Api, ApiError, eventually, until

CHART = Path(__file__).resolve().parents[2] / "charts" / "nova"
HOME = "nova-life"
QUIET = ("--set=webhooks.enabled=false",)  # no pod runs here that could answer them

Tool = Callable[..., str]


@pytest.fixture(scope="module")
def helm(api: Api, apiserver: Path) -> Iterator[Tool]:
    binary = toolchain.helm(Console())

    def call(*arguments: str) -> str:
        return run([binary, f"--kubeconfig={apiserver}", f"--namespace={HOME}", *arguments], timeout=50).stdout

    yield call
    if "life" in call("list", "--short"):
        call("uninstall", "life")


@pytest.fixture(scope="module")
def release(helm: Tool) -> str:
    """Beside a definition that other tests may have applied before."""
    return helm("upgrade", "--install", "life", str(CHART), "--create-namespace", "--take-ownership", *QUIET)


@contextmanager
def as_account(apiserver: Path, folder: Path, account: str) -> Iterator[Path]:
    """A kubeconfig with nothing but the token of a ServiceAccount of the release's namespace."""
    kubectl = [toolchain.kubectl(Console()), f"--kubeconfig={apiserver}"]
    token = run([*kubectl, "create", "token", account, f"--namespace={HOME}"]).stdout.strip()
    config = json.loads(apiserver.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    file = folder / account
    file.write_text(json.dumps(config))
    yield file


@contextmanager
def operator(apiserver: Path, folder: Path, *options: str) -> Iterator[None]:
    """The operator as a process, with the rights that the release gives it."""
    with as_account(apiserver, folder, "life-operator") as kubeconfig, (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "nova_operator.main", f"--kubeconfig={kubeconfig}", "--metrics-port=0"]
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0, (folder / "log").read_text()


def taken_up(api: Api, namespace: str, name: str) -> Any:
    """The status, once it speaks of the current generation."""

    def written() -> Any:
        return api.conditions(namespace, name) and api.get(NOVA_SERVICE, namespace, name)["status"]

    return until(written, 40)


def selftest(helm: Tool, apiserver: Path, api: Api, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `helm test` runs in a pod, here as a process with that pod's arguments and rights."""
    hooks = [hook for hook in yaml.safe_load_all(helm("get", "hooks", "life")) if hook]
    for hook in hooks:
        if hook["kind"] != "Pod":
            path = {"ServiceAccount": "/api/v1", "Role": "/apis/rbac.authorization.k8s.io/v1"}
            root = path.get(hook["kind"], "/apis/rbac.authorization.k8s.io/v1")
            api.call("POST", f"{root}/namespaces/{HOME}/{hook['kind'].lower()}s", hook)
    (pod,) = (hook for hook in hooks if hook["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "nova_operator.selftest"]
    with as_account(apiserver, folder, pod["spec"]["serviceAccountName"]) as kubeconfig:
        command = [sys.executable, *container["command"][1:], *container["args"], f"--kubeconfig={kubeconfig}"]
        return subprocess.run([*command, "--within=40"], capture_output=True, text=True, timeout=55, check=False)


def test_the_release_tests_itself(helm: Tool, release: str, api: Api, apiserver: Path, tmp_path: Path) -> None:
    with operator(apiserver, tmp_path):
        done = selftest(helm, apiserver, api, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a service without a port is refused" in done.stdout
    assert "the operator has taken it up: Ready=" in done.stdout
    assert api.list(NOVA_SERVICE, HOME) == []


def test_without_an_operator_the_test_of_the_release_says_so(
    release: str, api: Api, apiserver: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "nova_operator.selftest", f"--namespace={HOME}", "--name=nobody", "--within=1"]
    done = subprocess.run(
        [*command, f"--kubeconfig={apiserver}"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "FAILED: the operator did not take the service up within 1 s: it has said nothing of it" in done.stdout
    assert api.find(NOVA_SERVICE, HOME, "nobody") is None


def test_the_pod_of_the_test_passes_restricted_pod_security(helm: Tool, release: str, api: Api) -> None:
    (pod,) = (hook for hook in yaml.safe_load_all(helm("get", "hooks", "life")) if hook and hook["kind"] == "Pod")
    pod["metadata"].pop("annotations")
    pod["spec"]["serviceAccountName"] = "default"
    with api.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        pod["metadata"]["namespace"] = namespace
        api.call("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)


def test_an_upgrade_brings_the_new_definition_and_keeps_services_and_their_status(
    helm: Tool, release: str, api: Api, apiserver: Path, tmp_path: Path
) -> None:
    """The previous release did not know a field, and its operator wrote a status."""
    older = tmp_path / "older"
    shutil.copytree(CHART, older)
    file = older / "charts" / "nova-crds" / "templates" / f"{schema.CRD_NAME}.yaml"
    definition = yaml.safe_load(file.read_text())
    del properties(definition)["resources"]
    file.write_text(block_yaml.dump(definition))
    helm("upgrade", "life", str(older), *QUIET)

    def knows() -> bool:
        return "resources" in properties(api.get(CRDS, None, schema.CRD_NAME))

    assert not knows()
    with api.namespace() as namespace:
        api.service(namespace, "shop")
        with operator(apiserver, tmp_path):
            taken_up(api, namespace, "shop")
        before = api.get(NOVA_SERVICE, namespace, "shop")["status"]
        helm("upgrade", "life", str(CHART), *QUIET)
        assert knows()
        assert api.get(NOVA_SERVICE, namespace, "shop")["status"] == before
        until(lambda: accepts_new_field(api, namespace), 20)


def properties(definition: Any) -> Any:
    """Of a spec."""
    served = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return served["properties"]["spec"]["properties"]


def accepts_new_field(api: Api, namespace: str) -> bool:
    """Whether the field arrives: the API server takes a moment to serve a new definition."""
    changed = api.change(namespace, "shop", resources={"requests": {"cpu": "10m"}})
    return "resources" in changed["spec"]


def test_an_uninstall_leaves_services_running_and_a_new_release_takes_them_over(
    helm: Tool, release: str, api: Api, apiserver: Path, tmp_path: Path
) -> None:
    with api.namespace() as namespace:
        api.service(namespace, "shop")
        with operator(apiserver, tmp_path):
            taken_up(api, namespace, "shop")
        kept = {kind: api.get(kind, namespace, "shop") for kind in (NOVA_SERVICE, DEPLOYMENT, SERVICE)}

        helm("uninstall", "life", "--wait")
        assert api.find(DEPLOYMENT, HOME, "life-operator") is None
        assert api.find(CONFIG_MAP, namespace, "shop-nova") is not None
        for kind, before in kept.items():
            assert api.get(kind, namespace, "shop")["metadata"]["uid"] == before["metadata"]["uid"]
        api.change(namespace, "shop", replicas=3)  # nobody forbids it, nobody acts on it

        helm("install", "life", str(CHART), "--take-ownership", *QUIET)
        with operator(apiserver, tmp_path):
            eventually(lambda: scaled(api, namespace), 40)
        assert api.get(DEPLOYMENT, namespace, "shop")["metadata"]["uid"] == kept[DEPLOYMENT]["metadata"]["uid"]


def scaled(api: Api, namespace: str) -> None:
    assert api.get(DEPLOYMENT, namespace, "shop")["spec"]["replicas"] == 3


def test_an_upgrade_of_the_operator_alone_changes_no_pod(
    helm: Tool, release: str, api: Api, apiserver: Path, tmp_path: Path
) -> None:
    """The pod template of a service knows the sidecar's image and nothing else of the release."""
    with api.namespace() as namespace:
        api.service(namespace, "shop")
        with operator(apiserver, tmp_path, "--sidecar-image=nova/sidecar:1"):
            taken_up(api, namespace, "shop")
        before = api.get(DEPLOYMENT, namespace, "shop")
        newer = ("--sidecar-image=nova/sidecar:1", "--sidecar-poll=7", "--workers=3", "--resync=99")
        with operator(apiserver, tmp_path, *newer):
            api.change(namespace, "shop", backpressure={"maxConcurrency": 77})  # so that it has surely looked
            until(lambda: "77" in json.dumps(api.get(CONFIG_MAP, namespace, "shop-nova")["data"]), 40)
            taken_up(api, namespace, "shop")
        after = api.get(DEPLOYMENT, namespace, "shop")
        assert after["spec"]["template"] == before["spec"]["template"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_network_policy_surrounds_the_operator_when_asked_for(helm: Tool, release: str, api: Api) -> None:
    helm("upgrade", "life", str(CHART), *QUIET, "--set=networkPolicy.enabled=true")
    policy = api.call("GET", f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies/life-operator")
    operator_pod = api.get(DEPLOYMENT, HOME, "life-operator")["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= operator_pod.items()
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {443, 6443, 15020, 53, 5353}

    helm("upgrade", "life", str(CHART), *QUIET)
    with pytest.raises(ApiError):
        api.call("GET", f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies/life-operator")
