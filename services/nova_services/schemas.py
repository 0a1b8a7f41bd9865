"""``python -m nova_services.schemas``: the schemas of all services as files, for clients that are made from them.

    services/openapi/<service>.json       what GET /openapi.json answers
    services/openapi/schema.graphql       what GET /schema.graphql does

With ``--check`` nothing is written, and the exit code is 1 where a file is not what the code says.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from nova_services.graphql.schema import text
from nova_services.openapi import Api, encoded

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DESCRIBED: Final = {
    "auth": "auth.api",
    "users": "users.api",
    "content": "content.api",
    "recommendations": "recommendations.api",
    "messaging": "messaging.api",
    "notification": "notification.api",
    "media": "media.api",
    "search": "search.api",
    "graphql": "graphql.api",
}
"""Service → the module that has its `API`."""


def apis() -> list[Api]:
    """All of them."""
    return [import_module(f"nova_services.{module}").API for module in DESCRIBED.values()]


def generated() -> dict[str, bytes]:
    """Path below the repository → content, of every file."""
    documents = {f"services/openapi/{api.name}.json": encoded(api) for api in apis()}
    return documents | {"services/openapi/schema.graphql": text().encode()}


def stale(root: Path) -> list[str]:
    """The files below `root` that are not what the code says, or missing."""
    return [
        name for name, text in generated().items() if not (root / name).is_file() or (root / name).read_bytes() != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m nova_services.schemas", description="The services' schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the repository (default: this one)")
    options = parser.parse_args(arguments)
    if options.root == REPOSITORY and not (REPOSITORY / "pyproject.toml").is_file():
        parser.error("this is an installed nova: name a clone of the repository with --root")
    names, files = stale(options.root), generated()
    for name in names:
        if options.check:
            print(f"{name} is stale: run `python -m nova_services.schemas`", file=sys.stderr)
            continue
        target = options.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[name])
        print(f"wrote {name}")
    return 1 if options.check and names else 0


if __name__ == "__main__":
    sys.exit(main())
