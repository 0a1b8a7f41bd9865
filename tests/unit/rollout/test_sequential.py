"""The bounds hold at every look at once, and close in as the samples grow."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_operator.rollout.sequential import lower_bound, upper_bound

counts = st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.floats(1e-6, 0.5))
def test_the_observed_share_lies_between_the_bounds(count: tuple[int, int], alpha: float) -> None:
    events, samples = count
    low, high = lower_bound(events, samples, alpha), upper_bound(events, samples, alpha)
    assert 0 <= low <= high <= 1
    if samples:
        assert low <= events / samples <= high


@given(counts, st.floats(1e-6, 0.25))
def test_who_wants_to_be_surer_knows_less(count: tuple[int, int], alpha: float) -> None:
    events, samples = count
    assert lower_bound(events, samples, alpha / 2) <= lower_bound(events, samples, alpha)
    assert upper_bound(events, samples, alpha / 2) >= upper_bound(events, samples, alpha)


@given(counts)
def test_a_failure_is_the_mirror_image_of_a_success(count: tuple[int, int]) -> None:
    events, samples = count
    if 0 < events < samples:
        mirrored = 1 - upper_bound(samples - events, samples, 0.01)
        assert lower_bound(events, samples, 0.01) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize(
    ("events", "samples", "low", "high"),
    [(0, 0, 0, 1), (0, 1000, 0, 0.01), (10, 1000, 0.0019, 0.03), (500, 1000, 0.43, 0.57), (20, 20, 0.6, 1)],
)
def test_known_values(events: int, samples: int, low: float, high: float) -> None:
    """Wide enough to be right, narrow enough to be of use."""
    assert low <= lower_bound(events, samples, 0.01)
    assert upper_bound(events, samples, 0.01) <= high


@pytest.mark.parametrize("share", [0.002, 0.01, 0.1, 0.5])
def test_the_true_share_is_hardly_ever_outside_at_any_of_many_looks(share: float) -> None:
    """With alpha 10 % on each side, of 200 series 40 may leave the bounds; looking 60 times must not make it more."""
    random, left = Random(f"{share}"), 0
    for _ in range(200):
        events = samples = 0
        for _ in range(60):
            samples += 50
            events += sum(random.random() < share for _ in range(50))
            if not lower_bound(events, samples, 0.1) <= share <= upper_bound(events, samples, 0.1):
                left += 1
                break
    assert left <= 40
