"""`nova rollout` speaks of the canary of the spec that there is: not of the end of the one before when it watches, and
not of the next one when it was told to do something."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from nova_api.model import builtins
from nova_api.status import Condition, NovaServiceStatus, RolloutStatus
from nova_cli.errors import CommandError
from nova_cli.rollout import tell, watch
from nova_cli.rollout.service import Service
from nova_operator import reasons
from nova_operator.cluster import UnavailableError

Get = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

GENERATION = 4
BEFORE = RolloutStatus(phase="Promoted", stable="aaa", canary="aaa", message="the new version is in force")
BEGUN = RolloutStatus(phase="Progressing", step=1, weight=10, stable="aaa", canary="bbb", message="its pods start")
OVER = RolloutStatus(phase="Promoted", stable="bbb", canary="bbb", message="the new version is in force")


def document(found: RolloutStatus, *conditions: Condition, observed: int = GENERATION) -> dict[str, Any]:
    status = NovaServiceStatus(observed_generation=observed, rollout=found, conditions=conditions)
    metadata = {"name": "shop", "namespace": "web", "generation": GENERATION}
    return {"metadata": metadata, "spec": {"rollout": {"strategy": "Canary"}}, "status": builtins(status)}


def condition(kind: str, value: Any, reason: str) -> Condition:
    return Condition(
        type=kind,
        status=value,
        reason=reason,
        message="so it is",
        observed_generation=GENERATION,
        last_transition_time="T",
    )


def answers(*documents: dict[str, Any] | Exception) -> Get:
    """One after the other, and each once: who stops early leaves some, who does not stop finds none."""
    left = list(documents)

    async def get() -> dict[str, Any]:
        if isinstance(found := left.pop(0), Exception):
            raise found
        return found

    return get


def slow(*documents: dict[str, Any] | Exception) -> tuple[Get, Callable[[], float]]:
    """The same, and a clock by which each takes 25 s."""
    looks, now = answers(*documents), 0.0

    async def get() -> dict[str, Any]:
        nonlocal now
        now += 25.0
        return await looks()

    return get, lambda: now


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tell, watch):
        monkeypatch.setattr(module, "PERIOD", 0.0)


@pytest.mark.parametrize(
    ("before", "end", "code"),
    [
        (BEFORE, OVER, 0),
        (RolloutStatus(), OVER, 0),
        (RolloutStatus(phase="Aborted", canary="ccc"), OVER, 0),
        (BEFORE, RolloutStatus(phase="Aborted", canary="bbb"), 1),
    ],
)
def test_a_change_that_the_operator_has_not_seen_is_waited_for(
    before: RolloutStatus, end: RolloutStatus, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    get = answers(document(before, observed=3), document(before, observed=3), document(BEGUN), document(end))
    assert asyncio.run(watch.follow(get, watch=True)) == code
    said = capsys.readouterr().out
    assert said.startswith("shop in web: the operator has not looked at this spec yet\nshop in web: Progressing")
    assert end.phase in said


def test_an_operator_that_does_not_come_is_asked_for_once_in_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Of how long nobody looked at this spec, not at the one before."""
    unseen = document(BEFORE, observed=3)
    get, clock = slow(*[document(BEGUN)] * 3, *[unseen] * 6, document(BEGUN), document(OVER))
    assert asyncio.run(watch.follow(get, watch=True, clock=clock)) == 0
    spec = "shop in web: the operator has not looked at this spec yet"
    asked = [line for line in capsys.readouterr().out.splitlines() if line.startswith(spec)]
    question = "; is an operator running for this namespace?"
    assert asked == [spec, f"{spec}, for 1 min{question}", f"{spec}, for 2 min{question}"]


