"""The state machine: each defined answer as a row, then every path at random."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nova_api.names import ANNOTATION_ROLLOUT
from nova_api.rollout import Rollout, RolloutChecks, RolloutStep
from nova_api.status import RolloutStatus
from nova_operator.rollout.command import command_for, read_command
from nova_operator.rollout.judge import Judgement
from nova_operator.rollout.machine import PROGRESS_DEADLINE, Seen, Version, decide, is_under_way
from nova_operator.rollout.wanted import sizes, wanted

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
CANARY = Rollout(strategy="Canary")
GATED = Rollout(strategy="Canary", steps=(RolloutStep(weight=20, gate=True), RolloutStep(weight=100)))
GOOD, BAD, FEW = Judgement("good", "fine"), Judgement("bad", "it fails"), Judgement("few", "too few")
IDLE = RolloutStatus(stable="old")


def version(template: str, replicas: int = 10, **other: Any) -> Version:
    return Version(**{"template": template, "replicas": replicas, "available": replicas, "settled": True, **other})


def seen(**other: Any) -> Seen:
    """Ten pods, the spec asks for `new`, `old` is stable, and the canary has the pods of its first step."""
    base: dict[str, Any] = {
        "desired": "new", "stable": version("old"), "canary": version("new", 1), "replicas": 10, "judgement": GOOD,
    }  # fmt: skip
    return Seen(**{**base, **other})


def at(step: int, *, rollout: Rollout = CANARY, phase: Any = "Progressing", held: float | None = 0.0) -> RolloutStatus:
    """A canary at a step, whose pods have been ready for so many seconds."""
    stamp = "2026-01-05T09:59:00Z"
    since = "" if held is None else (NOW - timedelta(seconds=held)).isoformat()
    return RolloutStatus(
        phase=phase, step=step, weight=rollout.steps[step - 1].weight, stable="old", canary="new", started=stamp,
        since=stamp, hold_since=since,
    )  # fmt: skip


def ready(step: int) -> Version:
    """The canary with the pods of a step of the default."""
    return version("new", sizes(10, CANARY.steps[step - 1].weight, autoscaled=False)[1])


OVER = 301.0
"""Seconds after which the hold of a step is over."""

ROWS: dict[str, tuple[Rollout, RolloutStatus, Seen, tuple[str, int]]] = {
    "the first creation is no canary": (CANARY, RolloutStatus(), seen(stable=None, canary=None), ("Idle", 0)),
    "a service without pods takes the template at once": (CANARY, IDLE, seen(replicas=0), ("Idle", 0)),
    "a stable version that has no pod is not protected": (
        CANARY,
        IDLE,
        seen(stable=version("old", available=0)),
        ("Idle", 0),
    ),
    "it may lose its pods during a canary": (
        CANARY,
        at(1),
        seen(stable=version("old", available=0)),
        ("Progressing", 1),
    ),
    "a new template begins at step 1": (CANARY, IDLE, seen(canary=None), ("Progressing", 1)),
    "also after another was promoted": (
        CANARY,
        replace(IDLE, phase="Promoted", canary="old"),
        seen(),
        ("Progressing", 1),
    ),
    "the stable template is nothing new": (CANARY, IDLE, seen(desired="old", canary=None), ("Idle", 0)),
    "pods that start keep it waiting": (
        CANARY,
        at(1, held=None),
        seen(canary=version("new", 1, settled=False)),
        ("Progressing", 1),
    ),
    "pods of another size do so too": (CANARY, at(2, held=None), seen(), ("Progressing", 2)),
    "pods that are late end it": (
        CANARY,
        replace(at(1, held=None), since="2026-01-05T09:00:00Z"),
        seen(canary=None),
        ("Aborted", 1),
    ),
    "not those that became ready while no operator looked": (
        CANARY,
        replace(at(1, held=None), since="2026-01-05T09:00:00Z"),
        seen(),
        ("Progressing", 1),
    ),
    "pods that crash end it": (
        CANARY,
        at(1),
        seen(canary=version("new", 1, trouble="it keeps ending")),
        ("Aborted", 1),
    ),
    "pods of the canary before that crash do not": (
        CANARY,
        at(1),
        seen(canary=version("other", 1, trouble="x")),
        ("Progressing", 1),
    ),
    "the hold is waited for": (CANARY, at(1, held=299), seen(), ("Progressing", 1)),
    "then comes the next step": (CANARY, at(1, held=OVER), seen(), ("Progressing", 2)),
    "after the last one the promotion": (CANARY, at(3, held=61), seen(canary=ready(3)), ("Promoting", 3)),
    "not with pods that are ready no longer": (
        CANARY,
        at(3, held=61),
        seen(canary=replace(ready(3), available=3, settled=False)),
        ("Progressing", 3),
    ),
    "nor the next step, with little traffic": (
        replace(CANARY, on_inconclusive="Promote"),
        at(1, held=OVER),
        seen(judgement=FEW, canary=version("new", 1, available=0, settled=False)),
        ("Progressing", 1),
    ),
    "checks end it at once": (CANARY, at(1, held=2), seen(judgement=BAD), ("Aborted", 1)),
    "also while its pods start": (CANARY, at(1, held=None), seen(judgement=BAD), ("Aborted", 1)),
    "also at a gate": (GATED, at(1, rollout=GATED, phase="Gated", held=OVER), seen(judgement=BAD), ("Aborted", 1)),
    "also while it is inconclusive": (
        CANARY,
        at(1, phase="Inconclusive", held=OVER),
        seen(judgement=BAD),
        ("Aborted", 1),
    ),
    "little traffic holds it": (CANARY, at(1, held=OVER), seen(judgement=FEW), ("Inconclusive", 1)),
    "until there is enough": (CANARY, at(1, phase="Inconclusive", held=OVER), seen(), ("Progressing", 2)),
    "or aborts it": (replace(CANARY, on_inconclusive="Abort"), at(1, held=OVER), seen(judgement=FEW), ("Aborted", 1)),
    "or lets it go on": (
        replace(CANARY, on_inconclusive="Promote"),
        at(1, held=OVER),
        seen(judgement=FEW),
        ("Progressing", 2),
    ),
    "a gate waits for somebody": (GATED, at(1, rollout=GATED, held=OVER), seen(canary=version("new", 2)), ("Gated", 1)),
    "what was taken back stays so": (CANARY, at(1, phase="Aborted"), seen(canary=None), ("Aborted", 1)),
    "until there is another template": (CANARY, at(1, phase="Aborted"), seen(desired="newer"), ("Progressing", 1)),
    "or the stable one again": (CANARY, at(1, phase="Aborted"), seen(desired="old", canary=None), ("Idle", 0)),
    "but not while it waits for its database anew": (
        CANARY,
        at(1, phase="Aborted"),
        seen(desired="old", waiting="new", canary=None),
        ("Aborted", 1),
    ),
    "another that waits for it is no reason": (
        CANARY,
        at(1, phase="Aborted"),
        seen(desired="old", waiting="newer", canary=None),
        ("Idle", 0),
    ),
    "another template begins anew": (
        CANARY,
        at(2, held=OVER),
        seen(desired="newer", judgement=BAD),
        ("Progressing", 1),
    ),
    "the stable template ends it": (CANARY, at(2), seen(desired="old"), ("Idle", 0)),
    "a promotion waits for the Deployment": (CANARY, at(3, phase="Promoting"), seen(), ("Promoting", 3)),
    "also once it has the template": (
        CANARY,
        at(3, phase="Promoting"),
        seen(stable=version("new", settled=False)),
        ("Promoting", 3),
    ),
    "then it is done": (CANARY, at(3, phase="Promoting"), seen(stable=version("new")), ("Promoted", 0)),
    "another template during it begins anew": (
        CANARY,
        at(3, phase="Promoting"),
        seen(desired="newer"),
        ("Progressing", 1),
    ),
    "checks are over by then": (CANARY, at(3, phase="Promoting"), seen(judgement=BAD), ("Promoting", 3)),
    "a template that no canary can try": (CANARY, IDLE, seen(unfit="other ports"), ("Aborted", 1)),
    "also in the middle of another": (CANARY, at(2), seen(unfit="other ports"), ("Aborted", 1)),
    "but where nothing works it may": (CANARY, IDLE, seen(unfit="x", stable=version("old", available=0)), ("Idle", 0)),
    "strategy Rolling promotes what is under way": (Rollout(), at(1), seen(judgement=BAD), ("Promoting", 1)),
    "and sees that through": (Rollout(), at(1, phase="Promoting"), seen(stable=version("new")), ("Promoted", 0)),
    "it rolls what was taken back": (Rollout(), at(1, phase="Aborted"), seen(), ("Idle", 0)),
    "steps that were taken out of the spec": (
        replace(CANARY, steps=GATED.steps[1:]),
        at(3, held=OVER),
        seen(canary=ready(3)),
        ("Promoting", 3),
    ),
    "a clock that is behind": (CANARY, at(1, held=-100), seen(), ("Progressing", 1)),
}


@pytest.mark.parametrize(("rollout", "before", "saw", "after"), ROWS.values(), ids=ROWS)
def test_what_comes_next(rollout: Rollout, before: RolloutStatus, saw: Seen, after: tuple[str, int]) -> None:
    status = decide(rollout, before, saw, NOW)
    assert (status.phase, status.step) == after
    assert decide(rollout, status, saw, NOW) == status or is_under_way(status)  # nothing happens twice


def with_checks(**checks: Any) -> Rollout:
    return replace(CANARY, checks=RolloutChecks(**checks))


@pytest.mark.parametrize("judgement", [BAD, FEW])
@pytest.mark.parametrize("mode", ["Off", "Shadow"])
def test_checks_that_are_not_enforced_only_talk(mode: str, judgement: Judgement) -> None:
    rollout = with_checks(mode=mode)
    assert decide(rollout, at(1, held=OVER), seen(judgement=judgement), NOW).step == 2
    during = decide(rollout, at(1, held=5), seen(judgement=judgement), NOW)
    assert ("would take it back" in during.message) is (mode == "Shadow" and judgement is BAD)


def test_the_hold_counts_from_when_the_pods_are_ready() -> None:
    status = decide(CANARY, at(1, held=None), seen(), NOW)
    assert (status.hold_since, status.message) == ("2026-01-05T10:00:00Z", "step 1 holds for 300 s")


def test_the_reason_of_the_end_is_kept() -> None:
    status = decide(CANARY, at(1, held=3), seen(judgement=BAD), NOW)
    assert (status.message, status.weight, status.canary) == ("it fails", 0, "new")


@pytest.mark.parametrize("phase", ["Progressing", "Gated", "Inconclusive"])
def test_somebody_may_promote_or_abort_at_any_time(phase: Any) -> None:
    before = at(1, rollout=GATED, phase=phase)
    assert decide(GATED, before, seen(command=command_for("promote", before)), NOW).step == 2
    assert decide(GATED, before, seen(command=command_for("abort", before)), NOW).phase == "Aborted"


@pytest.mark.parametrize("step", ["", "-1", "one", "9" * 5000, "²"])
def test_what_names_no_step_is_no_command(step: str) -> None:
    assert read_command({"annotations": {ANNOTATION_ROLLOUT: f"promote a b {step}"}}) is None


def test_a_command_hits_the_canary_and_the_step_that_it_names_and_no_other() -> None:
    before = at(1, rollout=GATED, phase="Gated", held=OVER)
    promote = command_for("promote", before)
    after = decide(GATED, before, seen(command=promote), NOW)
    assert (
        decide(GATED, after, seen(command=promote, canary=None), NOW).step == after.step == 2
    )  # read twice, done once
    newer = seen(desired="newer", command=promote)
    restarted = decide(GATED, before, newer, NOW)
    assert decide(GATED, restarted, newer, NOW).step == 1
    again = replace(before, started="2026-01-05T10:00:00Z")  # the same template, tried anew
    assert decide(GATED, again, seen(command=command_for("abort", before)), NOW).phase == "Gated"


def test_an_abort_that_the_next_step_overtook_still_aborts() -> None:
    command = command_for("abort", at(1))
    assert decide(CANARY, at(2), seen(command=command, canary=ready(2)), NOW).phase == "Aborted"


def test_what_was_taken_back_may_be_tried_again() -> None:
    before = at(1, phase="Aborted")
    command = command_for("retry", before)
    after = decide(CANARY, before, seen(command=command), NOW)
    assert (after.phase, after.step, after.started) == ("Progressing", 1, "2026-01-05T10:00:00Z")
    aborted = replace(after, phase="Aborted")
    assert decide(CANARY, aborted, seen(command=command), NOW) == aborted  # once per command


def test_pods_have_as_long_as_those_of_a_deployment() -> None:
    just = NOW - timedelta(seconds=PROGRESS_DEADLINE - 1)
    before = replace(at(1, held=None), since=just.isoformat())
    assert decide(CANARY, before, seen(canary=None), NOW).phase == "Progressing"


versions = st.none() | st.builds(
    lambda t, n, a, s, x: Version(template=t, replicas=n, available=min(a, n), settled=s, trouble=x),
    st.sampled_from(["old", "new", "newer"]),
    st.integers(0, 12),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from(["", "", "crash"]),
)
sights = st.builds(
    Seen, desired=st.sampled_from(["old", "new", "newer"]), stable=versions, canary=versions,
    replicas=st.integers(0, 12), judgement=st.sampled_from([GOOD, BAD, FEW]), autoscaled=st.booleans(),
)  # fmt: skip
rollouts = st.sampled_from(
    [CANARY, GATED, Rollout(), with_checks(mode="Shadow"), replace(CANARY, on_inconclusive="Abort")]
)


@given(st.lists(st.tuples(rollouts, sights, st.floats(0, 700)), max_size=30))
def test_no_way_leads_to_nonsense(way: list[tuple[Rollout, Seen, float]]) -> None:
    """Whatever happens, in whatever order: the stable version is never left without pods, and a canary that was taken
    back has none."""
    status, now = RolloutStatus(), NOW
    for rollout, sight, seconds in way:
        now += timedelta(seconds=seconds)
        status = decide(rollout, status, sight, now)
        want = wanted(rollout, status, replicas=sight.replicas, canary_available=0, stable_tracked=True)
        if sight.replicas > 0 and want.stable_replicas is not None:
            assert want.stable_replicas >= (1 if sight.autoscaled else sight.replicas)
        assert (want.canary_replicas is not None) is is_under_way(status)
        assert is_under_way(status) or status.weight == 0
        assert want.traffic != "canary"  # none of its pods is ready
        if is_under_way(status):
            assert 1 <= status.step <= 3
            assert status.canary == sight.desired
            assert status.since


@pytest.mark.parametrize("garbage", ["yesterday", "", "2026-01-05T09:59:00", "12", "9999999999"])
def test_a_time_in_the_status_that_is_none_begins_the_wait_anew(garbage: str) -> None:
    """Somebody edited it: the service goes on, and nothing is promoted or taken back early."""
    waiting = replace(at(2, held=None), since=garbage)
    after = decide(CANARY, waiting, seen(canary=version("new", 1)), NOW)
    assert (after.phase, after.step, after.since) == ("Progressing", 2, "2026-01-05T10:00:00Z")
    holding = replace(at(2), hold_since=garbage or "never")
    after = decide(CANARY, holding, seen(canary=ready(2)), NOW)
    assert (after.phase, after.step, after.hold_since) == ("Progressing", 2, "2026-01-05T10:00:00Z")
    late = decide(CANARY, after, seen(canary=ready(2)), NOW + timedelta(seconds=OVER))
    assert (late.phase, late.step) == ("Progressing", 3)


@pytest.mark.parametrize("step", [0, -1, -99])
def test_a_step_in_the_status_that_cannot_be_is_the_first(step: int) -> None:
    after = decide(CANARY, replace(at(1), step=step), seen(canary=None), NOW)
    assert (after.phase, after.step, after.weight) == ("Progressing", 1, CANARY.steps[0].weight)
