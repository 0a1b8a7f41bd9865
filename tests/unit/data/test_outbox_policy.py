"""What the relay decides: waits, the breaker, and shares of the work."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.outbox.policy import Backoff, Breaker, Pace, share


@given(st.integers(1, 200), st.integers(0, 2**32))
def test_a_wait_is_in_the_upper_half_of_its_bound(failures: int, seed: int) -> None:
    wait = Backoff(1.0, 60.0, attempts=10**6).next(failures, Random(seed))
    bound = min(60.0, 2.0 ** (failures - 1))
    assert wait is not None
    assert bound / 2 <= wait <= bound


def test_the_last_attempt_has_no_next_one() -> None:
    backoff = Backoff(attempts=3)
    assert [backoff.next(failures, Random(1)) is None for failures in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(Random(1), base=1.0, longest=4.0)
    assert breaker.probe(0.0) == 0.0
    assert breaker.state == "closed"
    breaker.failed(10.0)
    assert breaker.state == "open"
    assert 0.5 <= breaker.probe(10.0) <= 1.0
    assert breaker.probe(breaker.until) == 0.0
    assert breaker.state == "half_open"
    breaker.failed(20.0)
    assert 1.0 <= breaker.until - 20.0 <= 2.0
    breaker.probe(30.0)
    breaker.succeeded()
    assert repr(breaker) == "<Breaker closed failures=0>"
    assert breaker.transitions == {"closed": 1, "open": 2, "half_open": 2}


def test_open_times_have_an_end() -> None:
    breaker = Breaker(Random(1), base=1.0, longest=4.0)
    for _ in range(50):
        breaker.failed(0.0)
    assert 2.0 <= breaker.until <= 4.0


def test_looks_become_rare_while_nothing_is_found() -> None:
    pace = Pace(0.02, 1.0)
    waits = []
    for _ in range(8):
        pace.looked(found=False)
        waits.append(pace.wait)
    assert waits == pytest.approx([0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0])
    pace.looked(found=True)
    assert pace.wait == 0.02


@given(st.integers(1, 64), st.integers(0, 100))
def test_all_slots_are_held_and_evenly(slots: int, relays: int) -> None:
    assert share(slots, relays) * max(1, relays) >= slots
    assert (share(slots, relays) - 1) * max(1, relays) < slots
