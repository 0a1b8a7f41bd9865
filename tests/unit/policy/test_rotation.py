from collections import Counter
from math import ceil, inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_api.policies import PoolPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.rotation import NO_LIMIT, Lifespan


def make(seed: int = 5, **changes: object) -> Lifespan:
    return Lifespan(PoolPolicy(**changes), Random(seed))


def renewals(lifespan: Lifespan, connections: int, until: float) -> list[float]:
    """Connections born together at 0 and busy: each asks after every request, ten times a second."""
    ends = [lifespan.retire_at(0.0) for _ in range(connections)]
    gone: list[float] = []
    for tick in range(int(until * 10)):
        now, stay = tick / 10, []
        for end in ends:
            if now >= end and lifespan.may_retire(now, connections):
                gone.append(now)
            else:
                stay.append(end)
        ends = stay
    return gone


def most_in_any_second(instants: list[float]) -> int:
    per_tick = Counter(round(at * 10) for at in instants)
    return max(sum(per_tick[tick + i] for i in range(10)) for tick in per_tick)


def test_age_is_shortened_by_a_random_share() -> None:
    lifespan = make(max_age=Duration(300), jitter=Share(0.1))
    ends = [lifespan.retire_at(1000.0) for _ in range(1000)]
    assert 1270 <= min(ends) < 1273
    assert 1297 < max(ends) <= 1300


def test_without_an_age_a_connection_may_live_for_ever() -> None:
    assert make(max_age=Duration(0)).retire_at(0.0) == inf


def test_without_jitter_the_age_is_exact() -> None:
    lifespan = make(max_age=Duration(60), idle_timeout=Duration(7), jitter=Share(0))
    assert (lifespan.retire_at(5.0), lifespan.idle_limit()) == (65.0, 7.0)


def test_idle_limits_are_spread_too() -> None:
    lifespan = make(idle_timeout=Duration(60), jitter=Share(0.5))
    limits = [lifespan.idle_limit() for _ in range(500)]
    assert 30 <= min(limits) < 32
    assert 58 < max(limits) <= 60


def test_the_number_of_requests() -> None:
    assert make(max_requests=100).max_requests == 100
    assert make(max_requests=0).max_requests == NO_LIMIT


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("max_age", [10.0, 60.0, 300.0])
def test_a_thousand_connections_born_together_do_not_go_together(jitter: float, max_age: float) -> None:
    lifespan = make(max_age=Duration(max_age), jitter=Share(jitter))
    gone = renewals(lifespan, 1000, max_age + 12)
    assert len(gone) == 1000  # all renewed, about 10 s after maxAge at the latest
    assert most_in_any_second(gone) <= 2 * 1000 * max(0.1, 2 / max_age)  # two windows may meet in one second


def test_a_small_pool_renews_one_per_second() -> None:
    gone = renewals(make(max_age=Duration(60), jitter=Share(0)), 4, 70)
    assert [round(at) for at in gone] == [60, 61, 62, 63]


def test_an_age_below_the_cap_is_still_kept() -> None:
    gone = renewals(make(max_age=Duration(2), jitter=Share(0)), 100, 4)
    assert len(gone) == 100


@settings(max_examples=50, deadline=None)
@given(
    connections=st.integers(1, 200),
    asks=st.lists(st.floats(0, 1.5), min_size=1, max_size=300),
)
def test_never_more_than_the_share_within_one_window(connections: int, asks: list[float]) -> None:
    lifespan, now = make(max_age=Duration(300)), 0.0
    gone: list[float] = []
    for seconds in asks:
        now += seconds / 10
        if lifespan.may_retire(now, connections):
            gone.append(now)
    cap = max(1, -(-connections // 10))
    assert gone[0] == asks[0] / 10, "the first is never held back"
    for at in gone:
        assert sum(1 for other in gone if at <= other < at + 1) <= 2 * cap


def test_a_reload_changes_both() -> None:
    lifespan = make(max_age=Duration(300), jitter=Share(0))
    lifespan.configure(PoolPolicy(max_age=Duration(30), jitter=Share(0), max_requests=9))
    assert (lifespan.retire_at(1.0), lifespan.max_requests) == (31.0, 9)
    assert repr(lifespan) == "<Lifespan max_age=30 jitter=0>"


@settings(max_examples=40, deadline=None)
@given(
    connections=st.integers(20, 400),
    max_age=st.floats(5, 600),
    jitter=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
def test_no_herd_whatever_the_policy(connections: int, max_age: float, jitter: float, seed: int) -> None:
    """Born together, all are renewed, none before its time, about ten seconds late at most, and never many at once."""
    lifespan = make(seed, max_age=Duration(max_age), jitter=Share(jitter))
    gone = renewals(lifespan, connections, max_age + 14)
    share = max(0.1, min(1.0, 2 / max_age))
    assert len(gone) == connections
    assert min(gone) >= max_age * (1 - jitter) - 0.1
    assert most_in_any_second(gone) <= 2 * max(1, ceil(connections * share))
