"""The services shown in docs/exposure.md and docs/scaling.md work, and the pages say what the code does."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from nova_api import names
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.autoscaler import DEFAULT_CPU, METRIC, autoscaling_warnings
from nova_operator.desired.defaults import Platform
from tests.unit.test_operator_desired import DEFAULTS

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("exposure", "scaling")}
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = [(page, yaml.safe_load(block)) for page, text in PAGES.items() for block in BLOCK.findall(text)]
EVERYTHING = msgspec.structs.replace(DEFAULTS, platform=Platform(http_routes=True, pod_monitors=True))


@pytest.mark.parametrize(("page", "document"), SHOWN, ids=[f"{page}-{one['metadata']['name']}" for page, one in SHOWN])
def test_a_shown_service_works_and_nothing_of_it_is_without_effect(page: str, document: dict[str, object]) -> None:
    service = convert(document, NovaService)
    kinds = {manifest["kind"] for manifest in desired_state(service, EVERYTHING)}
    assert {"Deployment", "Service", "PodMonitor"} <= kinds
    assert not list(autoscaling_warnings(service))


def test_the_pages_have_the_numbers_of_the_code() -> None:
    assert f"the status port {names.STATUS_PORT}" in PAGES["exposure"]
    assert f"{names.inbound_port(0)} for the first port, {names.inbound_port(1)} for the second" in PAGES["exposure"]
    assert f"cpu: {DEFAULT_CPU}" in PAGES["scaling"]
    assert f"`{METRIC}`" in PAGES["scaling"]
