"""The status of a NovaService: what the printer columns, `kubectl wait` and the scale subresource read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.status import NovaServiceStatus, SidecarCount
from nova_operator.conditions import Observation, assess, merge, runs_current


def read(document: Mapping[str, Any] | None) -> NovaServiceStatus:
    """The status as it was written before; empty if it is missing or from a version that knew other fields."""
    try:
        return convert(document or {}, NovaServiceStatus)
    except ConfigError:
        return NovaServiceStatus()


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The service that a status is about."""

    name: str
    generation: int
    upstreams: tuple[str, ...] | None
    """Names of the upstreams, None where the spec cannot be read."""


def build(subject: Subject, seen: Observation, before: NovaServiceStatus, now: str) -> NovaServiceStatus:
    """The status now; `now` in RFC 3339. Equal observations give an equal status, so that nothing is written twice."""
    counts: dict[str, Any] = (seen.deployment or {}).get("status") or {}
    return NovaServiceStatus(
        observed_generation=subject.generation,
        conditions=merge(before.conditions, assess(seen), subject.generation, now),
        replicas=counts.get("replicas", 0),
        ready_replicas=counts.get("readyReplicas", 0),
        selector=f"{names.LABEL_SERVICE}={subject.name}",
        config_hash=seen.config_hash,
        sidecars=_sidecars(seen),
        upstreams=before.upstreams if subject.upstreams is None else _upstreams(subject.upstreams, seen),
    )


def open_circuits(seen: Observation) -> frozenset[str]:
    """The upstreams whose breaker is not closed in at least one sidecar."""
    reports = [seen.reports[pod.uid] for pod in seen.staying if pod.uid in seen.reports]
    return frozenset(name for report in reports for name, state in report.breakers.items() if state != "closed")


def _sidecars(seen: Observation) -> SidecarCount:
    configured = sum(runs_current(seen, pod) for pod in seen.staying)
    total = len(seen.staying)
    return SidecarCount(configured=configured, total=total, summary=f"{configured}/{total}")


def _upstreams(upstreams: tuple[str, ...], seen: Observation) -> str:
    """``2/3``: of three upstreams, two have a closed breaker everywhere; ``?/3`` while no sidecar has reported."""
    if not upstreams:
        return "0/0"
    if not any(pod.uid in seen.reports for pod in seen.staying):
        return f"?/{len(upstreams)}"
    closed = set(upstreams) - open_circuits(seen)
    return f"{len(closed)}/{len(upstreams)}"
