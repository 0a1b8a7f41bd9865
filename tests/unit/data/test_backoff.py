"""Waits before another attempt."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nova_data.backoff import Backoff


@given(st.integers(1, 200), st.integers(0, 2**32))
def test_a_wait_is_in_the_upper_half_of_its_bound(failures: int, seed: int) -> None:
    wait = Backoff(1.0, 60.0, attempts=10**6).next(failures, Random(seed))
    bound = min(60.0, 2.0 ** (failures - 1))
    assert wait is not None
    assert bound / 2 <= wait <= bound


def test_the_last_attempt_has_no_next_one() -> None:
    backoff = Backoff(attempts=3)
    assert [backoff.next(failures, Random(1)) is None for failures in (1, 2, 3, 4)] == [False, False, True, True]
