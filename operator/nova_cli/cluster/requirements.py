"""What the local cluster asks of a machine, checked before anything is touched."""

from __future__ import annotations

import os
import sys

from nova_cli.errors import MissingRequirementError


def require_root(purpose: str = "a local cluster") -> None:
    """Raise MissingRequirementError unless this process may start containers; `purpose` is what needs them."""
    if sys.platform != "linux":
        raise MissingRequirementError(
            f"{purpose} on {sys.platform} needs Docker, and no Docker daemon answers; start Docker, or use "
            "`nova dev`, which needs no cluster"
        )
    if os.geteuid() != 0:
        raise MissingRequirementError(
            f"{purpose} needs root or a Docker daemon that answers, and there is neither; run it with sudo or "
            "start Docker; `nova dev` and `nova cluster up --no-node` (an API server without pods) work as they are"
        )
