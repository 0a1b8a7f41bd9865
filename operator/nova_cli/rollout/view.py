"""A canary's status as people read it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from nova_api.model import builtins
from nova_api.rollout import Rollout
from nova_api.status import RolloutStatus, TrackFigures
from nova_operator.rollout.machine import is_under_way

_NONE: Final = "a changed pod template starts one"
_LEFT_OUT: Final[dict[str, Any]] = builtins(Rollout())
"""What a service that has no section `rollout` follows; the API server fills in one that somebody began."""


def describe(document: dict[str, Any], rollout: RolloutStatus, now: float) -> str:
    """A few lines; `document` is the NovaService, `now` seconds since the epoch."""
    metadata = document["metadata"]
    head = f"{metadata['name']} in {metadata['namespace']}"
    spec = _LEFT_OUT | (document["spec"].get("rollout") or {})
    if rollout.phase == "Idle":
        advice = _NONE if spec["strategy"] == "Canary" else "spec.rollout.strategy is Rolling"
        return f"{head}: no canary ({rollout.message or advice})"
    lines = [f"{head}: {rollout.phase}, canary {rollout.canary}, stable {rollout.stable}"]
    if is_under_way(rollout):
        lines.append(f"  step    {rollout.step} of {len(spec['steps'])}, {_time(rollout, spec, now)}")
        lines.append(f"  weight  {rollout.weight}% of the requests, by {spec['weights']}")
    if rollout.canary_figures.requests or rollout.stable_figures.requests:
        lines.append(f"  canary  {_figures(rollout.canary_figures)}")
        lines.append(f"  stable  {_figures(rollout.stable_figures)}")
    return "\n".join([*lines, f"  {rollout.message}"])


def _time(rollout: RolloutStatus, spec: dict[str, Any], now: float) -> str:
    if not rollout.hold_since:
        return "its pods are starting"
    seconds = max(0, round(now - datetime.fromisoformat(rollout.hold_since).timestamp()))
    steps = spec["steps"]
    step = steps[min(rollout.step, len(steps)) - 1]
    return f"{seconds} s of {step.get('hold', '5m')}{', with a gate' if step.get('gate') else ''}"


def _figures(figures: TrackFigures) -> str:
    if figures.requests == 0:
        return "no requests"
    share = figures.failed / figures.requests
    tail = f", p99 {figures.p99}" if figures.p99 else ""
    return f"{figures.requests} requests, {share:.2%} failed{tail}"
