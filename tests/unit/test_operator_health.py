"""What the probes say, and when: watches that are silent cost readiness first and the process in the end."""

import pytest

from nova_operator.health import State
from nova_operator.pulse import DEAD, SILENCE, UNREADY, Pulse

PODS, SERVICES = "/api/v1/pods", "/apis/nova.dev/v1alpha1/novaservices"


def state(**changes: bool) -> State:
    usual = {"connected": True, "leading": True, "watching": True}
    one = State(**{**usual, **changes})
    one.pulse.opened(PODS, 0.0)
    one.pulse.opened(SERVICES, 0.0)
    return one


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"connected": False}, "the API server has not answered yet"),
        ({"webhooks": False}, "the webhooks do not answer"),
        ({"watching": False}, "the watches are not open"),
        ({"watching": False, "leading": False}, None),
    ],
)
def test_why_a_replica_is_not_ready(changes: dict[str, bool], said: str | None) -> None:
    trouble = state(**changes).unready(1.0)
    assert trouble is None if said is None else said in (trouble or "")


def test_silence_costs_readiness_and_then_the_process() -> None:
    one = state()
    one.pulse.heard(SERVICES, SILENCE * DEAD)
    assert one.unready(SILENCE * UNREADY) is None
    trouble = one.unready(SILENCE * UNREADY + 1)
    assert trouble is not None
    assert PODS in trouble
    assert one.dead(SILENCE * DEAD) is None
    assert one.dead(SILENCE * DEAD + 1) is not None


def test_a_replica_that_waits_has_no_watches_to_lose() -> None:
    one = state(leading=False, watching=False)
    assert (one.unready(1e6), one.dead(1e6)) == (None, None)


def test_opening_a_watch_anew_is_no_sign_of_life_and_a_word_is() -> None:
    pulse = Pulse(10.0)
    pulse.opened(PODS, 0.0)
    pulse.opened(PODS, 30.0)
    assert pulse.longest(30.0) == 30.0
    pulse.heard(PODS, 30.0)
    assert pulse.silent(31.0, UNREADY) is None
    pulse.begin()
    assert (pulse.longest(1e6), pulse.silent(1e6, UNREADY)) == (0.0, None)
