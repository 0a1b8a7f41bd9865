from math import inf
from random import Random

import pytest

from nova_api.policies import WebSocketPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.closing import Closing


def make(seed: int = 1, **fields: object) -> Closing:
    return Closing(WebSocketPolicy(**fields), Random(seed))  # type: ignore[arg-type]  # each field has its own type


def test_limits_are_shortened_by_the_jitter_and_never_lengthened() -> None:
    closing = make(idle_timeout=Duration(100), max_age=Duration(1000), jitter=Share(0.2))
    idle = [closing.idle_limit() for _ in range(1000)]
    age = [closing.age_limit() for _ in range(1000)]
    assert 80 <= min(idle) < 82
    assert 98 < max(idle) <= 100
    assert 800 <= min(age) < 820
    assert 980 < max(age) <= 1000


def test_nothing_is_not_at_once_but_never() -> None:
    closing = make(idle_timeout=Duration(0), max_age=Duration(0))
    assert (closing.idle_limit(), closing.age_limit(), closing.latecomer(5.0)) == (inf, inf, inf)


@pytest.mark.parametrize("count", [1, 2, 7, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_closes_are_spread_evenly_and_in_random_order(count: int, seed: int) -> None:
    closing = make(seed, spread=Duration(20))
    closing.leave(100.0, 30.0)
    instants = list(closing.spread(count))
    pieces = sorted(int((instant - 100.0) / 20 * count + 1e-9) for instant in instants)
    assert pieces == list(range(count)), "one in each piece of the time"
    assert count < 10 or instants != sorted(instants)
    per_second = [sum(second <= i - 100.0 < second + 1 for i in instants) for second in range(20)]
    assert max(per_second) <= count / 20 + 2


def test_two_pods_are_not_in_step() -> None:
    first, second = make(1), make(2)
    for closing in (first, second):
        closing.leave(0.0, 30.0)
    assert list(first.spread(50)) != list(second.spread(50))


@pytest.mark.parametrize(("spread", "time", "window"), [(20, 30, 20), (20, 8, 6), (0, 30, 0), (20, 0, 0)])
def test_a_quarter_of_the_time_is_left_for_messages_and_answers(spread: int, time: int, window: int) -> None:
    closing = make(spread=Duration(spread))
    closing.leave(100.0, float(time))
    instants = list(closing.spread(500))
    assert all(100 <= instant <= 100 + window for instant in instants)
    assert max(instants) >= 100 + window * 0.99


def test_one_that_opens_while_leaving_is_closed_within_the_same_time() -> None:
    closing = make(spread=Duration(20))
    closing.leave(100.0, 30.0)
    assert all(105 <= closing.latecomer(105.0) <= 120 for _ in range(100))
    assert closing.latecomer(125.0) == 125.0
    closing.leave(500.0, 30.0)
    assert closing.latecomer(110.0) <= 120, "leaving begins once"


def test_the_number_is_bounded() -> None:
    closing = make(max_connections=2)
    assert not closing.full
    closing.open = 2
    assert closing.full
    closing.configure(WebSocketPolicy(max_connections=3))
    assert not closing.full
