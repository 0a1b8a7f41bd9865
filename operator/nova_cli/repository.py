"""The clone that a command works on: images, charts and examples are not part of what is installed."""

from __future__ import annotations

from pathlib import Path

from nova_cli.errors import MissingRequirementError

_EVIDENCE = ("pyproject.toml", "operator/Dockerfile", "charts/nova", "crds/nova_api")


def find_repository(start: Path | None = None) -> Path:
    """The repository that the folder `start` (the current one) or this file is in.

    Raises MissingRequirementError outside of one.
    """
    for origin in (start or Path.cwd(), Path(__file__)):
        for folder in (origin, *origin.parents):
            if all((folder / name).exists() for name in _EVIDENCE):
                return folder
    raise MissingRequirementError(
        "this needs the Dockerfiles, charts and examples of the nova repository, which an installed nova lacks: run it "
        "in a clone; `nova dev`, `nova render` and `nova cluster` work anywhere"
    )
