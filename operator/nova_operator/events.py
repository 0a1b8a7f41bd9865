"""Kubernetes Events: one for each transition that people care about, and a bound on how many. Pure.

Events are for people who look at one object (`kubectl describe`); conditions are for programs.
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from nova_api.status import NovaServiceStatus
from nova_api.v1alpha1 import API_VERSION, KIND
from nova_operator import reasons
from nova_operator.desired.metadata import Manifest
from nova_operator.rollout.telling import stories

COMPONENT: Final = "nova.dev/operator"
BURST: Final = 10.0
REFILL_PER_SECOND: Final = 1 / 30
_LONGEST_NOTE: Final = 1000  # the API server takes 1024 bytes


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a NovaService."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


def transitions(before: NovaServiceStatus, after: NovaServiceStatus) -> Iterator[Event]:
    """The events between two statuses that were written one after the other; none between equal ones."""
    if before.config_hash and before.config_hash != after.config_hash:
        yield Event("Normal", reasons.CONFIG_CHANGED, "Configure", f"configuration is now {after.config_hash}")
    was_ready, is_ready = _condition(before, "Ready"), _condition(after, "Ready")
    if is_ready.get("status") == "True" and was_ready.get("status") != "True":
        yield _ready(before.ready_generation, after.ready_generation)
    was_bad, is_bad = _condition(before, "Degraded"), _condition(after, "Degraded")
    told = reasons.CANARY_ABORTED  # by `stories`, with the step
    if is_bad.get("status") == "True" and is_bad["reason"] not in {was_bad.get("reason"), told}:
        yield Event("Warning", is_bad["reason"], "Observe", is_bad["message"])
    if is_bad.get("status") == "False" and was_bad.get("status") == "True":
        yield Event("Normal", reasons.RECOVERED, "Observe", f"no longer {was_bad['reason']}")
    yield from _circuits(_upstreams(before), _upstreams(after))
    for kind, reason, action, note in stories(before.rollout, after.rollout):
        yield Event(kind, reason, action, note)


def _ready(before: int, now: int) -> Event:
    """Pods also come and go without a rollout: an autoscaler adds some, a node is drained, one fails its probe."""
    if before == now:
        return Event("Normal", reasons.READY_AGAIN, "Observe", f"generation {now} is ready again")
    return Event("Normal", reasons.ROLLED_OUT, "RollOut", f"generation {now} is ready")


def _circuits(before: frozenset[str], after: frozenset[str]) -> Iterator[Event]:
    """The events between two sets of upstreams whose breaker is not closed."""
    for name in sorted(after - before):
        yield Event("Warning", reasons.CIRCUIT_OPENED, "Break", f"a breaker of upstream {name} opened")
    for name in sorted(before - after):
        yield Event("Normal", reasons.CIRCUIT_CLOSED, "Break", f"all breakers of upstream {name} are closed again")


def manifest(event: Event, service: Manifest, instance: str, suffix: str, now: str) -> Manifest:
    """The object to create. `suffix` makes its name unique; `now` is RFC 3339 with microseconds."""
    metadata = service["metadata"]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{suffix}", "namespace": metadata["namespace"]},
        "eventTime": now,
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "note": event.note[:_LONGEST_NOTE],
        "reportingController": COMPONENT,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }


class Allowance:
    """Bounds the events of one service: ten at once, then one every thirty seconds. A flapping breaker is a story for
    metrics, not for etcd."""

    __slots__ = ("_at", "_burst", "_refill", "_tokens")

    def __init__(self, burst: float = BURST, refill: float = REFILL_PER_SECOND) -> None:
        self._burst = burst
        self._refill = refill
        self._tokens = burst
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<Allowance {self._tokens:.1f}>"

    def take(self, now: float) -> bool:
        """Whether one more may be written; `now` in monotonic seconds."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._refill)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _condition(status: NovaServiceStatus, kind: str) -> dict[str, Any]:
    found = next((condition for condition in status.conditions if condition.type == kind), None)
    return {} if found is None else {"status": found.status, "reason": found.reason, "message": found.message}


def _upstreams(status: NovaServiceStatus) -> frozenset[str]:
    return frozenset(breaker.upstream for breaker in status.open_breakers)
