import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from msgspec import Meta, field

from nova_api import schema
from nova_api.exposure import ServicePort
from nova_api.fielddocs import field_docs
from nova_api.model import Model, Override, stored
from nova_api.openapi import Emitter, go_pattern
from nova_api.policies import BackpressurePolicy, BreakerPolicy
from nova_api.workload import Shutdown

REPOSITORY = Path(__file__).resolve().parents[3]


def test_generated_files_are_current() -> None:
    assert schema.stale(REPOSITORY) == []


def test_check_names_a_stale_file_and_write_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(tmp_path)]
    assert schema.main([*arguments, "--check"]) == 1
    assert "crds/novaservices.nova.dev.yaml is stale: run `make crds`" in capsys.readouterr().err
    assert schema.main(arguments) == 0
    assert schema.main([*arguments, "--check"]) == 0
    (tmp_path / "docs/novaservice.md").write_text("edited by hand")
    assert schema.stale(tmp_path) == ["docs/novaservice.md"]


def test_the_charts_copy_stays_after_an_uninstall_and_is_no_template() -> None:
    text = schema.crd_yaml(kept_by_helm=True)
    assert "{{" not in text
    kept = yaml.safe_load(text)
    assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert kept == yaml.safe_load(schema.crd_yaml()) == schema.crd()


def properties() -> dict[str, Any]:
    found: dict[str, Any] = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def spec() -> dict[str, Any]:
    found: dict[str, Any] = properties()["spec"]
    return found


def nodes(node: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, below in node.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[]")


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_described(part: str) -> None:
    """In more than one word: `kubectl explain` is what many read instead of a page. Items of a list are described with
    it."""
    fields = [(path, node) for path, node in nodes(properties()[part], part) if not path.endswith("[]")]
    assert len(fields) > 40
    assert [path for path, node in fields if len(node.get("description", "").split()) < 2] == []


def test_every_field_has_a_type_or_is_a_quantity() -> None:
    assert [path for path, node in nodes(spec()) if "type" not in node and "anyOf" not in node] == []


def test_overrides_have_neither_defaults_nor_rules_across_fields() -> None:
    inside = [
        (path, node)
        for path, node in nodes(spec())
        if re.match(r"spec\.upstreams\[\]\.(circuitBreaker|retry|pool)", path)
    ]
    assert len(inside) > 20
    assert [path for path, node in inside if "default" in node] == []
    assert [path for path, node in inside if node.get("type") == "object" and "x-kubernetes-validations" in node] == []


def test_a_section_has_no_default_of_its_own_but_what_differs_from_its_fields() -> None:
    properties = spec()["properties"]
    assert "default" not in properties["retry"]
    assert "default" not in properties["retry"]["properties"]["backoff"]
    assert properties["retry"]["properties"]["backoff"]["properties"]["max"]["default"] == "250ms"
    assert properties["tenancy"]["properties"]["default"]["default"]["maxShare"] == "50%"


def test_a_rule_reads_the_field_of_a_section_or_its_default_where_that_was_left_out() -> None:
    assert stored(Shutdown, "grace_period", at="self.shutdown") == (
        "(has(self.shutdown) ? self.shutdown.gracePeriod : '45s')"
    )
    assert stored(BackpressurePolicy, "threshold", at="self.backpressure").endswith(".threshold : 0.85)")


def sections(node: dict[str, Any], path: str) -> Iterator[str]:
    """The paths of sections that may not be stored, below a rule's self."""
    for name, below in node.get("properties", {}).items():
        if "properties" in below and "default" not in below and name not in node.get("required", ()):
            yield f"{path}.{name}"
            yield from sections(below, f"{path}.{name}")


def test_no_rule_reads_into_a_section_without_asking_whether_it_is_there() -> None:
    blind = [
        (path, section)
        for path, node in nodes(spec())
        for rule in node.get("x-kubernetes-validations", ())
        for section in sections(node, "self")
        if re.search(rf"{re.escape(section)}\.", rule["rule"]) and f"has({section})" not in rule["rule"]
    ]
    assert blind == []


def test_lists_of_named_items_merge_by_name() -> None:
    properties = spec()["properties"]
    for name in ("env", "ports", "upstreams"):
        assert properties[name]["x-kubernetes-list-type"] == "map"
        assert properties[name]["x-kubernetes-list-map-keys"] == ["name"]


class Sample(Model, frozen=True, kw_only=True):
    """A sample
    in two lines."""

    must: Annotated[int, Meta(gt=0, le=9)]
    """What must
    be."""

    may: Annotated[tuple[str, ...], Meta(max_length=3)] | None = None
    """What may be."""

    choice: Literal["b", "a"] = "b"
    free: dict[str, Any] = field(default_factory=dict)


def test_a_struct_becomes_a_structural_schema() -> None:
    assert Emitter().object(Sample) == {
        "description": "A sample in two lines.",
        "type": "object",
        "required": ["must"],
        "properties": {
            "must": {
                "description": "What must be.",
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 9,
            },
            "may": {"description": "What may be.", "type": "array", "items": {"type": "string"}, "maxItems": 3},
            "choice": {"description": "", "type": "string", "enum": ["b", "a"], "default": "b"},
            "free": {"description": "", "type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


@pytest.mark.parametrize("hint", [bytes, list[int], str | bool])
def test_a_type_without_a_structural_form_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match="no structural schema for"):
        Emitter().hint(hint)


def test_an_override_shows_the_fields_of_its_policy() -> None:
    shown = Emitter().hint(Override[BreakerPolicy])
    assert list(shown["properties"]) == list(Emitter().object(BreakerPolicy)["properties"])


def test_a_pattern_ends_where_the_text_ends_in_both_languages() -> None:
    assert go_pattern(r"^a\Z") == "^a$"


def test_field_docs_are_the_text_below_each_field() -> None:
    docs = field_docs(ServicePort)
    assert docs["port"] == "Port of the Service."
    assert set(docs) == {"name", "protocol", "port", "app_port"}
