"""One vocabulary for the log lines of all parts: what is written is in docs/logs.md, and what is there is written."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_sidecar.telemetry.logs import VOCABULARY

REPOSITORY = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
PARTS = {
    "sidecar": REPOSITORY / "sidecar/nova_sidecar",
    "operator": REPOSITORY / "operator/nova_operator",
    "services": REPOSITORY / "services/nova_services",
    "data": REPOSITORY / "services/nova_data",
}


def documented() -> dict[str, str]:
    """Field → who writes it."""
    page = (REPOSITORY / "docs/logs.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[2] for row in rows}


def calls(part: str) -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(PARTS[part].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = ast.unparse(node.func.value)
                if owner == "log" or owner.endswith("get_logger()"):
                    yield f"{file.relative_to(REPOSITORY)}:{node.lineno}", node


def test_the_page_has_the_whole_vocabulary_of_the_sidecar() -> None:
    assert [field for field, by in documented().items() if by == "all" or "sidecar" in by] == list(VOCABULARY)


@pytest.mark.parametrize("part", PARTS)
def test_every_field_that_is_written_is_documented(part: str) -> None:
    known = {field for field, by in documented().items() if by == "all" or part in by}
    found = dict(calls(part))
    assert len(found) >= 5
    unknown = {
        where: fields
        for where, call in found.items()
        if (fields := {keyword.arg for keyword in call.keywords if keyword.arg} - known - {"exc_info"})
    }
    assert unknown == {}


@pytest.mark.parametrize("part", PARTS)
def test_what_happened_is_a_fixed_phrase(part: str) -> None:
    assert [where for where, call in calls(part) if not all(isinstance(one, ast.Constant) for one in call.args)] == []
