"""`nova-operator` and `nova render` as people call them: what they take, and what they say of what is wrong."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_cli.main import main as nova
from nova_operator import options
from nova_operator.cluster import RefusedError
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE, POD
from nova_operator.kube import path_of

SERVICE = """\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: shop}
spec: {image: "registry.example/shop:1", ports: [{port: 8080}]}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: market}\n"


def test_the_defaults_serve_everything_alone() -> None:
    chosen = options.parse([])
    assert (chosen.namespaces, chosen.leader_election_namespace, chosen.metrics_port) == ((), None, 8080)
    assert chosen.sidecar_requests == {"cpu": "50m", "memory": "64Mi"}


def test_everything_can_be_said() -> None:
    line = (
        "--namespace a --namespace b --namespace a --sidecar-image x:1 --sidecar-pull-policy Never "
        "--sidecar-requests cpu=1,memory=1.5Gi --metrics-port 0 --log-level debug --leader-election-namespace nova "
        "--kubeconfig k --workers 3 --sidecar-poll 0.5 --resync 60 --watch-silence 20 "
        "--webhook-port 9443 --webhook-secret nova/hooks --webhook-name h.nova.svc --webhook-name h.nova.svc "
        "--webhook-configuration w --webhook-certificates given --webhook-certificate-lifetime 60 "
        "--webhook-certificate-poll 1 --injection-policy Fail --injection-poll 2"
    )
    assert options.parse(line.split()) == options.Options(
        namespaces=("a", "b"),
        sidecar_image="x:1",
        sidecar_pull_policy="Never",
        sidecar_requests={"cpu": "1", "memory": "1.5Gi"},
        metrics_port=0,
        log_level="debug",
        leader_election_namespace="nova",
        kubeconfig="k",
        workers=3,
        sidecar_poll=0.5,
        resync=60.0,
        watch_silence=20.0,
        webhook_port=9443,
        webhook_secret="nova/hooks",
        webhook_names=("h.nova.svc",),
        webhook_configuration="w",
        webhook_certificates="given",
        webhook_certificate_lifetime=60.0,
        webhook_certificate_poll=1.0,
        injection_policy="Fail",
        injection_poll=2.0,
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "--sidecar-requests gpu=1",
            "expected cpu=…, memory=… or ephemeral-storage=…, got 'gpu=1'",
        ),
        ("--sidecar-requests cpu=fast", "expected a quantity such as 50m or 64Mi after cpu=, got 'fast'"),
        ("--metrics-port 70000", "--metrics-port: expected a port from 0 to 65535, got '70000'"),
        ("--workers 0", "--workers: expected a number from 1 to 1000, got '0'"),
        ("--resync soon", "--resync: expected seconds from 0.05 to 86400, got 'soon'"),
        ("--webhook-secret hooks", "--webhook-secret: expected NAMESPACE/NAME, got 'hooks'"),
        ("--webhook-port 9443", "--webhook-port needs --webhook-secret and --webhook-name"),
        ("--webhook-certificate-lifetime 90d", "expected whole seconds from 10 to 315360000, got '90d'"),
        ("--log-level loud", "--log-level: invalid choice: 'loud'"),
    ],
)
def test_a_wrong_option_is_named_with_its_rule(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        options.parse(line.split())
    assert (end.value.code, says in capsys.readouterr().err) == (2, True)


def render(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[Any], str]:
    code = nova(["render", *arguments])
    printed = capsys.readouterr()
    return code, list(yaml.safe_load_all(printed.out)), printed.err


def test_render_prints_what_kubectl_can_apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SERVICE)
    code, manifests, errors = render(capsys, "-f", str(file), "-n", "market", "--sidecar-image", "mine:1")
    assert (code, errors) == (0, "")
    kinds = [manifest["kind"] for manifest in manifests]
    assert kinds == ["ServiceAccount", "ConfigMap", "Service", "Service", "Deployment"]
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"market"}
    assert all("ownerReferences" not in manifest["metadata"] for manifest in manifests)
    assert manifests[-1]["spec"]["template"]["spec"]["initContainers"][0]["image"] == "mine:1"


def test_render_tells_what_is_risky_beside_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SERVICE.replace("shop:1", "shop:latest"))
    code, manifests, errors = render(capsys, "-f", str(file))
    assert (code, len(manifests) > 3) == (0, True)
    assert errors.startswith(f"{file}: warning: image: ")


def test_render_takes_several_documents_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{NAMESPACE}---\n{SERVICE}---\n{SERVICE.replace('shop', 'stock')}"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, manifests, errors = render(capsys, "-f", "-", "--kubernetes", "1.28")
    assert (code, errors) == (0, "<stdin> (document 1): skipped, it is a Namespace\n")
    assert [m["metadata"]["name"] for m in manifests if m["kind"] == "Deployment"] == ["shop", "stock"]
    assert "initContainers" not in manifests[-1]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SERVICE.replace("port: 8080", "port: 0"), "{file}: $.spec.ports[0].port: expected int >= 1"),
        (SERVICE + "---\n" + SERVICE.replace("image:", "imagee:"), "{file} (document 2): $.spec: object"),
        (SERVICE.replace("port: 8080", "port: 80, appPort: 15020"), "{file}: $.spec.ports[0].appPort: expected a port"),
        ("a: b: c", "{file}: $: expected YAML in line 1, column 5 ("),
        ("\x07", "{file}: $: expected YAML ("),
        ("", "{file}: $: expected a NovaService, found none"),
        (NAMESPACE, "{file}: $: expected a NovaService, found none"),
        ("- 1\n- 2\n", "{file}: $: expected object, got array"),
        (SERVICE.replace("NovaService", "NovaServer"), "{file}: $.kind: "),
    ],
)
def test_render_names_the_file_the_field_and_the_rule(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    code, manifests, errors = render(capsys, "-f", str(file))
    assert (code, manifests) == (2, [])
    assert says.format(file=file) in errors
    assert "Traceback" not in errors


def test_render_says_which_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = render(capsys, "-f", str(tmp_path / "nowhere.yaml"))
    assert (code, "nowhere.yaml: expected a file that can be read: No such file" in errors) == (2, True)


def test_paths_are_those_of_the_api_server() -> None:
    assert path_of(POD, None) == "/api/v1/pods"
    assert path_of(POD, "market") == "/api/v1/namespaces/market/pods"
    assert path_of(DEPLOYMENT, "market", "shop") == "/apis/apps/v1/namespaces/market/deployments/shop"
    assert path_of(NOVA_SERVICE, "m", "s") == "/apis/nova.dev/v1alpha1/namespaces/m/novaservices/s"


@pytest.mark.parametrize(
    "name", ["..", ".", "../secrets/x", "x/status", "x?watch=true", "x#", "%2e%2e", "a b", "a\n", "x" * 254]
)
def test_a_name_leads_nowhere_else(name: str) -> None:
    for namespace, object_name in ((name, "shop"), ("market", name)):
        with pytest.raises(RefusedError):
            path_of(NOVA_SERVICE, namespace, object_name)
