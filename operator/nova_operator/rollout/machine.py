"""What becomes of a canary: from the spec, the last status and what is seen to the next status. Pure.

                        new template                       hold over, nothing wrong
    Idle, Promoted, Aborted ──────▶ Progressing (step 1) ─────────────────▶ Progressing (step n)
                                      │  ▲   │                                   │ after the last step
         hold over, step has a gate   ▼  │   │ checks, abort, pods that fail     ▼
                                    Gated    └──────────▶ Aborted            Promoting ──▶ Promoted
         hold over, too little traffic, Hold ──▶ Inconclusive                  the stable Deployment has the template
                                                                               and its pods are ready

Whatever state it is in, three questions come first, in this order:

* Is there anything to try? Not with strategy Rolling, not for a service without pods or whose stable version has none
  that works (nothing there is worth protecting), and not where the template is the stable one already. Then there is
  no canary, and the Deployment gets the template as it does without canaries.
* Is it still the same template? Another one begins at step 1, whatever state the one before was in.
* Was this one taken back? Then it stays so until somebody says `nova rollout retry`.

The status alone carries the state, so a decision must be written before it is acted on (see `conduct`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from nova_api.rollout import Rollout, RolloutStep
from nova_api.status import RolloutStatus
from nova_operator.rollout.command import Command
from nova_operator.rollout.judge import Judgement
from nova_operator.rollout.wanted import UNDER_WAY, sizes

PROGRESS_DEADLINE: Final = 600.0
"""Seconds in which the pods of a step must be ready; as a Deployment's progressDeadlineSeconds by default."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A Deployment that runs one of the two versions."""

    template: str
    """Hash of its pod template; empty where an older operator made it."""

    replicas: int
    available: int
    settled: bool
    """Whether its controller has done all that its spec asks for."""

    tracked: bool = True
    """Whether its pods tell by a label which version they are."""

    trouble: str = ""
    """Why its pods cannot run, if it is certain that they cannot."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision follows from besides the spec and the last status."""

    desired: str
    """Hash of the pod template of the spec."""

    stable: Version | None
    canary: Version | None
    replicas: int
    """Pods that the service should have, the stable version's and the canary's together; of an autoscaled one, those
    that the stable version has."""

    judgement: Judgement
    """What is known of the canary in this step."""

    command: Command | None = None
    waiting: str = ""
    """Hash of the template of the spec where that waits for its database; `desired` is the stable one's then."""

    unfit: str = ""
    """Why the template of the spec cannot be tried by a canary; empty where it can."""

    autoscaled: bool = False


def decide(rollout: Rollout, before: RolloutStatus, seen: Seen, now: datetime) -> RolloutStatus:
    """The next status; equal to `before` where nothing happened. `now` with a time zone."""
    before = _mended(before, now)
    if rollout.strategy == "Rolling":
        return _without_canary(before, seen)
    if seen.stable is None or seen.replicas == 0:
        return RolloutStatus(stable=seen.desired)
    if before.phase == "Promoting" and before.canary == seen.desired:
        return _promoting(before, seen)
    if seen.stable.template == seen.desired:
        return _settled(before, seen)
    return _other_template(rollout, before, seen, seen.stable, now)


def is_under_way(status: RolloutStatus) -> bool:
    """Whether two versions run."""
    return status.phase in UNDER_WAY


def step_of(rollout: Rollout, status: RolloutStatus) -> RolloutStep:
    """The step that a canary is at; the last one where the spec has fewer than it had."""
    return rollout.steps[min(status.step, len(rollout.steps)) - 1]


