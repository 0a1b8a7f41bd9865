"""The code blocks of a page, as a module: what the page shows is run."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[3] / "docs"


def names_of(page: str, first: int | None = None) -> dict[str, Any]:
    """What the first so many Python blocks of a page define, None: all."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    for block in blocks[:first]:
        exec(compile(block, page, "exec"), found)
    return found
