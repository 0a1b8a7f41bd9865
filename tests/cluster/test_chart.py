"""The Helm charts against a real API server: what they render, install, upgrade, allow and leave behind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import block_yaml, schema
from nova_cli.chart import lint, template
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run, wait_until
from nova_cli.console import Console
from nova_cli.errors import CommandError

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "nova"
CRDS = REPOSITORY / "charts" / "nova-crds"
NAMESPACE = "nova-system"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:nova-operator"

Tool = Callable[..., str]
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def helm_binary(apiserver: Path) -> Path:
    """Helm; it is compiled together with the API server, so that one is asked for first."""
    return toolchain.helm(Console())


@pytest.fixture(scope="module")
def helm(apiserver: Path, helm_binary: Path) -> Tool:
    def call(*arguments: str) -> str:
        target = [f"--kubeconfig={apiserver}", f"--namespace={NAMESPACE}"]
        return run([helm_binary, *target, *arguments], timeout=50).stdout

    return call


@pytest.fixture(scope="module")
def kubectl(apiserver: Path) -> Tool:
    program = toolchain.kubectl(Console())

    def call(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
        done = run([program, f"--kubeconfig={apiserver}", *arguments], stdin=stdin, timeout=30, check=check)
        return done.stdout + done.stderr

    return call


@pytest.fixture(scope="module")
def namespace(kubectl: Tool) -> Iterator[None]:
    """A namespace that warns of every pod that would break Pod Security *restricted*."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/warn=restricted")
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def installed(helm: Tool, namespace: None) -> Iterator[None]:
    """The chart as a release, next to a definition that other tests may have applied before."""
    helm("upgrade", "--install", "nova", str(CHART), "--take-ownership")
    yield
    if "nova" in helm("list", "--short"):
        helm("uninstall", "nova")


def rendered(helm_binary: Path, *options: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(template(helm_binary, CHART, *options)) if document]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


@pytest.mark.parametrize("chart", [CHART, CRDS], ids=["nova", "nova-crds"])
def test_helm_finds_nothing_to_complain_of(helm_binary: Path, chart: Path) -> None:
    lint(helm_binary, chart)


