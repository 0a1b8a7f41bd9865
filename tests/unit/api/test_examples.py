"""Every NovaService that is shown to users works: the examples, and those in the documentation."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService, NovaServiceSpec
from nova_cli.main import main

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.yaml"))
NOT_OF_HTTP = {"failureCodes", "grpcConnections", "idempotentPaths"}
"""Shown in grpc.yaml, and idempotentPaths at an upstream, where it belongs."""
QUEUE = {"acquireTimeout", "maxQueue"}
"""Only without early rejection, which the example has."""
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def services(example: Path) -> list[Any]:
    """The NovaServices of an example, which may bring along what they need."""
    return [document for document in yaml.safe_load_all(example.read_text()) if document["kind"] == "NovaService"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_resolves(example: Path) -> None:
    documents = services(example)
    assert documents
    for document in documents:
        assert resolve(convert(document, NovaService)).service == document["metadata"]["name"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_operator_makes_what_it_needs_of_it(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", str(example)]) == 0
    manifests = yaml.safe_load_all(capsys.readouterr().out)
    kinds = {manifest["kind"] for manifest in manifests}
    documents = list(yaml.safe_load_all(example.read_text()))
    made = any("workloadRef" not in service["spec"] for service in services(example))
    assert {"Service", "ConfigMap"} <= kinds
    assert ("Deployment" in kinds) is (made or "Deployment" in [document["kind"] for document in documents])


def test_there_is_an_example_of_every_protocol_and_every_field() -> None:
    """Whatever is added to the spec has to be shown; what is a pod's own business does not."""
    specs = [service["spec"] for path in EXAMPLES for service in services(path)]
    protocols = {port.get("protocol", "http") for spec in specs for port in spec["ports"]}
    assert protocols == {"http", "websocket", "grpc", "tcp"}
    assert {"http", "grpc", "tcp"} == {up.get("protocol", "http") for spec in specs for up in spec.get("upstreams", [])}
    fields = {field.encode_name for field in msgspec.structs.fields(NovaServiceSpec)}
    shown = {name for spec in specs for name in spec}
    assert fields - shown == {"imagePullPolicy", "command", "env", "livenessProbe"}


def test_the_example_of_policies_shows_each_field_of_each() -> None:
    spec = yaml.safe_load((REPOSITORY / "examples/policies.yaml").read_text())["spec"]
    for name in ("backpressure", "circuitBreaker", "pool", "retry", "selfProtection", "tracing", "accessLog"):
        policy = {field.encode_name: field.type for field in msgspec.structs.fields(NovaServiceSpec)}[name]
        fields = {field.encode_name for field in msgspec.structs.fields(policy)}
        assert set(spec[name]) <= fields
        missing = fields - set(spec[name]) - {"mode"}
        assert missing <= NOT_OF_HTTP | QUEUE, f"{name}: {missing}"


def test_the_minimal_example_has_ten_lines() -> None:
    assert len((REPOSITORY / "examples/minimal.yaml").read_text().splitlines()) == 10


def test_the_readmes_services_resolve() -> None:
    blocks = [yaml.safe_load(block) for block in BLOCK.findall((REPOSITORY / "README.md").read_text())]
    services = [block for block in blocks if isinstance(block, dict) and block.get("kind") == "NovaService"]
    assert services
    for service in services:
        assert resolve(convert(service, NovaService)).inbound
