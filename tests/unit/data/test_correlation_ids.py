"""Which correlation ids are taken over."""

import uuid

import pytest

from nova_data.correlation import adopted


@pytest.mark.parametrize("value", ["a", "demo-1", "bfd35bc7-4ed4-4ef8-9e2f-10bec1ffb9ac", "x" * 128])
def test_a_harmless_id_is_taken_over(value: str) -> None:
    assert adopted(value) == value


@pytest.mark.parametrize("value", [None, "", "a b", "a\n", "x" * 129, "jane@example.org", '"'])
def test_anything_else_gets_a_new_id(value: str | None) -> None:
    assert uuid.UUID(adopted(value)).version == 4
