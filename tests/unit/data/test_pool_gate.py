import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.pool_gate import PoolGate
from nova_data.pool_reporter import PATIENCE, QUICK, STEADY, Pace, control_address, request


def filled(size: int, held: int, threshold: float = 0.85) -> PoolGate:
    gate = PoolGate(size, threshold=threshold)
    gate.threshold, wanted = 1.0, gate.threshold
    for _ in range(held):
        assert gate.admit() is None
        gate.took()
    gate.threshold = wanted
    return gate


@pytest.mark.parametrize(
    ("size", "threshold", "most"),
    [(20, 0.85, 18), (10, 0.85, 9), (100, 0.5, 51), (1, 0.85, 1), (2, 0.5, 2), (4, 0.01, 1), (20, 0.99, 20)],
)
def test_who_comes_above_the_threshold_is_refused(size: int, threshold: float, most: int) -> None:
    gate = filled(size, most - 1, threshold)
    assert gate.admit() is None  # utilization is looked at before
    gate.took()
    assert gate.admit() == "threshold"
    assert gate.exhausted == {"threshold": 1, "timeout": 0}
    gate.gave_back()
    assert gate.admit() is None


def test_at_a_threshold_of_one_nobody_is_refused() -> None:
    gate = filled(2, 2, 1.0)
    assert [gate.admit() for _ in range(50)] == [None] * 50
    assert gate.utilization == 1.0
    assert repr(gate) == "<PoolGate open held=2 asking=50 size=2>"


def test_a_burst_is_counted_before_the_pool_has_served_it() -> None:
    gate = PoolGate(10)
    assert [gate.admit() for _ in range(12)] == [None] * 9 + ["threshold"] * 3


def test_who_got_none_leaves_its_room() -> None:
    gate = PoolGate(1)
    assert gate.admit() is None
    gate.late()
    gate.gave_up()
    assert (gate.used, gate.exhausted["timeout"]) == (0, 1)
    assert gate.admit() is None


def test_what_others_take_past_the_gate_counts() -> None:
    others = 0
    gate = PoolGate(10, in_use=lambda: others)
    assert gate.admit() is None
    gate.took()
    others = 9
    assert (gate.used, gate.utilization) == (9, 0.9)
    assert gate.admit() == "threshold"


def test_a_pool_that_grows_has_room_again() -> None:
    size = 10
    gate = PoolGate(lambda: size)
    for _ in range(9):
        gate.admit()
    assert gate.full
    size = 20
    assert not gate.full
    size = 0  # a pool that is closed
    assert gate.size == 1


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_is_above_0_and_at_most_1(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        PoolGate(10, threshold=threshold)


def test_a_pool_has_a_connection() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        PoolGate(0)


@given(
    size=st.integers(1, 30),
    threshold=st.floats(0.01, 0.999),
    steps=st.lists(st.sampled_from(["admit", "took", "gave_up", "gave_back"]), max_size=200),
)
def test_never_more_than_one_beyond_the_threshold(size: int, threshold: float, steps: list[str]) -> None:
    gate, asking, held = PoolGate(size, threshold=threshold), 0, 0
    for step in steps:
        if step == "admit":
            asking += gate.admit() is None
        elif step in ("took", "gave_up") and asking:
            asking -= 1
            held += step == "took"
            getattr(gate, step)()
        elif step == "gave_back" and held:
            held -= 1
            gate.gave_back()
        assert (gate.asking, gate.held) == (asking, held)
        assert (gate.used - 1) / size <= threshold
        assert gate.full is (gate.used / size > threshold)


def test_the_first_report_goes_at_once_and_then_one_a_second() -> None:
    pace = Pace()
    assert pace.due(full=False, now=100.0) == 0
    pace.reported(full=False, now=100.0, taken=True)
    assert pace.due(full=False, now=100.25) == STEADY - 0.25
    assert pace.due(full=False, now=101.5) == 0


def test_a_pool_that_turns_is_reported_soon_but_not_without_end() -> None:
    pace = Pace()
    pace.reported(full=False, now=100.0, taken=True)
    assert pace.due(full=True, now=100.0) == pytest.approx(QUICK)
    assert pace.due(full=True, now=100.06) == 0
    pace.reported(full=True, now=100.06, taken=True)
    assert pace.due(full=False, now=100.06) == pytest.approx(QUICK)


def test_a_sidecar_that_is_not_there_is_left_alone_for_a_while() -> None:
    pace = Pace()
    pace.reported(full=False, now=100.0, taken=False)
    assert pace.due(full=True, now=100.0) == PATIENCE
    assert pace.due(full=True, now=105.5) == 0


def test_the_sidecar_is_found_without_a_word() -> None:
    assert control_address({}) == ("127.0.0.1", 15021)
    assert control_address({"NOVA_CONTROL_URL": "http://127.0.0.1:40123"}) == ("127.0.0.1", 40123)
    with pytest.raises(ValueError, match="NOVA_CONTROL_URL: expected a URL such as"):
        control_address({"NOVA_CONTROL_URL": "127.0.0.1:40123"})


def test_a_report_as_it_goes_out() -> None:
    gate = filled(20, 18)
    gate.admit()
    assert request("main", "5f0c" * 4, gate, ("127.0.0.1", 15021)) == (
        b"POST /pool-guard?pool=main&source=5f0c5f0c5f0c5f0c&held=18&size=20&exhausted=1 HTTP/1.1\r\n"
        b"Host: 127.0.0.1:15021\r\nContent-Length: 0\r\n\r\n"
    )
