"""`nova render` and `nova dev` with a pod template and with somebody else's Deployment."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import names
from nova_cli.devfile import load
from nova_cli.main import main as nova

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def render(capsys: pytest.CaptureFixture[str], file: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the manifests by kind, and what was said beside them."""
    code = nova(["render", "-f", str(file)])
    said = capsys.readouterr()
    return code, {one["kind"]: one for one in yaml.safe_load_all(said.out) if one}, said.err


def write(path: Path, *documents: Any) -> Path:
    path.write_text(yaml.safe_dump_all(documents))
    return path


def documents(example: str) -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / example).read_text()))


def containers(deployment: Any) -> list[str]:
    pod = deployment["spec"]["template"]["spec"]
    return [one["name"] for one in (*pod["initContainers"], *pod["containers"])]


def test_a_template_is_shown_with_its_sidecar(capsys: pytest.CaptureFixture[str]) -> None:
    code, manifests, errors = render(capsys, EXAMPLES / "template.yaml")
    assert (code, containers(manifests["Deployment"])) == (0, [names.SIDECAR_CONTAINER, "migrate", "reports", "fonts"])
    assert "template" not in errors


def test_a_deployment_in_the_same_file_is_shown_with_the_sidecar(capsys: pytest.CaptureFixture[str]) -> None:
    code, manifests, errors = render(capsys, EXAMPLES / "adopt.yaml")
    assert (code, containers(manifests["Deployment"])) == (0, [names.SIDECAR_CONTAINER, "billing"])
    assert manifests["Deployment"]["spec"]["replicas"] == 3
    assert "skipped" not in errors


def test_a_deployment_that_is_elsewhere_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, deployment = documents("adopt.yaml")
    deployment["metadata"]["namespace"] = "other"
    code, manifests, errors = render(capsys, write(tmp_path / "f.yaml", service, deployment))
    assert (code, "Deployment" in manifests) == (0, False)
    assert "Deployment/billing is not in the file" in errors


def test_injection_is_said_to_happen_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, deployment = documents("adopt.yaml")
    service["spec"]["workloadRef"]["mode"] = "Inject"
    code, manifests, errors = render(capsys, write(tmp_path / "f.yaml", service, deployment))
    assert (code, "Deployment" in manifests) == (0, False)
    assert "pods with the label nova.dev/inject: billing-nova get the sidecar" in errors


def test_what_cannot_have_a_sidecar_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, deployment = documents("adopt.yaml")
    deployment["spec"]["template"]["spec"]["hostNetwork"] = True
    code, manifests, errors = render(capsys, write(tmp_path / "f.yaml", service, deployment))
    assert (code, manifests) == (2, {})
    assert "Deployment/billing $.spec.template.spec.hostNetwork: expected a network of its own" in errors


def test_what_works_worse_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, deployment = documents("adopt.yaml")
    deployment["spec"]["template"]["spec"]["dnsPolicy"] = "Default"
    code, manifests, errors = render(capsys, write(tmp_path / "f.yaml", service, deployment))
    assert (code, "Deployment" in manifests) == (0, True)
    assert "warning: Deployment/billing spec.template.spec.dnsPolicy Default" in errors


@pytest.mark.parametrize("example", ["template.yaml", "adopt.yaml", "inject.yaml"])
def test_nova_dev_needs_no_image_since_it_runs_the_command_it_is_given(example: str, tmp_path: Path) -> None:
    found = documents(example)
    found[0]["spec"]["ports"][0] |= {"port": 18080, "appPort": 8080}
    config = load(write(tmp_path / "f.yaml", *found), None, {}).config
    assert config.inbound[0].app.port == 8080
