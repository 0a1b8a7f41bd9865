"""The guard against frames that only cost work: attacks empty the bucket, heavy use does not."""

import pytest

from nova_sidecar.policy.flood import CAPACITY, CONTROL, EARNED, EMPTY, REFILL, RESET, TRICKLE, FloodGuard
from nova_sidecar.policy.reasons import Reason


def refused_after(cost: float, *, rate: float, seconds: float = 60.0) -> int | None:
    """How many frames of this cost, at this rate a second, a fresh connection takes; None: all of them."""
    guard = FloodGuard(0.0)
    for number in range(int(rate * seconds)):
        refusal = guard.admit(cost, number / rate)
        if refusal is not None:
            assert refusal.reason is Reason.FLOOD
            return number
    return None


@pytest.mark.parametrize("cost", [RESET, CONTROL, EMPTY, TRICKLE])
def test_a_flood_ends_within_a_second(cost: float) -> None:
    taken = refused_after(cost, rate=100_000)
    assert taken is not None
    assert taken <= (CAPACITY + REFILL) / cost


@pytest.mark.parametrize(("cost", "rate"), [(RESET, 100), (CONTROL, 100), (EMPTY, 200), (TRICKLE, 800)])
def test_a_steady_trickle_goes_on_for_ever(cost: float, rate: float) -> None:
    assert refused_after(cost, rate=rate * 0.99) is None
    assert refused_after(cost, rate=rate * 1.2, seconds=200) is not None


def test_a_burst_of_resets_is_no_attack() -> None:
    """A client that gives up cancels whatever it has open: a thousand streams at once."""
    guard = FloodGuard(0.0)
    assert [guard.admit(RESET, 0.0) for _ in range(1000)] == [None] * 1000
    assert guard.admit(RESET, 0.0) is not None


@pytest.mark.parametrize("rate", [100, 10_000])
def test_heavy_use_with_a_normal_share_of_cancels_never_trips_it(rate: int) -> None:
    """Every fourth call is cancelled, every one sends an update of its window that is small."""
    guard = FloodGuard(0.0)
    for number in range(100_000):
        now = number / rate
        assert guard.admit(TRICKLE, now) is None
        if number % 4 == 0:
            assert guard.admit(RESET, now) is None
        else:
            guard.record()


def test_resetting_most_streams_is_an_attack_whatever_else_is_served() -> None:
    guard = FloodGuard(0.0)
    for number in range(100_000):
        if guard.admit(RESET, number / 20_000) is not None:
            return
        if number % 10 == 0:
            guard.record()
    pytest.fail("90 % of 20 000 streams a second were reset and nobody minded")


def test_good_streams_are_not_saved_up() -> None:
    guard = FloodGuard(0.0)
    guard.record(1_000_000)
    assert guard.snapshot(0.0) == {"left": CAPACITY, "capacity": CAPACITY}
    assert guard.admit(RESET, 0.0) is None
    guard.record()
    assert guard.snapshot(0.0)["left"] == CAPACITY - RESET + EARNED
    assert guard.snapshot(1e9)["left"] == CAPACITY
    assert repr(guard) == "<FloodGuard left=1999>"
