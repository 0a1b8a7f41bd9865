"""What docs/rate-limits.md and docs/tenancy.md show: the examples are in force as written, and the names exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api.model import builtins, convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_sidecar.policy.rate_limit import Charge, Limit, Standing, fields
from tests.documents import with_spec

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("rate-limits", "tenancy")}
EXAMPLES = [
    block for text in PAGES.values() for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
]


def holds(part: Any, whole: Any) -> bool:
    """Whether everything written in the example is in force."""
    if isinstance(part, dict):
        return all(holds(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(holds, part, whole))
    return bool(part == whole)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_in_force_as_written(example: str) -> None:
    written = yaml.safe_load(example)
    config = resolve(convert(with_spec(**written), NovaService))
    written.pop("redis", None)
    assert written
    assert holds(written, builtins(config))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


def test_the_fields_that_are_shown_are_those_that_are_sent() -> None:
    service = convert(with_spec(**yaml.safe_load(EXAMPLES[0])), NovaService)
    clients, login = (Limit(each, 1) for each in service.spec.rate_limit.limits)
    standings = [Standing(clients, 90, 10**9, 0), Standing(login, 3, 24 * 10**9, 0)]
    sent = fields([Charge(clients, b"a"), Charge(login, b"b")], standings).decode().split("\r\n")[:-1]
    shown = re.findall(r"^```http\n(.*?)^```$", PAGES["rate-limits"], re.MULTILINE | re.DOTALL)[0].splitlines()
    assert [line.lower() for line in shown] == sent
