"""The chart's webhooks: what it renders for each choice, and that the operator gets on with what it may do."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import names
from nova_cli.chart import template
from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_operator.admission.certificates import bundle, read
from nova_operator.admission.replica import PATHS
from nova_operator.kinds import MUTATING_WEBHOOKS, SECRET, VALIDATING_WEBHOOKS
from nova_operator.options import parse
from tests.cluster.api import REPOSITORY, Api, until
from tests.cluster.operator_process import running

CHART = REPOSITORY / "charts" / "nova"
RELEASE = "hooked"
NAME = "hooked-operator-webhooks"

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def helm_binary(apiserver: Path) -> Path:
    """Helm; it is compiled together with the API server, so that one is asked for first."""
    return toolchain.helm(Console())


def rendered(helm_binary: Path, *options: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(template(helm_binary, CHART, *options)) if document]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def specs(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == kind}


def test_the_configurations_ask_only_about_what_concerns_nova(helm_binary: Path) -> None:
    manifests = rendered(helm_binary)
    (services,) = one(manifests, "ValidatingWebhookConfiguration")["webhooks"]
    (pods,) = one(manifests, "MutatingWebhookConfiguration")["webhooks"]
    assert [hook["clientConfig"]["service"]["path"] for hook in (services, pods)] == list(PATHS)
    assert [hook["failurePolicy"] for hook in (services, pods)] == ["Ignore", "Ignore"]
    assert services["rules"][0]["operations"] == ["CREATE", "UPDATE"]
    assert services["rules"][0]["resources"] == ["novaservices"]
    assert pods["objectSelector"] == {"matchExpressions": [{"key": names.LABEL_INJECT, "operator": "Exists"}]}
    (excluded,) = pods["namespaceSelector"]["matchExpressions"]
    assert excluded["values"] == ["kube-system", "nova-system"]


def test_the_failure_policy_is_the_operators_answer_as_well(helm_binary: Path) -> None:
    manifests = rendered(helm_binary, "--set=webhooks.injection.failurePolicy=Fail")
    (pods,) = one(manifests, "MutatingWebhookConfiguration")["webhooks"]
    options = parse(one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"])
    assert (pods["failurePolicy"], options.injection_policy) == ("Fail", "Fail")
    assert options.webhook_secret == "nova-system/nova-operator-webhooks"
    assert options.webhook_names == ("nova-operator-webhooks.nova-system.svc",)


def test_chosen_namespaces_are_all_that_is_asked_about(helm_binary: Path) -> None:
    manifests = rendered(helm_binary, "--set=operator.namespaces={shop,stock}")
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        (hook,) = one(manifests, kind)["webhooks"]
        chosen = [one["values"] for one in hook["namespaceSelector"]["matchExpressions"] if one["operator"] == "In"]
        assert chosen == [["shop", "stock"]]


def test_with_cert_manager_the_operator_may_only_read(helm_binary: Path) -> None:
    manifests = rendered(helm_binary, "--set=webhooks.certManager.enabled=true")
    certificate = specs(manifests, "Certificate")["nova-operator-webhooks"]
    assert certificate["dnsNames"] == ["nova-operator-webhooks.nova-system.svc"]
    roles = [m for m in manifests if m["metadata"]["name"] == certificate["secretName"] and m["kind"].endswith("Role")]
    assert [(role["kind"], role["rules"][0]["verbs"]) for role in roles] == [("Role", ["get"])]
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    injected = one(manifests, "MutatingWebhookConfiguration")["metadata"]["annotations"]
    assert injected == {"cert-manager.io/inject-ca-from": f"nova-system/{certificate['secretName']}"}


def test_cert_managers_authority_outlives_what_it_signs_and_keeps_its_key(helm_binary: Path) -> None:
    manifests = rendered(helm_binary, "--set=webhooks.certManager.enabled=true")
    certificates, issuers = specs(manifests, "Certificate"), specs(manifests, "Issuer")
    certificate, authority = certificates["nova-operator-webhooks"], certificates["nova-operator-webhooks-authority"]
    assert issuers[certificate["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    assert (authority["isCA"], authority["privateKey"]["rotationPolicy"]) == (True, "Never")
    assert "duration" not in certificate
    assert authority["duration"] == "87600h"


def test_with_an_issuer_of_ones_own_the_chart_makes_none(helm_binary: Path) -> None:
    issuer = ["certManager.enabled=true", "certManager.issuerRef.name=ca", "certManager.issuerRef.kind=ClusterIssuer"]
    manifests = rendered(helm_binary, *(f"--set=webhooks.{option}" for option in issuer))
    assert one(manifests, "Certificate")["spec"]["issuerRef"] == {"name": "ca", "kind": "ClusterIssuer"}
    assert "Issuer" not in {manifest["kind"] for manifest in manifests}


@pytest.fixture(scope="module")
def installed(apiserver: Path, helm_binary: Path, namespace: str) -> Iterator[Callable[[], None]]:
    """The chart as a release in the module's namespace; call it to upgrade."""

    def helm(*arguments: str) -> None:
        run([helm_binary, f"--kubeconfig={apiserver}", f"--namespace={namespace}", *arguments], timeout=50)

    def upgrade() -> None:
        chosen = (
            f"--set=operator.namespaces={{{namespace}}}",
            "--set=rbac.aggregate=false",
            "--set=crds.install=false",
        )
        helm("upgrade", "--install", RELEASE, str(CHART), *chosen)

    upgrade()
    yield upgrade
    helm("uninstall", RELEASE)


def test_what_the_operator_may_do_is_enough_and_an_upgrade_keeps_the_certificate(
    api: Api, apiserver: Path, namespace: str, installed: Callable[[], None], tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(as_operator(api, apiserver, namespace, RELEASE)))
    options = [
        f"--namespace={namespace}",
        f"--leader-election-namespace={namespace}",
        "--webhook-port=0",
        f"--webhook-secret={namespace}/{NAME}",
        f"--webhook-name={NAME}.{namespace}.svc",
        f"--webhook-configuration={NAME}",
        "--webhook-certificate-lifetime=60",
    ]
    with running(kubeconfig, tmp_path / "log", *options) as operator:
        until(lambda: told(api) == {made(api, namespace)})
        assert made(api, namespace)
        before = api.get(SECRET, namespace, NAME)["data"]
        installed()
        assert api.get(SECRET, namespace, NAME)["data"] == before
        assert told(api) == {made(api, namespace)}
        assert "orbidden" not in operator.log.read_text()


def as_operator(api: Api, kubeconfig: Path, namespace: str, release: str) -> Manifest:
    """The kubeconfig with the identity of a release's operator."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{release}-operator/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    config: Manifest = json.loads(kubeconfig.read_text())
    token = api.call("POST", path, asked)["status"]["token"]
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    return config


def made(api: Api, namespace: str) -> bytes:
    return bundle(read(api.get(SECRET, namespace, NAME)))


def told(api: Api) -> set[bytes]:
    hooks = [
        hook for kind in (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS) for hook in api.get(kind, None, NAME)["webhooks"]
    ]
    return {base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks}
