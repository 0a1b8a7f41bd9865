"""What the pages of request policies say of fields: the examples are whole policies, and are in force when resolved."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.proxy import encode
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from tests.documents import MINIMAL

DOCS = Path(__file__).resolve().parents[3] / "docs"
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (page, block)
    for page in ("idempotency", "pool-guard")
    for block in BLOCK.findall((DOCS / f"{page}.md").read_text())
]


def service(**fields: Any) -> NovaService:
    return convert({**MINIMAL, "spec": {**MINIMAL["spec"], **fields}}, NovaService)


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_an_example_is_in_force(page: str, example: str) -> None:
    fields = yaml.safe_load(example)
    assert fields
    said = json.loads(encode(resolve(service(**fields))))
    redis = fields.pop("redis", None)
    assert redis is None or said["store"]["url"] == redis["url"]
    for name, policy in fields.items():
        assert policy.items() <= said[name].items()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"keepFor": "59s"}, "keepFor must be at least 1m"),
        ({"methods": []}, "length >= 1"),
        ({"methods": ["GET"]}, "GET"),
        ({"maxResponseBytes": 1_048_577}, "<= 1048576"),
        ({"identityHeaders": ["Authorization"]}, "the name of a header in lower case"),
        ({"requiredPaths": ["payments"]}, "expected a path that begins with /"),
        ({"onStoreLoss": "Ignore"}, "Ignore"),
    ],
)
def test_an_idempotency_that_cannot_be_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        service(idempotency=policy)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"lifetime": "1s"}, "lifetime must be from 2s to 60s"),
        ({"lifetime": "61s"}, "lifetime must be from 2s to 60s"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.1}, "threshold"),
        ({"paths": ["orders"]}, "expected a path that begins with /"),
    ],
)
def test_a_pool_guard_that_cannot_be_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        service(poolGuard=policy)
