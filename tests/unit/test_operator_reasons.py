"""Reasons are words for programs, and docs/conditions.md explains each."""

import re
from pathlib import Path

from nova_operator import reasons

PAGE = Path(__file__).parents[2] / "docs/conditions.md"
REASONS = {name: value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}


def test_the_page_explains_every_reason_and_no_other() -> None:
    _, _, tables = PAGE.read_text().partition("## Reasons\n")
    assert re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE) == list(REASONS.values())


def test_a_reason_is_one_word_named_like_its_constant() -> None:
    """The form that the API server asks of metav1.Condition."""
    for name, value in REASONS.items():
        assert re.fullmatch(r"[A-Z][A-Za-z]*", value)
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", value).upper() == name
