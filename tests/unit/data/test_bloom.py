import random
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.dedup.bloom import GENERATIONS, Bloom, RecentKeys, bits, hashes
from nova_data.dedup.key import LONGEST, checked_scope, digest


def keys(count: int, scope: str = "s") -> list[bytes]:
    return [digest(scope, str(number)) for number in range(count)]


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=200), st.integers(1, 500), st.floats(0.001, 0.5))
def test_what_was_added_is_never_denied(some: set[bytes], capacity: int, error: float) -> None:
    bloom = Bloom(capacity, error)
    for key in some:
        bloom.add(key)
    assert all(key in bloom for key in some)


@pytest.mark.parametrize("error", [0.1, 0.01, 0.001])
def test_as_many_wrong_answers_as_it_was_made_for(error: float) -> None:
    bloom = Bloom(10_000, error)
    for key in keys(10_000):
        bloom.add(key)
    wrong = sum(key in bloom for key in keys(20_000, "others")) / 20_000
    assert error / 4 < wrong < error * 1.5


def test_its_size_is_the_optimum() -> None:
    assert bits(1000, 0.01) == 9586  # -1000 ln 0.01 / (ln 2)^2
    assert hashes(1000, 0.01) == 7
    assert Bloom(1000, 0.01).bytes == 1199
    assert bits(1, 0.99) == 8
    assert -log(0.01) / log(2) ** 2 * 144_000_000 / 8 < 173e6  # a day at 100 000 a minute


@pytest.mark.parametrize(("capacity", "error"), [(0, 0.1), (10, 0.0), (10, 1.0), (10, float("nan"))])
def test_a_size_that_is_none_is_refused(capacity: int, error: float) -> None:
    with pytest.raises(ValueError, match="capacity from 1"):
        Bloom(capacity, error)


def test_an_overfull_filter_says_maybe_more_often_and_denies_nothing() -> None:
    bloom = Bloom(10, 0.01)
    for key in keys(1000):
        bloom.add(key)
    assert all(key in bloom for key in keys(1000))
    assert sum(key in bloom for key in keys(1000, "others")) > 500


def test_a_key_is_known_for_a_lifetime_and_forgotten_after_one_and_a_half() -> None:
    recent = RecentKeys(1000, 0.001, lifetime=100)
    (key,) = keys(1)
    assert not recent.maybe(key, 0.0)
    recent.add(key, 49.0)
    assert recent.maybe(key, 149.0)
    assert not recent.maybe(key, 200.0)


def test_after_a_long_rest_everything_is_forgotten_and_the_ring_goes_on() -> None:
    recent = RecentKeys(1000, 0.001, lifetime=100)
    (key,) = keys(1)
    recent.add(key, 0.0)
    assert not recent.maybe(key, 1_000_000.0)
    recent.add(key, 1_000_000.0)
    assert recent.maybe(key, 1_000_049.0)


@given(st.lists(st.floats(0, 60), min_size=1, max_size=60), st.floats(1, 200))
def test_whatever_the_pace_nothing_is_denied_within_its_lifetime(gaps: list[float], lifetime: float) -> None:
    recent, now, added = RecentKeys(100, lifetime=lifetime), 0.0, []
    for number, gap in enumerate(gaps):
        now += gap
        added.append((now, digest("s", str(number))))
        recent.add(added[-1][1], now)
        assert all(recent.maybe(key, now) for at, key in added if now - at <= lifetime * 0.999)
    assert repr(recent).count("<Bloom") <= GENERATIONS
    assert recent.bytes <= GENERATIONS * Bloom(50, 0.01).bytes


def test_a_lifetime_is_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        RecentKeys(10, lifetime=0)


def test_a_key_is_sixteen_bytes_and_belongs_to_its_scope() -> None:
    assert len(digest("a", "b")) == 16
    assert len({digest("a", "b"), digest("b", "b"), digest("a", "c"), digest("ab", "x")}) == 4
    assert digest("a", "ä\ud800") != digest("a", "ä")
    for bad in ("", "x" * (LONGEST + 1)):
        with pytest.raises(ValueError, match="idempotency key: expected 1 to 512 characters"):
            digest("a", bad)


@pytest.mark.parametrize("scope", ["", "A", "a" * 65, "a b", "-a", "a\n"])
def test_a_scope_is_a_short_name(scope: str) -> None:
    with pytest.raises(ValueError, match="scope: expected"):
        checked_scope(scope)


def test_halves_of_random_digests_are_spread() -> None:
    rng = random.Random(7)
    bloom = Bloom(100, 0.01)
    for _ in range(100):
        bloom.add(rng.randbytes(16))
    assert "<Bloom 100/100" in repr(bloom)
