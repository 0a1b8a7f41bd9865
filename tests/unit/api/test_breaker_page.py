"""What docs/breaker.md says about fields: the examples resolve, and defaults and names are those of the model."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api.model import builtins, convert
from nova_api.policies import BreakerPolicy
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from tests.documents import with_upstream

PAGE = (Path(__file__).resolve().parents[3] / "docs/breaker.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DEFAULTS = re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)*)`(?: \(|, )`?([0-9][0-9a-z%]*)`?\)", PAGE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_part_of_an_upstream(example: str) -> None:
    fields = yaml.safe_load(example)
    (upstream,) = resolve(convert(with_upstream(**fields), NovaService)).outbound
    said = builtins(upstream)
    assert holds(fields, said), said


def holds(part: Any, whole: Any) -> bool:
    """Whether everything written in the example is in force."""
    if isinstance(part, dict):
        return all(holds(value, whole[key]) for key, value in part.items())
    return bool(part == (list(whole) if isinstance(whole, tuple) else whole))


def test_there_are_examples_and_defaults() -> None:
    assert len(EXAMPLES) >= 4
    assert len(DEFAULTS) >= 10


@pytest.mark.parametrize(("field", "default"), DEFAULTS, ids=[field for field, _ in DEFAULTS])
def test_a_default_is_the_models(field: str, default: str) -> None:
    value = builtins(BreakerPolicy())
    for name in field.split("."):
        value = value[name]
    assert str(value[0] if isinstance(value, tuple) else value) == default


def test_every_field_is_named() -> None:
    def names(fields: dict[str, Any]) -> set[str]:
        below = [names(value) for value in fields.values() if isinstance(value, dict)]
        return set(fields).union(*below)

    assert {name for name in names(builtins(BreakerPolicy())) if not re.search(rf"\b{name}\b", PAGE)} == set()