def _other_template(
    rollout: Rollout, before: RolloutStatus, seen: Seen, stable: Version, now: datetime
) -> RolloutStatus:
    """The stable version has another template than the spec."""
    if before.canary == seen.desired and before.phase == "Aborted" and not _told("retry", before, seen):
        return before
    if seen.unfit and stable.available > 0:
        return replace(
            _start(rollout, before, stable, seen.desired, now), phase="Aborted", weight=0, message=seen.unfit
        )
    if before.phase in UNDER_WAY and before.canary == seen.desired:
        return _under_way(rollout, before, seen, now)
    if before.phase not in UNDER_WAY and stable.available == 0:
        return RolloutStatus(stable=seen.desired, message="the stable version had no pod that works: no canary")
    return _start(rollout, before, stable, seen.desired, now)


def _without_canary(before: RolloutStatus, seen: Seen) -> RolloutStatus:
    """Strategy Rolling. A canary that is under way is promoted, so that its pods serve until the Deployment's do."""
    if before.phase in UNDER_WAY and before.canary == seen.desired:
        if before.phase == "Promoting":
            return _promoting(before, seen)
        return replace(before, phase="Promoting", weight=100, message="the strategy is Rolling now")
    return before if before.phase == "Promoted" and before.canary == seen.desired else RolloutStatus()


def _settled(before: RolloutStatus, seen: Seen) -> RolloutStatus:
    """The template is in force."""
    if before.phase == "Promoted" and before.canary == seen.desired:
        return before
    if before.phase == "Aborted" and seen.waiting == before.canary:
        return before  # its Job runs once more: that is no way back to the stable template
    if before.phase in UNDER_WAY and before.canary != seen.desired:
        message = f"the spec went back to the stable version; the canary {before.canary} is gone"
        return RolloutStatus(stable=seen.desired, message=message)
    if before.phase == "Idle" and before.stable == seen.desired:
        return before
    return RolloutStatus(stable=seen.desired)


def _start(rollout: Rollout, before: RolloutStatus, stable: Version, desired: str, now: datetime) -> RolloutStatus:
    stamp = _stamp(now)
    if before.started == stamp:  # within the same second: a command must tell the two apart
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    status = RolloutStatus(stable=stable.template, canary=desired, started=stamp)
    return _enter(rollout, status, 1, now, "pods of the canary are starting")


def _enter(rollout: Rollout, status: RolloutStatus, step: int, now: datetime, message: str) -> RolloutStatus:
    return RolloutStatus(
        phase="Progressing",
        step=step,
        weight=rollout.steps[step - 1].weight,
        stable=status.stable,
        canary=status.canary,
        started=status.started,
        since=_stamp(now),
        message=message,
    )


def _under_way(rollout: Rollout, before: RolloutStatus, seen: Seen, now: datetime) -> RolloutStatus:
    status = replace(before, weight=step_of(rollout, before).weight)
    reason = _why_back(rollout, status, seen, now)
    if reason is not None:
        return replace(status, phase="Aborted", weight=0, message=reason)
    if _told("promote", status, seen):
        return _next(rollout, status, now, "somebody said so")
    if status.hold_since == "":
        if not _ready(seen, status.weight):
            return replace(status, phase="Progressing", message=_waiting_for_pods(seen))
        status = replace(status, hold_since=_stamp(now))
    return _holding(rollout, status, seen, now)


def _why_back(rollout: Rollout, status: RolloutStatus, seen: Seen, now: datetime) -> str | None:
    """Why the canary is taken back, if it is."""
    if _told("abort", status, seen):
        return "somebody said so: nova rollout abort"
    if seen.canary is not None and seen.canary.template == seen.desired and seen.canary.trouble:
        return f"the canary's pods do not run: {seen.canary.trouble}"
    late = status.hold_since == "" and _passed(status.since, now) > PROGRESS_DEADLINE
    if late and not _ready(seen, status.weight):  # they may have become so while no operator looked
        return f"the canary's pods were not ready within {PROGRESS_DEADLINE:.0f} s: {_waiting_for_pods(seen)}"
    if rollout.checks.mode == "Enforce" and seen.judgement.outcome == "bad":
        return seen.judgement.message
    return None


