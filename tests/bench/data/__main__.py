"""`python -m tests.bench.data`: measure, print, and write build/bench-data.json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..tools import Unavailable
from . import calls, consumer, dedup, outbox, preferences, schema, split, tenants

ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    "outbox": outbox.measured,
    "dedup": dedup.measured,
    "consumer": consumer.measured,
    "coalescing": calls.coalescing,
    "batching": calls.batching,
    "preferences": preferences.measured,
    "split": split.measured,
    "tenants": tenants.measured,
    "soft_delete": schema.soft_delete,
    "indexes": schema.indexes,
}
RESULT = Path("build/bench-data.json")


def main() -> int:
    """Measure what the command line names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.data", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ROWS)} (default: all)")
    names = parser.parse_args().names or list(ROWS)
    if unknown := set(names) - ROWS.keys():
        parser.error(f"{unknown.pop()}: expected {', '.join(ROWS)}")
    found: dict[str, Any] = {"machine": {"system": platform.platform(), "python": platform.python_version()}}
    try:
        found |= {name: ROWS[name]() for name in names}
    except Unavailable as why:
        print(f"bench: {why}", file=sys.stderr)
        return 2
    text = json.dumps(found, indent=2)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
