"""The webhooks with certificates of cert-manager's: it runs beside the API server, the chart is a release that asks for
it, and the operator has the arguments and the rights which that release gives it.

No kube-proxy leads to Services here. So the chart's Service becomes another name of this machine (ExternalName): the
API server goes there, and verifies the certificate by the Service's name as it does everywhere.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from nova_cli.cluster import toolchain
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.errors import CommandError
from nova_operator.admission.certificates import Pair, read
from nova_operator.kinds import MUTATING_WEBHOOKS, NOVA_SERVICE, SECRET, SERVICE, VALIDATING_WEBHOOKS
from nova_operator.kube import path_of
from tests.cluster.api import REPOSITORY, Api, ApiError, Object, until
from tests.cluster.cert_manager.program import CERTIFICATE, folder, running
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.operator_process import running as running_operator
from tests.cluster.test_admission_chart import as_operator
from tests.cluster.webhooks import HOST, calls, free_port

pytestmark = pytest.mark.timeout(1500)  # the first time, cert-manager is compiled
RELEASE = "certified"
NAME = "certified-operator-webhooks"
KINDS = (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)


class Release:
    """The chart in a namespace of its own, serving another one."""

    def __init__(self, api: Api, kubeconfig: Path, home: str, served: str, directory: Path) -> None:
        self.api = api
        self.home = home
        self.served = served
        self.port = free_port()
        self.host = f"{NAME}.{home}.svc"
        self._helm = [toolchain.helm(Console()), f"--kubeconfig={kubeconfig}", f"--namespace={home}"]
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._operators = 0

    def upgrade(self, *, cert_manager: bool) -> None:
        """Install it, or change whose certificates it has. NovaServices are refused where no operator answers."""
        chosen = [
            f"operator.namespaces={{{self.served}}}",
            "crds.install=false",
            "rbac.aggregate=false",
            "webhooks.validation.failurePolicy=Fail",
            f"webhooks.certManager.enabled={json.dumps(cert_manager)}",
        ]
        values = [f"--set={value}" for value in chosen]
        self.helm("upgrade", "--install", RELEASE, str(REPOSITORY / "charts" / "nova"), *values)

    def helm(self, *arguments: str) -> str:
        """What Helm says of the release."""
        return run([*self._helm, *arguments], timeout=50).stdout

    def lead_here(self) -> None:
        """Let the Service lead to this machine, and its callers to the operator's port."""
        away = {"type": "ExternalName", "externalName": "localhost", "clusterIP": None, "clusterIPs": None}
        self.api.patch(SERVICE, self.home, NAME, {"spec": away})
        port = [{"op": "add", "path": "/webhooks/0/clientConfig/service/port", "value": self.port}]
        for kind in KINDS:
            self.api.call("PATCH", path_of(kind, None, NAME), port, "application/json-patch+json")

    @contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """An operator as the release's Deployment starts it, but for ports and how often it looks."""
        self._operators += 1
        manifests = [one for one in yaml.safe_load_all(self.helm("get", "manifest", RELEASE)) if one]
        (pod,) = (one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "Deployment")
        given = [one for one in pod["containers"][0]["args"] if not one.startswith("--metrics-port")]
        kubeconfig, log = (self._directory / f"{self._operators}.{name}" for name in ("kubeconfig", "log"))
        kubeconfig.write_text(json.dumps(as_operator(self.api, self._kubeconfig, self.home, RELEASE)))
        ours = [f"--webhook-port={self.port}", "--webhook-certificate-poll=0.2"]
        with running_operator(kubeconfig, log, *given, *ours) as one:
            yield one

    def pair(self) -> Pair | None:
        """The certificate in the Secret, if there is one."""
        return read(self.api.find(SECRET, self.home, NAME) or {}).current

    def bundles(self) -> set[bytes]:
        """The authorities that the configurations name."""
        hooks = [hook for kind in KINDS for hook in self.api.get(kind, None, NAME)["webhooks"]]
        return {base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks}

    def review(self, **spec: object) -> None:
        """Have the API server ask the operator about a service, and nothing stored. Raises ApiError."""
        body = {"image": "registry.example/app:1", "ports": [{"port": 8080}], **spec}
        document = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "spec": body}
        document["metadata"] = {"name": "asked"}
        self.api.call("POST", path_of(NOVA_SERVICE, self.served) + "?dryRun=All", document)

    def shown(self) -> str:
        """The certificate that the operator shows, PEM, to a client that trusts what the configurations name, knows the
        Service's name, and takes nothing that RFC 5280 forbids."""
        (bundle,) = self.bundles()
        context = ssl.create_default_context(cadata=bundle.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with (
            socket.create_connection((HOST, self.port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=self.host) as tls,
        ):
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


@pytest.fixture(scope="module")
def cert_manager(api: Api, apiserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    try:
        home = folder(Console())
    except CommandError as error:
        pytest.skip(f"no cert-manager: {error}")
    with running(home, api, apiserver, tmp_path_factory.mktemp("cert-manager") / "log"):
        yield


@pytest.fixture(scope="module")
def release(
    api: Api, apiserver: Path, namespace: str, cert_manager: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    with api.namespace() as served:
        one = Release(api, apiserver, namespace, served, tmp_path_factory.mktemp("release"))
        one.upgrade(cert_manager=True)
        one.lead_here()
        yield one
        one.helm("uninstall", RELEASE)


def test_the_certificate_names_the_service_and_both_configurations_name_its_authority(release: Release) -> None:
    pair = until(release.pair)
    certificate, authority = map(x509.load_pem_x509_certificate, (pair.certificate, pair.authority))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [release.host]
    certificate.verify_directly_issued_by(authority)
    until(lambda: release.bundles() == {pair.authority})


def test_the_api_server_asks_by_the_services_name(release: Release) -> None:
    with release.operator() as operator:
        assert release.shown().encode() in until(release.pair).certificate
        release.review()
        with pytest.raises(ApiError, match="expected another port than 8080, on which the app listens"):
            release.review(upstreams=[{"name": "auth", "host": "auth", "port": 8080}])
        assert operator.metric("nova_operator_admission_requests_total") == 2
        assert "orbidden" not in operator.log.read_text()


def ask_anew(release: Release) -> None:
    """As `cmctl renew` does: https://cert-manager.io/docs/reference/cmctl/#renew"""
    status = release.api.get(CERTIFICATE, release.home, NAME)["status"]
    asked: Object = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test"}
    asked["lastTransitionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    change = {"status": {"conditions": [*status["conditions"], asked]}}
    release.api.patch(CERTIFICATE, release.home, NAME, change, subresource="status")


def delete_secret(release: Release) -> None:
    release.api.delete(SECRET, release.home, NAME)


@pytest.mark.parametrize("renew", [ask_anew, delete_secret])
def test_a_renewal_is_used_at_once_and_loses_no_call(release: Release, renew: Callable[[Release], None]) -> None:
    with release.operator() as operator, calls(release.review) as said:
        before = until(release.pair)
        renew(release)
        until(lambda: release.pair() not in {None, before})
        after = until(release.pair)
        until(lambda: release.shown().encode() in after.certificate)
        heard = len(said)
        until(lambda: len(said) > heard + 5)
        assert set(said) == {""}
        assert after.key != before.key
        assert len([line for line in operator.lines() if line["event"] == "webhook certificate in use"]) == 2


def test_a_release_goes_over_to_the_operators_own_certificates_and_back(release: Release) -> None:
    release.upgrade(cert_manager=False)
    left = until(release.pair)
    with release.operator() as operator:
        until(lambda: answers(release))
        assert release.pair() == left
        assert "orbidden" not in operator.log.read_text()
    empty = {"data": dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), "")}
    release.api.patch(SECRET, release.home, NAME, empty)
    with release.operator():
        until(lambda: answers(release))
        made = release.pair()
        assert made not in {None, left}
    release.upgrade(cert_manager=True)
    with release.operator():
        until(lambda: release.pair() not in {None, made} and answers(release))
        until(lambda: release.shown().encode() in until(release.pair).certificate)


def answers(release: Release) -> bool:
    try:
        release.review()
    except ApiError:
        return False
    return True
