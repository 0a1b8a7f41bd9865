"""The status of a NovaService: what the printer columns, `kubectl wait` and the scale subresource read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.status import DrainBudget, NovaServiceStatus, SidecarCount
from nova_api.unknown import without_unknown
from nova_operator import reasons
from nova_operator.circuits import open_breakers, summary
from nova_operator.conditions import assess, merge
from nova_operator.observation import Observation, runs_current


def read(document: Mapping[str, Any] | None) -> NovaServiceStatus:
    """The status as it was written before, without what a newer operator wrote; empty if it is none."""
    written = dict(document or {})
    try:
        return convert(written, NovaServiceStatus)
    except ConfigError:
        known, ignored = without_unknown(written, NovaServiceStatus)
    try:
        return convert(known, NovaServiceStatus) if ignored else NovaServiceStatus()
    except ConfigError:
        return NovaServiceStatus()


def holds(status: NovaServiceStatus, kind: str) -> bool:
    """Whether a condition is True."""
    return any(condition.type == kind and condition.status == "True" for condition in status.conditions)


_UNDER_WAY: Final = frozenset(
    {
        reasons.ROLLING_OUT,
        reasons.NO_PODS,
        reasons.CONFIG_PENDING,
        reasons.DATABASE_PREPARING,
        reasons.RELAYS_NOT_READY,
    }
)
"""Reasons of conditions that pass by themselves."""


def is_progress(before: NovaServiceStatus, after: NovaServiceStatus) -> bool:
    """Whether two statuses differ in nothing but how far pods and sidecars have come: nobody waits for a count."""
    return _outline(before) == _outline(after)


def _outline(status: NovaServiceStatus) -> tuple[NovaServiceStatus, list[tuple[str, str, str, int]]]:
    conditions: list[tuple[str, str, str, int]] = [
        (one.type, one.status, "" if one.reason in _UNDER_WAY else one.reason + one.message, one.observed_generation)
        for one in status.conditions
    ]
    counted = {"replicas": 0, "ready_replicas": 0, "sidecars": SidecarCount()}
    return msgspec.structs.replace(status, conditions=(), **counted), conditions


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The service that a status is about."""

    name: str
    generation: int
    upstreams: tuple[str, ...] | None
    """Names of the upstreams, None where the spec cannot be read."""


def build(
    subject: Subject,
    seen: Observation,
    before: NovaServiceStatus,
    now: str,
) -> NovaServiceStatus:
    """The status now; `now` in RFC 3339. Equal observations give an equal status, so that nothing is written twice."""
    counts: list[dict[str, Any]] = [(one or {}).get("status") or {} for one in (seen.deployment, seen.canary)]
    verdicts = assess(seen, subject.upstreams)
    return NovaServiceStatus(
        observed_generation=subject.generation,
        ready_generation=subject.generation if verdicts["Ready"].status == "True" else before.ready_generation,
        conditions=merge(before.conditions, verdicts, subject.generation, now),
        replicas=sum(count.get("replicas", 0) for count in counts),
        ready_replicas=sum(count.get("readyReplicas", 0) for count in counts),
        selector=f"{names.LABEL_SERVICE}={subject.name}",
        config_hash=seen.config_hash,
        sidecars=_sidecars(seen),
        upstreams=before.upstreams if subject.upstreams is None else summary(seen, subject.upstreams),
        open_breakers=open_breakers(seen, subject.upstreams),
        refused_hash=seen.refused.hash if seen.refused else "",
        drain=DrainBudget(needed_seconds=seen.drain_needed, grace_period_seconds=seen.grace_period),
        rollout=before.rollout if seen.rollout is None else seen.rollout,
    )


def _sidecars(seen: Observation) -> SidecarCount:
    configured = sum(runs_current(seen, pod) for pod in seen.staying)
    total = len(seen.staying)
    return SidecarCount(configured=configured, total=total, summary=f"{configured}/{total}")
