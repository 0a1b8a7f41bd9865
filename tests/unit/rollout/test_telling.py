"""Conditions and Events of a canary."""

from typing import Any

import pytest

from nova_api.status import RolloutStatus
from nova_operator.rollout.telling import stories, verdicts

IDLE = RolloutStatus(stable="old")


def at(phase: Any, step: int = 1, started: str = "T1", message: str = "so it is") -> RolloutStatus:
    return RolloutStatus(
        phase=phase, step=step, weight=10, stable="old", canary="new", started=started, message=message
    )


def told(before: RolloutStatus, after: RolloutStatus) -> list[str]:
    return [reason for _, reason, _, _ in stories(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (IDLE, at("Progressing"), ["CanaryStarted"]),
        (at("Progressing"), at("Progressing", message="another"), []),
        (at("Progressing"), at("Progressing", step=2), ["CanaryStep"]),
        (at("Gated"), at("Progressing", step=2), ["CanaryStep"]),
        (at("Progressing"), at("Gated"), ["CanaryGated"]),
        (at("Progressing"), at("Inconclusive"), ["CanaryInconclusive"]),
        (at("Progressing", step=3), at("Promoting", step=3), ["CanaryPromoting"]),
        (at("Promoting", step=3), at("Promoted", step=0), ["CanaryPromoted"]),
        (at("Gated"), at("Aborted"), ["CanaryAborted"]),
        (at("Aborted"), at("Aborted"), []),
        (at("Aborted"), at("Progressing", started="T2"), ["CanaryStarted"]),
        (at("Progressing", step=2), at("Progressing", started="T2"), ["CanaryWithdrawn", "CanaryStarted"]),
        (at("Progressing"), IDLE, ["CanaryWithdrawn"]),
        (at("Aborted"), IDLE, []),
        (at("Promoted", step=0), at("Progressing", started="T2"), ["CanaryStarted"]),
        (IDLE, IDLE, []),
    ],
)
def test_an_event_for_each_step_and_each_end(before: RolloutStatus, after: RolloutStatus, reasons: list[str]) -> None:
    assert told(before, after) == reasons


def test_a_rollback_is_a_warning_that_says_why() -> None:
    ((kind, _, action, note),) = stories(at("Progressing", step=2), at("Aborted", step=2, message="it fails"))
    assert (kind, action, note) == ("Warning", "RollBack", "took new back at step 2: it fails")


@pytest.mark.parametrize("phase", ["Progressing", "Gated", "Inconclusive", "Promoting"])
def test_ready_waits_for_the_promotion(phase: str) -> None:
    found = verdicts(at(phase), hindered=False, troubled=False)
    statuses = {kind: verdict.status for kind, verdict in found.items()}
    assert statuses == {"Canary": "True", "Ready": "False", "Progressing": "True", "Reconciling": "True"}
    assert {verdict.reason for verdict in found.values()} == {f"Canary{phase}"}
    assert found["Ready"].message == "step 1 (10% of the requests): so it is"


def test_what_was_taken_back_needs_somebody() -> None:
    found = verdicts(at("Aborted"), hindered=False, troubled=False)
    assert {kind: verdict.status for kind, verdict in found.items()} == {
        "Ready": "False", "Degraded": "True", "Stalled": "True",
    }  # fmt: skip
    assert "was taken back: so it is" in found["Degraded"].message


def test_what_is_worse_is_told_first() -> None:
    assert set(verdicts(at("Progressing"), hindered=True, troubled=True)) == {"Canary"}
    assert set(verdicts(at("Aborted"), hindered=False, troubled=True)) == {"Ready"}
    assert not verdicts(at("Aborted"), hindered=True, troubled=True)


@pytest.mark.parametrize("status", [RolloutStatus(), IDLE, at("Promoted", step=0)])
def test_without_a_canary_nothing_is_told(status: RolloutStatus) -> None:
    assert not verdicts(status, hindered=False, troubled=False)
