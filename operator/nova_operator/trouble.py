"""What needs somebody, in words that say what to do. Pure."""

from __future__ import annotations

from typing import Final

from nova_operator import database, reasons
from nova_operator.deployments import deployment_condition, is_late
from nova_operator.observation import Observation, is_replacing, runs_current
from nova_operator.pods import Trouble, is_outgoing, quote

DELIVERY: Final = 5.0
"""Seconds in which a written configuration has reached every sidecar, measured 0.3 to 1.0 s on a node at rest."""


def find_trouble(seen: Observation) -> Trouble | None:
    """The root cause first: a rejected spec before refused pods before pods that fail."""
    return (
        seen.obstacle
        or find_rejection(seen)
        or (seen.database and database.trouble(seen.database))
        or _refused_pods(seen)
        or next((pod.trouble for pod in sorted(seen.staying, key=lambda pod: pod.name) if pod.trouble), None)
        or _without_sidecar(seen)
        or _late(seen)
        or _short_of_time(seen)
    )


def find_rejection(seen: Observation) -> Trouble | None:
    """That sidecars do not take the configuration of this spec."""
    if seen.refused is None:
        return _kept_by_a_sidecar(seen)
    return Trouble(
        reasons.CONFIG_REJECTED,
        f"the last good configuration {seen.config_hash} is in force again, because the sidecar of pod "
        f"{seen.refused.pod} refused the one of this spec: {seen.refused.said}; change that field, or the sidecar's "
        "image if it is older than the operator",
    )


def _kept_by_a_sidecar(seen: Observation) -> Trouble | None:
    """A sidecar that has seen the current configuration and kept its old one, and there is none to go back to.

    One that does not say which document it refused may still speak of the one before, so it is given a while.
    """
    replacing = is_replacing(seen.deployment, seen.replicas, seen.rollout)
    for pod in sorted(seen.staying, key=lambda pod: pod.name):
        report = seen.reports.get(pod.uid)
        if report is None or report.last_error is None or runs_current(seen, pod):
            continue
        if is_outgoing(pod, seen.sidecar_image, replacing=replacing):
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


def _refused_pods(seen: Observation) -> Trouble | None:
    failure = deployment_condition(seen.deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    return Trouble(reasons.PODS_REFUSED, f"pods cannot be created: {failure.get('message', '')}")


def _without_sidecar(seen: Observation) -> Trouble | None:
    return Trouble(reasons.SIDECAR_MISSING, seen.missed) if seen.missed else None


def _late(seen: Observation) -> Trouble | None:
    if not is_late(seen.deployment):
        return None
    message = "new pods did not become ready in time; see: kubectl describe pods, and spec.readinessProbe"
    return Trouble(reasons.PROGRESS_DEADLINE_EXCEEDED, message)


def _short_of_time(seen: Observation) -> Trouble | None:
    """The schema forbids it for the operator's own Deployments, not for those that it adopts."""
    if not seen.grace_period or seen.drain_needed <= seen.grace_period:
        return None
    return Trouble(
        reasons.DRAIN_BUDGET_TOO_SMALL,
        f"pods need {seen.drain_needed} s to leave and are killed after {seen.grace_period}: raise the pods' "
        "terminationGracePeriodSeconds, or lower spec.shutdown.preStop or spec.webSocket.spread",
    )