@pytest.mark.parametrize("reason", [reasons.DATABASE_PREPARING, reasons.IMAGE_PULL_FAILED])
def test_a_canary_that_waits_for_its_database_is_waited_for(reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    waits = condition("DatabaseReady", "False", reason)
    get = answers(document(BEFORE, waits), document(BEFORE, waits), document(BEGUN), document(OVER))
    assert asyncio.run(watch.follow(get, watch=True)) == 0
    assert capsys.readouterr().out.startswith("shop in web: waits for its database: so it is\nshop in web: Progressing")


@pytest.mark.parametrize("found", [BEFORE, BEGUN])
def test_a_spec_that_nobody_can_put_into_force_is_no_success(found: RolloutStatus) -> None:
    """Nor is one that follows a canary which is under way: nobody leads that on until the spec is right."""
    stalled = condition("Stalled", "True", reasons.SPEC_INVALID)
    with pytest.raises(CommandError, match="shop goes on only when somebody acts: so it is"):
        asyncio.run(watch.follow(answers(document(found, stalled)), watch=True))


LATE = condition("Stalled", "True", reasons.PROGRESS_DEADLINE_EXCEEDED)
PROMOTING = replace(BEGUN, phase="Promoting", weight=100)
KNOWN = {reason: condition("Canary", "True", reason) for reason in (reasons.CANARY_GATED, reasons.CANARY_PROMOTING)}


@pytest.mark.parametrize(
    "on_the_way",
    [
        document(BEGUN, LATE),
        document(replace(BEGUN, phase="Gated"), LATE, KNOWN[reasons.CANARY_GATED]),
        document(PROMOTING, LATE, KNOWN[reasons.CANARY_GATED]),
        document(BEFORE, LATE, condition("DatabaseReady", "False", reasons.DATABASE_PREPARING)),
    ],
)
def test_pods_of_the_stable_version_that_are_late_are_no_end_of_a_canary(on_the_way: dict[str, Any]) -> None:
    assert asyncio.run(watch.follow(answers(on_the_way, document(OVER)), watch=True)) == 0


@pytest.mark.parametrize(
    "at_last",
    [
        document(PROMOTING, LATE, KNOWN[reasons.CANARY_PROMOTING]),
        document(OVER, LATE),
        document(RolloutStatus(), LATE, condition("DatabaseReady", "True", reasons.DATABASE_PREPARED)),
    ],
)
def test_pods_of_the_new_version_that_are_late_are_its_end(at_last: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match="shop goes on only when somebody acts: so it is"):
        asyncio.run(watch.follow(answers(document(BEGUN), at_last), watch=True))


def test_a_canary_that_was_taken_back_is_told_of_though_pods_are_late(capsys: pytest.CaptureFixture[str]) -> None:
    over = RolloutStatus(phase="Aborted", canary="bbb", message="its requests failed")
    assert asyncio.run(watch.follow(answers(document(BEGUN), document(over, LATE)), watch=True)) == 1
    assert capsys.readouterr().out.endswith("its requests failed\n")


def test_a_canary_that_is_tried_again_is_followed_before_the_conditions_know_of_it() -> None:
    stalled = condition("Stalled", "True", reasons.CANARY_ABORTED)
    assert asyncio.run(watch.follow(answers(document(BEGUN, stalled), document(OVER)), watch=True)) == 0


AWAY = UnavailableError("GET /apis: 503 it restarts")


def test_an_api_server_that_restarts_is_no_end_of_a_canary() -> None:
    get = answers(document(BEGUN), AWAY, AWAY, document(BEGUN), AWAY, document(OVER))
    assert asyncio.run(watch.follow(get, watch=True)) == 0


def test_one_that_stays_away_is_waited_for_a_minute() -> None:
    away = [AWAY] * 2
    get, clock = slow(document(BEGUN), *away, document(BEGUN), *away, document(OVER))
    assert asyncio.run(watch.follow(get, watch=True, clock=clock)) == 0
    get, clock = slow(document(BEGUN), *away, AWAY, document(OVER))
    with pytest.raises(UnavailableError):
        asyncio.run(watch.follow(get, watch=True, clock=clock))


@pytest.mark.parametrize("goes_on", [True, False])
def test_one_that_was_never_there_is_not_waited_for(goes_on: bool) -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(watch.follow(answers(AWAY, document(OVER)), watch=goes_on))


def test_without_watch_it_says_what_there_is_and_ends() -> None:
    assert asyncio.run(watch.follow(answers(document(BEFORE, observed=3)), watch=False)) == 0


class Told(Service):
    """A NovaService that is told something, and what it says one look after the other."""

    def __init__(self, *found: RolloutStatus | Exception) -> None:
        self.namespace, self.name = "web", "shop"
        self._look = answers(*(one if isinstance(one, Exception) else document(one) for one in found))
        self.written: list[str] = []

    async def get(self) -> dict[str, Any]:
        return await self._look()

    async def annotate(self, document: dict[str, Any], value: str) -> None:
        self.written.append(value)


GATED = RolloutStatus(phase="Gated", step=1, weight=10, stable="aaa", canary="bbb", started="T1")
NEWER = RolloutStatus(phase="Progressing", step=1, weight=10, stable="aaa", canary="ccc", started="T2")
NEXT = replace(GATED, phase="Progressing", step=2)
TAKEN_BACK = replace(GATED, phase="Aborted", weight=0)
COMING = replace(GATED, phase="Promoting", weight=100)
IN_FORCE = RolloutStatus(phase="Promoted", stable="bbb", canary="bbb", started="T1")
AGAIN = replace(GATED, phase="Progressing", started="T2")
REFUSED = replace(TAKEN_BACK, started="T2", message="ports cannot change by a canary")


@pytest.mark.parametrize(
    ("verb", "before", "after", "fate"),
    [
        ("promote", GATED, NEWER, "gave way to a change of the spec"),
        ("abort", GATED, NEWER, "gave way to a change of the spec"),
        ("abort", GATED, RolloutStatus(stable="aaa"), "gave way to a change of the spec"),
        ("abort", GATED, COMING, "comes into force already"),
        ("abort", GATED, IN_FORCE, "comes into force already"),
        ("promote", GATED, TAKEN_BACK, "was taken back"),
        ("retry", TAKEN_BACK, REFUSED, "was taken back again: ports cannot change by a canary"),
        ("retry", TAKEN_BACK, NEWER, "gave way to a change of the spec"),
        ("retry", TAKEN_BACK, RolloutStatus(stable="aaa"), "gave way to a change of the spec"),
    ],
)
def test_a_command_that_came_too_late_or_to_nothing_is_no_success(
    verb: Any, before: RolloutStatus, after: RolloutStatus, fate: str
) -> None:
    service = Told(before, before, after)
    with pytest.raises(CommandError, match=f"nothing was done: the canary bbb of shop {fate}"):
        asyncio.run(tell.tell(service, verb))
    assert service.written == [f"{verb} bbb T1 1"]


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("promote", GATED, NEXT),
        ("promote", GATED, COMING),
        ("promote", GATED, IN_FORCE),
        ("abort", GATED, TAKEN_BACK),
        ("retry", TAKEN_BACK, AGAIN),
        ("retry", TAKEN_BACK, RolloutStatus(stable="bbb", message="the stable version had no pod that works")),
    ],
)
def test_a_command_that_was_done_is_one(verb: Any, before: RolloutStatus, after: RolloutStatus) -> None:
    assert asyncio.run(tell.tell(Told(before, before, after), verb)) == 0


def test_a_command_that_is_written_down_outlives_a_restart_of_the_api_server() -> None:
    assert asyncio.run(tell.tell(Told(GATED, AWAY, GATED, AWAY, TAKEN_BACK), "abort")) == 0


@pytest.mark.parametrize(
    ("after", "lacking"),
    [
        (AWAY, "the API server does not say whether it is done: GET /apis: 503"),
        (GATED, "the operator has not taken it"),
    ],
)
def test_a_command_that_nobody_answers_is_said_to_be_written_down(
    after: RolloutStatus | Exception, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tell, "ANSWER_WITHIN", -1.0)
    with pytest.raises(CommandError, match=f"it is written down, but {lacking}"):
        asyncio.run(tell.tell(Told(GATED, after, TAKEN_BACK), "abort"))
