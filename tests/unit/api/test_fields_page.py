"""docs/fields.md names every field of the spec, and tests that exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from nova_api import policies, request_policies
from nova_api.v1alpha1 import NovaServiceSpec

POLICIES = (policies.__name__, request_policies.__name__)
REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "fields.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| `")]
TEST = re.compile(r"`([a-z0-9_/]+\.py)::(test_\w+)`")


def fields_of(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Paths of all fields; a policy, an upstream's differences from one, and pods' own forms count as one field."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.encode_name}"
        yield path
        hint, listed = plain(hints[field.name])
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and not hint.__module__.startswith(POLICIES):
            yield from fields_of(hint, f"{path}[]." if listed else f"{path}.")


def plain(hint: Any) -> tuple[Any, bool]:
    """A field's type without annotations and null, or that of its items, and whether it has items."""
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    return (plain(get_args(hint)[0])[0], True) if get_origin(hint) is tuple else (hint, False)


POLICIES = (policies.__name__, request_policies.__name__)
NOT_NOVAS_OWN = re.compile(r"template\.metadata\.|upstreams\[\]\.tls\.|(sidecar|env\[\])\..*\.")
"""Below these, fields are those of a pod or stand in the row of their parent."""


def test_every_field_has_a_row_and_every_row_is_a_field() -> None:
    named = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])]
    wanted = [path for path in fields_of(NovaServiceSpec) if not NOT_NOVAS_OWN.match(path)]
    assert sorted(named) == sorted(wanted)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:30])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3
    assert TEST.findall(row[2])


def test_the_named_tests_exist() -> None:
    for file, name in TEST.findall(PAGE):
        text = (REPOSITORY / "tests" / file).read_text()
        assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file} has no {name}"
