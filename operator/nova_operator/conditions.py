"""From what was observed to Ready, Progressing, Converged and Degraded. Pure.

    Ready        all wanted pods serve the current spec
    Progressing  something is under way that should end by itself
    Converged    every sidecar runs the current configuration
    Degraded     something is wrong that needs somebody

`observedGeneration` says of which spec a condition speaks, and `lastTransitionTime` moves with the status alone
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from nova_api import names
from nova_api.status import Condition
from nova_operator import reasons
from nova_operator.desired.metadata import Manifest
from nova_operator.pods import PodView, Trouble, quote
from nova_operator.sidecars import SidecarReport

DELIVERY: Final = 5.0
"""Seconds in which a written configuration has reached every sidecar, measured 0.3 to 1.0 s on a node at rest."""


class Verdict(msgspec.Struct, frozen=True):
    """A condition without its history."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the conditions follow from."""

    replicas: int
    """Pods that the spec wants."""

    deployment: Manifest | None
    pods: tuple[PodView, ...]
    reports: Mapping[str, SidecarReport]
    """By pod uid."""

    config_hash: str
    """Hash of the configuration that all sidecars should run."""

    config_age: float = float("inf")
    """Seconds since that configuration was written, as far as this process knows."""

    obstacle: Trouble | None = None
    """Why the spec was not put into force, if it was not."""

    @property
    def staying(self) -> tuple[PodView, ...]:
        """The pods that are not on their way out."""
        return tuple(pod for pod in self.pods if not pod.leaving)


Verdicts = Mapping[str, Verdict]


def assess(seen: Observation) -> Verdicts:
    """The four conditions."""
    trouble = find_trouble(seen)
    ready = _ready(seen, trouble)
    converged = _converged(seen)
    return {
        "Ready": ready,
        "Progressing": _progressing(seen, ready, converged, trouble),
        "Converged": converged,
        "Degraded": Verdict("True", trouble.reason, trouble.message)
        if trouble
        else Verdict("False", reasons.AS_EXPECTED, "nothing needs attention"),
    }


def merge(before: tuple[Condition, ...], verdicts: Verdicts, generation: int, now: str) -> tuple[Condition, ...]:
    """The conditions with their history; `now` in RFC 3339. Unchanged verdicts give equal conditions."""
    known = {condition.type: condition for condition in before}
    merged = []
    for kind, verdict in verdicts.items():
        old = known.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        merged.append(
            Condition(
                type=kind,
                status=verdict.status,
                reason=verdict.reason,
                message=verdict.message,
                observed_generation=generation,
                last_transition_time=since,
            )
        )
    return tuple(merged)


def find_trouble(seen: Observation) -> Trouble | None:
    """What needs somebody, the root cause first: a rejected spec before refused pods before pods that fail."""
    if seen.obstacle is not None:
        return seen.obstacle
    rejected = _rejection(seen)
    if rejected is not None:
        return rejected
    failure = _deployment_condition(seen, "ReplicaFailure")
    if failure.get("status") == "True":
        return Trouble(reasons.PODS_REFUSED, f"pods cannot be created: {failure.get('message', '')}")
    pods = sorted((pod for pod in seen.staying if pod.trouble is not None), key=lambda pod: pod.name)
    if pods:
        assert pods[0].trouble is not None  # noqa: S101 - the filter above says so
        return pods[0].trouble
    if _deployment_condition(seen, "Progressing").get("reason") == reasons.PROGRESS_DEADLINE_EXCEEDED:
        message = "new pods did not become ready in time; see: kubectl describe pods, and spec.readinessProbe"
        return Trouble(reasons.PROGRESS_DEADLINE_EXCEEDED, message)
    return None


def is_rolled_out(seen: Observation) -> bool:
    """Whether the Deployment's controller has done all that its current spec asks for, old pods removed."""
    if seen.deployment is None:
        return False
    status: dict[str, Any] = seen.deployment.get("status") or {}
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    current = status.get("observedGeneration", 0) >= seen.deployment["metadata"].get("generation", 0)
    return current and all(status.get(count, 0) == seen.replicas for count in counts)


