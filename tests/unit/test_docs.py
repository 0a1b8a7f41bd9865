"""The documentation: every page is found from its index, no link leads nowhere, and blocks of code are whole."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "services/protos/README.md",
    ]
)
LINK: Final = re.compile(r"\[[^][]*\]\(([^()\s]+)\)")
CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PYTHON: Final = re.compile(r"^```python$(.*?)^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings: https://docs.github.com/get-started/writing-on-github, "Section links"."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    found = [link for link in LINK.findall(CODE.sub("", page.read_text())) if "://" not in link]
    parts = [link.partition("#") for link in found]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    dead = [
        f"{path.relative_to(ROOT)}#{anchor}"
        for path, anchor in links(ROOT / name)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert not dead


@pytest.mark.parametrize("name", PAGES)
def test_blocks_are_whole_and_their_python_can_be_read(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "```" not in re.sub(r"^ *```\w*$", "", text, flags=re.MULTILINE), "a fence stands alone in its line"
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    for block in PYTHON.findall(text):
        compile(block, name, "exec")


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/README.md"
    assert set((ROOT / "docs").rglob("*.md")) - {path for path, _ in links(index)} == {index}


def test_a_heading_has_the_anchor_that_links_use(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Fields, what they make: `spec.ports[]`\n```\n# no heading\n```\n")
    assert anchors(page) == {"fields-what-they-make-specports"}