def test_the_definition_is_the_generated_one_and_may_be_left_out(helm_binary: Path) -> None:
    definition = one(rendered(helm_binary), "CustomResourceDefinition")
    assert definition["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert definition == schema.crd()
    kinds = {manifest["kind"] for manifest in rendered(helm_binary, "--set=crds.install=false")}
    assert "Deployment" in kinds
    assert "CustomResourceDefinition" not in kinds


def test_the_operator_runs_without_privileges(helm_binary: Path) -> None:
    pod = one(rendered(helm_binary), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "128Mi"}


def test_values_reach_the_operators_command_line(helm_binary: Path) -> None:
    options = ["operator.image.tag=dev", "sidecar.image.tag=dev", "sidecar.requests.cpu=10m", "operator.workers=4"]
    deployment = one(rendered(helm_binary, *(f"--set={option}" for option in options)), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nova/operator:dev"
    assert {
        "--sidecar-image=nova/sidecar:dev",
        "--sidecar-requests=cpu=10m,memory=64Mi",
        "--workers=4",
        f"--leader-election-namespace={NAMESPACE}",
    } <= set(container["args"])


def test_the_operator_understands_the_command_line_it_gets(helm_binary: Path) -> None:
    from nova_operator.options import parse  # noqa: PLC0415 - only this test needs the operator

    deployment = one(rendered(helm_binary, "--set=operator.namespaces={shop,stock}"), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options = parse(container["args"])
    assert options.namespaces == ("shop", "stock")
    assert options.sidecar_image == "nova/sidecar:0.1.0"
    assert options.leader_election_namespace == NAMESPACE


def test_chosen_namespaces_need_no_cluster_role(helm_binary: Path) -> None:
    options = ("--set=operator.namespaces={shop,stock}", "--set=rbac.aggregate=false", "--set=webhooks.enabled=false")
    manifests = rendered(helm_binary, *options)
    roles = [(m["kind"], m["metadata"]["namespace"]) for m in manifests if m["kind"] in {"Role", "RoleBinding"}]
    assert ("Role", "shop") in roles
    assert ("RoleBinding", "stock") in roles
    assert not [m for m in manifests if m["kind"].startswith("ClusterRole")]


def test_one_replica_has_no_disruption_budget(helm_binary: Path) -> None:
    """It would block every node drain."""
    assert one(rendered(helm_binary), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    kinds = {manifest["kind"] for manifest in rendered(helm_binary, "--set=operator.replicas=1")}
    assert "PodDisruptionBudget" not in kinds


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("operator.replica=3", "replica"),
        ("operator.replicas=many", "replicas"),
        ("sidecar.image.pullPolicy=Sometimes", "pullPolicy"),
        ("operator.logLevel=loud", "logLevel"),
        ("sidecar.requests.cpu=fast", "cpu"),
        ("operators.replicas=1", "operators"),
        ("webhooks.injection.failurePolicy=Maybe", "failurePolicy"),
        ("webhooks.timeoutSeconds=60", "timeoutSeconds"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm_binary: Path, option: str, complaint: str) -> None:
    with pytest.raises(CommandError, match="(?s)values don't meet the specifications.*" + complaint):
        template(helm_binary, CHART, f"--set={option}")


def test_a_server_takes_every_object_without_a_warning(helm_binary: Path, kubectl: Tool, namespace: None) -> None:
    """Server-side dry run: field names, admission and Pod Security as in any cluster."""
    text = template(helm_binary, CHART, "--no-hooks")
    said = kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-", stdin=text
    )
    assert "Warning" not in said
    assert said.count("serverside-applied (server dry run)") == len(rendered(helm_binary, "--no-hooks"))


def may(kubectl: Tool, user: str, verb: str, resource: str, namespace: str) -> bool:
    """Ask the API server whether a user may do it; a part of a resource stands after a slash."""
    name, _, part = resource.partition("/")
    asked = ["auth", "can-i", verb, name, f"--subresource={part}", f"--as={user}", f"--namespace={namespace}"]
    answer = set(kubectl(*asked, check=False).split()) & {"yes", "no"}
    assert len(answer) == 1
    return answer == {"yes"}


MAY = [
    ("list", "novaservices.nova.dev"),
    ("watch", "novaservices.nova.dev"),
    ("patch", "novaservices.nova.dev"),
    ("patch", "novaservices.nova.dev/status"),
    ("update", "novaservices.nova.dev/finalizers"),
    ("create", "deployments.apps"),
    ("patch", "services"),
    ("delete", "configmaps"),
    ("create", "serviceaccounts"),
    ("patch", "poddisruptionbudgets.policy"),
    ("patch", "pods"),
    ("create", "pods/eviction"),
    ("create", "events.events.k8s.io"),
]
MAY_NOT = [
    ("get", "secrets"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("delete", "pods"),
    ("update", "novaservices.nova.dev"),
    ("delete", "novaservices.nova.dev"),
    ("create", "serviceaccounts/token"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("create", "leases.coordination.k8s.io"),
    ("get", "nodes"),
    ("patch", "namespaces"),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
    ("create", "validatingwebhookconfigurations.admissionregistration.k8s.io"),
]


@pytest.mark.parametrize(("verb", "resource"), MAY)
def test_the_operator_may_do_what_it_must(kubectl: Tool, installed: None, verb: str, resource: str) -> None:
    assert wait_until(lambda: may(kubectl, OPERATOR, verb, resource, "default"), 10)  # the authorizer hears of it


@pytest.mark.parametrize(("verb", "resource"), MAY_NOT)
def test_the_operator_may_do_no_more(kubectl: Tool, installed: None, verb: str, resource: str) -> None:
    assert not may(kubectl, OPERATOR, verb, resource, "default")


def test_the_lease_is_kept_in_the_operators_namespace(kubectl: Tool, installed: None) -> None:
    for verb in ("get", "create", "update"):
        assert may(kubectl, OPERATOR, verb, "leases.coordination.k8s.io", NAMESPACE)


@pytest.fixture
def operator(apiserver: Path, kubectl: Tool, installed: None, tmp_path: Path) -> Iterator[Path]:
    """The operator as a process, under the identity that the chart gives it; its log."""
    config = json.loads(kubectl("config", "view", "--raw", "--output=json"))
    token = kubectl("create", "token", "nova-operator", f"--namespace={NAMESPACE}").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    options = [f"--kubeconfig={tmp_path}/kubeconfig", f"--leader-election-namespace={NAMESPACE}", "--metrics-port=0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "nova_operator.main", *options], stdout=log, stderr=log)
    try:
        yield tmp_path / "log"
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_the_operator_works_with_what_it_may_do(operator: Path, kubectl: Tool) -> None:
    """No call is refused: it makes the objects, writes the status and the events, and puts drift back."""

    def ready_reason() -> str:
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
        return kubectl("get", "nsvc/hello", f"--output={path}", f"--namespace={NAMESPACE}")

    kubectl("apply", "--filename", str(REPOSITORY / "examples/minimal.yaml"), f"--namespace={NAMESPACE}")
    assert wait_until(lambda: ready_reason() != "", 20), operator.read_text()
    made = kubectl(
        "get", "deployment,service,configmap,serviceaccount,pdb", "--output=name", f"--namespace={NAMESPACE}"
    )
    assert {"deployment.apps/hello", "service/hello", "configmap/hello-nova", "serviceaccount/hello"} <= set(
        made.splitlines()
    )
    assert "poddisruptionbudget.policy/hello" in made

    kubectl("delete", "service/hello", f"--namespace={NAMESPACE}")
    found = ["get", "service/hello", "--output=name", f"--namespace={NAMESPACE}"]
    assert wait_until(lambda: "service/hello" in kubectl(*found, check=False), 20), operator.read_text()
    events = ["get", "events.events.k8s.io", "--field-selector=regarding.name=hello", f"--namespace={NAMESPACE}"]
    assert wait_until(lambda: "novaservice/hello" in kubectl(*events), 20), operator.read_text()
    assert "orbidden" not in operator.read_text()


def test_who_may_edit_a_namespace_may_edit_its_novaservices(kubectl: Tool, installed: None) -> None:
    kubectl("create", "rolebinding", "jane", "--clusterrole=edit", "--user=jane", f"--namespace={NAMESPACE}")
    kubectl("create", "rolebinding", "vic", "--clusterrole=view", "--user=vic", f"--namespace={NAMESPACE}")

    kind = "novaservices.nova.dev"
    assert wait_until(lambda: may(kubectl, "jane", "create", kind, NAMESPACE), 10)
    assert wait_until(lambda: may(kubectl, "vic", "list", kind, NAMESPACE), 10)
    assert not may(kubectl, "vic", "create", kind, NAMESPACE)


def test_an_upgrade_upgrades_the_definition_and_an_uninstall_keeps_it(
    helm: Tool, kubectl: Tool, installed: None, tmp_path: Path
) -> None:
    """Helm alone installs what is in crds/ once and never again (helm/community#396)."""

    def short_names() -> list[str]:
        definition = json.loads(kubectl("get", "crd", schema.CRD_NAME, "-o", "json"))
        return list(definition["spec"]["names"].get("shortNames", []))

    older = tmp_path / "nova"
    shutil.copytree(CHART, older)
    file = older / "charts" / "nova-crds" / "templates" / f"{schema.CRD_NAME}.yaml"
    before = yaml.safe_load(file.read_text())
    del before["spec"]["names"]["shortNames"]
    file.write_text(block_yaml.dump(before))
    helm("upgrade", "nova", str(older))
    assert short_names() == []

    helm("upgrade", "nova", str(CHART))
    assert short_names() == ["nsvc"]

    helm("uninstall", "nova")
    assert short_names() == ["nsvc"]
    assert "NotFound" in kubectl("get", "deployment", "nova-operator", f"--namespace={NAMESPACE}", check=False)