def _ready(seen: Observation, trouble: Trouble | None) -> Verdict:
    if seen.obstacle is not None:
        return Verdict("False", seen.obstacle.reason, seen.obstacle.message)
    if not is_rolled_out(seen):
        available = (seen.deployment or {}).get("status", {}).get("availableReplicas", 0)
        if trouble is not None and trouble.reason != reasons.CONFIG_REJECTED:
            return Verdict("False", trouble.reason, trouble.message)
        return Verdict("False", reasons.ROLLING_OUT, f"{available} of {seen.replicas} pods are available")
    if seen.replicas == 0:
        return Verdict("True", reasons.SCALED_TO_ZERO, "spec.replicas is 0")
    return Verdict("True", reasons.PODS_READY, f"{_pods(seen.replicas)} ready")


def _progressing(seen: Observation, ready: Verdict, converged: Verdict, trouble: Trouble | None) -> Verdict:
    if trouble is not None:
        return Verdict("False", reasons.STALLED, f"waiting for somebody: {trouble.reason}")
    if ready.status != "True":
        return Verdict("True", reasons.ROLLING_OUT, ready.message)
    if converged.status != "True":
        return Verdict("True", converged.reason, converged.message)
    return Verdict("False", ready.reason, "nothing is under way")


def _converged(seen: Observation) -> Verdict:
    if seen.obstacle is not None:
        return Verdict("False", seen.obstacle.reason, "the configuration of this spec was not written")
    pods = seen.staying
    if not pods:
        if seen.replicas == 0:
            return Verdict("True", reasons.NO_PODS, "there is no sidecar to configure")
        return Verdict("False", reasons.NO_PODS, "there are no pods yet")
    if (rejected := _rejection(seen)) is not None:
        return Verdict("False", rejected.reason, rejected.message)
    return _delivered(seen, pods)


def _delivered(seen: Observation, pods: tuple[PodView, ...]) -> Verdict:
    behind = [pod for pod in pods if not runs_current(seen, pod)]
    if not behind:
        return Verdict("True", reasons.CONFIG_CURRENT, f"{_sidecars(len(pods))} {seen.config_hash}")
    silent = sorted(pod.name for pod in behind if pod.ready and pod.uid not in seen.reports)
    if silent:
        message = (
            f"the sidecar of pod {silent[0]} does not answer on port {names.STATUS_PORT}; is a NetworkPolicy between "
            "it and the operator?"
        )
        return Verdict("False", reasons.SIDECAR_UNREACHABLE, message)
    done = len(pods) - len(behind)
    return Verdict("False", reasons.CONFIG_PENDING, f"{done} of {len(pods)} sidecars run {seen.config_hash}")


def runs_current(seen: Observation, pod: PodView) -> bool:
    """Whether the pod's sidecar said that it runs the current configuration."""
    report = seen.reports.get(pod.uid)
    return report is not None and report.config_hash == seen.config_hash


def _rejection(seen: Observation) -> Trouble | None:
    """A sidecar that has seen the current configuration and kept its old one.

    One that does not say which document it refused may still speak of the one before, so it is given a while.
    """
    for pod in sorted(seen.staying, key=lambda pod: pod.name):
        report = seen.reports.get(pod.uid)
        if report is None or report.last_error is None or runs_current(seen, pod):
            continue
        refusal = report.last_error
        if refusal.hash == seen.config_hash or (refusal.hash is None and seen.config_age > DELIVERY):
            said = quote(f"{refusal.field}: {refusal.rule}")
            return Trouble(
                reasons.CONFIG_REJECTED,
                f"the sidecar of pod {pod.name} keeps its old configuration: {said}; "
                "is its image older than the operator?",
            )
    return None


def _deployment_condition(seen: Observation, kind: str) -> dict[str, Any]:
    conditions = ((seen.deployment or {}).get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _pods(count: int) -> str:
    return "1 pod is" if count == 1 else f"{count} pods are"


def _sidecars(count: int) -> str:
    return "the sidecar runs" if count == 1 else f"all {count} sidecars run"
