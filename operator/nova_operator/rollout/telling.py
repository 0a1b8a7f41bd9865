"""What people are told of a canary: conditions for programs that wait, Events for who looks at the service. Pure.

Ready means that all pods serve the current spec, so it is False from the first step to the end of the promotion, and
`kubectl wait --for=condition=Ready` waits for the promotion. A canary that was taken back leaves Ready False and
Degraded and Stalled True: waiting any longer is no use, and a pipeline fails then, although the service serves as
before. https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from nova_api.status import RolloutStatus
from nova_operator import reasons
from nova_operator.rollout.wanted import UNDER_WAY
from nova_operator.verdict import Verdict, Verdicts

_REASONS: Final = {
    "Progressing": reasons.CANARY_PROGRESSING,
    "Gated": reasons.CANARY_GATED,
    "Inconclusive": reasons.CANARY_INCONCLUSIVE,
    "Promoting": reasons.CANARY_PROMOTING,
}

Story = tuple[Literal["Normal", "Warning"], str, str, str]
"""Type, reason, action and note of an Event."""


def verdicts(rollout: RolloutStatus, *, hindered: bool, troubled: bool) -> Verdicts:
    """The conditions that a canary brings or changes. `hindered`: the spec could not be put into force at all;
    `troubled`: something else needs somebody. Both are told first."""
    if rollout.phase in UNDER_WAY:
        verdict = Verdict("True", _REASONS[rollout.phase], _where(rollout))
        told = {"Canary": verdict}
        if not hindered:
            told["Ready"] = Verdict("False", verdict.reason, verdict.message)
            told["Progressing"] = told["Reconciling"] = verdict
        return told
    if rollout.phase != "Aborted" or hindered:
        return {}
    message = f"the new version {rollout.canary} was taken back: {rollout.message}; change the template, or retry it"
    told = {"Ready": Verdict("False", reasons.CANARY_ABORTED, message)}
    if not troubled:
        told["Degraded"] = told["Stalled"] = Verdict("True", reasons.CANARY_ABORTED, message)
    return told


def stories(before: RolloutStatus, after: RolloutStatus) -> Iterator[Story]:
    """The Events between two statuses: one for each step and each end, none for a message that changed."""
    new = after.started != before.started and after.phase in UNDER_WAY
    if before.phase in UNDER_WAY and (new or after.phase == "Idle"):
        yield (
            "Normal",
            reasons.CANARY_WITHDRAWN,
            "RollOut",
            f"the canary {before.canary} gave way to a change of the spec",
        )
    if new:
        yield "Normal", reasons.CANARY_STARTED, "RollOut", f"a canary began with {after.canary}: {_step(after)}"
    elif after.step > before.step:
        yield "Normal", reasons.CANARY_STEP, "RollOut", f"{_step(after)}: {after.message}"
    if after.phase == before.phase and not new:
        return
    if after.phase in {"Gated", "Inconclusive"}:
        yield "Normal", _REASONS[after.phase], "RollOut", f"{_step(after)}: {after.message}"
    elif after.phase == "Promoting":
        yield "Normal", reasons.CANARY_PROMOTING, "RollOut", after.message
    elif after.phase == "Promoted":
        yield "Normal", reasons.CANARY_PROMOTED, "RollOut", f"{after.canary} is in force"
    elif after.phase == "Aborted":
        yield (
            "Warning",
            reasons.CANARY_ABORTED,
            "RollBack",
            f"took {after.canary} back at step {after.step}: {after.message}",
        )


def _where(rollout: RolloutStatus) -> str:
    return f"{_step(rollout)}: {rollout.message}"


def _step(rollout: RolloutStatus) -> str:
    return f"step {rollout.step} ({rollout.weight}% of the requests)"
