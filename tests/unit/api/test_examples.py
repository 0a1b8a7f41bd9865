"""Every NovaService that is shown to users works: the examples, and those in the documentation."""

import re
from pathlib import Path

import pytest
import yaml

from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_resolves(example: Path) -> None:
    documents = list(yaml.safe_load_all(example.read_text()))
    assert documents
    for document in documents:
        assert resolve(convert(document, NovaService)).service == document["metadata"]["name"]


def test_there_are_examples() -> None:
    assert {"minimal.yaml", "catalog.yaml", "storefront.yaml"} <= {path.name for path in EXAMPLES}


def test_the_minimal_example_has_ten_lines() -> None:
    assert len((REPOSITORY / "examples/minimal.yaml").read_text().splitlines()) == 10


def test_the_readmes_services_resolve() -> None:
    blocks = [yaml.safe_load(block) for block in BLOCK.findall((REPOSITORY / "README.md").read_text())]
    services = [block for block in blocks if isinstance(block, dict) and block.get("kind") == "NovaService"]
    assert services
    for service in services:
        assert resolve(convert(service, NovaService)).inbound