def _holding(rollout: Rollout, status: RolloutStatus, seen: Seen, now: datetime) -> RolloutStatus:
    """The pods are there: what the time, the checks and the gate say."""
    step, found = step_of(rollout, status), seen.judgement
    said = "; in mode Enforce the checks would take it back" if _shadow(rollout, found) else ""
    if _passed(status.hold_since, now) < step.hold:
        return replace(status, phase="Progressing", message=f"step {status.step} holds for {step.hold:g} s{said}")
    if step.gate:
        return replace(status, phase="Gated", message=f"waits for: nova rollout promote{said}")
    if rollout.checks.mode == "Enforce" and found.outcome == "few":
        if rollout.on_inconclusive == "Abort":
            return replace(status, phase="Aborted", weight=0, message=f"too little traffic: {found.message}")
        if rollout.on_inconclusive == "Hold":
            advice = "; go on with: nova rollout promote"
            return replace(status, phase="Inconclusive", message=found.message + advice)
        return _go_on(rollout, status, seen, now, f"goes on with little traffic: {found.message}")
    return _go_on(rollout, status, seen, now, f"{found.message}{said}")


def _go_on(rollout: Rollout, status: RolloutStatus, seen: Seen, now: datetime, why: str) -> RolloutStatus:
    """Not with pods that were ready once and are no longer: nothing takes a version back that comes into force."""
    if not _ready(seen, status.weight):
        return replace(status, phase="Progressing", message=_waiting_for_pods(seen))
    return _next(rollout, status, now, why)


def _next(rollout: Rollout, status: RolloutStatus, now: datetime, why: str) -> RolloutStatus:
    if status.step >= len(rollout.steps):
        return replace(status, phase="Promoting", weight=100, message=f"the new version comes into force; {why}")
    return _enter(rollout, status, status.step + 1, now, why)


def _promoting(before: RolloutStatus, seen: Seen) -> RolloutStatus:
    if seen.stable is not None and seen.stable.template == seen.desired and seen.stable.settled:
        return RolloutStatus(
            phase="Promoted",
            stable=before.canary,
            canary=before.canary,
            started=before.started,
            message="the new version is in force",
        )
    return before


def _ready(seen: Seen, weight: int) -> bool:
    """Whether the canary has the pods that the step gives it, and they are ready."""
    canary = seen.canary
    if canary is None or canary.template != seen.desired or not canary.settled:
        return False
    return canary.replicas >= sizes(seen.replicas, weight, autoscaled=seen.autoscaled)[1]


def _waiting_for_pods(seen: Seen) -> str:
    if seen.canary is None or seen.canary.template != seen.desired:
        return "pods of the canary are starting"
    return f"{seen.canary.available} of {seen.canary.replicas} pods of the canary are ready"


def _told(verb: str, status: RolloutStatus, seen: Seen) -> bool:
    return seen.command is not None and seen.command.verb == verb and seen.command.concerns(status)


def _shadow(rollout: Rollout, found: Judgement) -> bool:
    return rollout.checks.mode == "Shadow" and found.outcome == "bad"


def _mended(before: RolloutStatus, now: datetime) -> RolloutStatus:
    """The status of a canary, which somebody may have edited. A step that cannot be is the first one, a time that is
    none is now: that holds longer than it had to, and promotes nothing early."""
    if before.phase not in UNDER_WAY or before.phase == "Promoting":
        return before
    if before.step < 1:
        return replace(before, step=1, since=_stamp(now), hold_since="")
    since = before.since if _is_time(before.since) else _stamp(now)
    held = before.hold_since if before.hold_since == "" or _is_time(before.hold_since) else _stamp(now)
    return replace(before, since=since, hold_since=held)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _passed(since: str, now: datetime) -> float:
    """Seconds since a moment that was written down; less than 0 where another clock wrote it."""
    return (now - datetime.fromisoformat(since)).total_seconds()


def _stamp(now: datetime) -> str:
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")
