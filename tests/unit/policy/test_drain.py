import pytest

from nova_api.proxy import DrainPolicy
from nova_api.units import Duration
from nova_sidecar.policy.drain import Drainer, Phase


def make(delay: float = 10, timeout: float = 30) -> Drainer:
    return Drainer(DrainPolicy(delay=Duration(delay), timeout=Duration(timeout)))


def test_the_way_out() -> None:
    drainer = make()
    assert str(drainer.phase) == "serving"
    assert drainer.advance(0.0, 5) is None
    assert drainer.begin(100.0) is True
    assert str(drainer.phase) == "leaving"
    assert drainer.advance(105.0, 0) == 110.0  # nothing in flight, but callers may still come
    assert str(drainer.phase) == "leaving"
    assert drainer.advance(110.0, 2) == 140.0
    assert str(drainer.phase) == "closing"
    assert drainer.advance(111.0, 1) == 140.0
    assert drainer.advance(112.0, 0) is None
    assert str(drainer.phase) == "drained"


def test_who_does_not_finish_in_time_is_not_waited_for() -> None:
    drainer = make()
    drainer.begin(0.0)
    assert drainer.advance(10.0, 3) == 40.0
    assert drainer.advance(39.9, 3) == 40.0
    assert drainer.advance(40.0, 3) is None
    assert str(drainer.phase) == "drained"


def test_a_second_request_to_leave_changes_nothing() -> None:
    drainer = make()
    assert drainer.begin(0.0) is True
    assert drainer.begin(9.0) is False
    assert drainer.advance(9.0, 1) == 10.0


def test_a_late_timer_passes_through_both_phases() -> None:
    drainer = make()
    drainer.begin(0.0)
    assert drainer.advance(1000.0, 1) is None
    assert str(drainer.phase) == "drained"


@pytest.mark.parametrize(("in_flight", "phase"), [(0, Phase.DRAINED), (1, Phase.CLOSING)])
def test_without_a_delay_it_closes_at_once(in_flight: int, phase: Phase) -> None:
    drainer = make(delay=0)
    drainer.begin(0.0)
    drainer.advance(0.0, in_flight)
    assert drainer.phase is phase


def test_new_times_apply_to_the_next_drain_not_to_the_one_under_way() -> None:
    drainer = make(delay=1)
    drainer.configure(DrainPolicy(delay=Duration(2)))
    drainer.begin(0.0)
    drainer.configure(DrainPolicy(delay=Duration(3)))
    assert drainer.advance(0.0, 1) == 2.0


def test_snapshot_and_repr_tell_the_phase() -> None:
    drainer = make()
    assert drainer.snapshot(0.0) == {"phase": "serving", "secondsLeft": None}
    drainer.begin(0.0)
    assert drainer.snapshot(4.0) == {"phase": "leaving", "secondsLeft": 6.0}
    drainer.advance(10.0, 1)
    assert drainer.snapshot(15.0) == {"phase": "closing", "secondsLeft": 25.0}
    assert repr(drainer) == "<Drainer closing>"
