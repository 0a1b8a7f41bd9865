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
    assert (closing.idle_limit(), closing.age_limit()) == (inf, inf)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_closes_are_spread_evenly_and_in_random_order(count: int, seed: int) -> None:
    delays = list(make(seed).spread(count, 20.0))
    assert sorted(int(delay / 20 * count + 1e-9) for delay in delays) == list(range(count)), "one in each piece"
    assert count < 10 or delays != sorted(delays)
    assert max(sum(second <= delay < second + 1 for delay in delays) for second in range(20)) <= count / 20 + 2


def test_two_pods_are_not_in_step() -> None:
    assert list(make(1).spread(50, 20.0)) != list(make(2).spread(50, 20.0))


@pytest.mark.parametrize(
    ("spread", "time", "window"), [(20, 30, 20), (20, 8, 6), (0, 30, 0), (20, 0, 0), (20, inf, 20)]
)
def test_a_quarter_of_the_time_is_left_for_messages_and_answers(spread: int, time: float, window: float) -> None:
    assert make(spread=Duration(spread)).window(time) == window


def test_the_number_is_bounded() -> None:
    closing = make(max_connections=2)
    assert not closing.full
    closing.open = 2
    assert closing.full
    closing.configure(WebSocketPolicy(max_connections=3))
    assert not closing.full
