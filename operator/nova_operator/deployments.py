"""What the status of a Deployment says of its rollout. Pure."""

from __future__ import annotations

from typing import Any, Final

from nova_operator.desired.metadata import Manifest
from nova_operator.reasons import PROGRESS_DEADLINE_EXCEEDED

_COUNTS: Final = ("replicas", "updatedReplicas", "availableReplicas")


def is_observed(deployment: Manifest) -> bool:
    """Whether the Deployment's controller has seen its current spec: what the status says before is of another one."""
    status: dict[str, Any] = deployment.get("status") or {}
    return bool(status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0))


def is_rolled_out(deployment: Manifest | None, replicas: int) -> bool:
    """Whether the Deployment's controller has done all that its current spec asks for, old pods removed."""
    if deployment is None:
        return False
    status: dict[str, Any] = deployment.get("status") or {}
    return is_observed(deployment) and all(status.get(count, 0) == replicas for count in _COUNTS)


def is_late(deployment: Manifest | None) -> bool:
    """Whether new pods were not ready within `progressDeadlineSeconds`. Until the controller has seen another spec, it
    says so of the one before, which may be what was mended."""
    if deployment is None or not is_observed(deployment):
        return False
    return deployment_condition(deployment, "Progressing").get("reason") == PROGRESS_DEADLINE_EXCEEDED


def deployment_condition(deployment: Manifest | None, kind: str) -> dict[str, Any]:
    """A condition of the Deployment; empty if it has none of that type."""
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), {})
