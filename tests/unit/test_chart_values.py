"""Every value of the chart is known to its schema, with a type and words about it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "nova"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"operator.affinity", "global", "nova-crds"}
"""What has the names that people give it."""


def resolved(schema: Any) -> Any:
    """The schema with what it refers to."""
    for part in [schema, *schema.get("allOf", ())]:
        if "$ref" in part:
            schema = {**SCHEMA["definitions"][part["$ref"].removeprefix("#/definitions/")], **schema}
    return schema


def paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")


def described(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, below in resolved(schema).get("properties", {}).items():
        yield prefix + name, resolved(below)
        yield from described(below, f"{prefix}{name}.")


KNOWN = dict(described(SCHEMA))


@pytest.mark.parametrize("path", sorted(paths(VALUES)))
def test_a_value_is_in_the_schema(path: str) -> None:
    assert path in KNOWN
    assert KNOWN[path].keys() & {"type", "enum", "anyOf", "pattern"}


@pytest.mark.parametrize("path", sorted(KNOWN))
def test_an_entry_says_what_it_is_for(path: str) -> None:
    assert KNOWN[path]["description"]


@pytest.mark.parametrize("path", sorted(path for path, schema in KNOWN.items() if schema.get("type") == "object"))
def test_a_misspelt_name_is_refused(path: str) -> None:
    if path in FREE:
        return
    assert KNOWN[path]["additionalProperties"] in (False, {"type": "string"})
