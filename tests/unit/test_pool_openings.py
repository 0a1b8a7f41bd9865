"""Which seat the pool gives to a further connection, and to one whose first address did not answer."""

from random import Random

import pytest

from nova_api.policies import PoolPolicy
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.pool import LOOK_AHEAD, Pool
from nova_sidecar.transport.seat import Seat

FOUR, SIX = ("10.0.0.1", 80), ("fd00::1", 80)


def pool_of(*endpoints: Endpoint, size: int = 100) -> "Pool[object, str]":  # type: ignore[type-var]  # none is put
    policy = PoolPolicy(size=size, balance="RoundRobin")
    pool: Pool[object, str] = Pool(policy, Lifespan(policy, Random(1)), Random(1))  # type: ignore[type-var]  # as above
    pool.replace_endpoints(endpoints)
    return pool


def many(count: int) -> list[Endpoint]:
    return [(f"10.0.0.{number}", 80) for number in range(1, count + 1)]


def test_the_other_family_is_tried_next() -> None:
    pool = pool_of(*many(3), SIX)
    first = pool.reserve()
    assert first is not None
    second = pool.another([first])
    assert second is not None
    assert (":" in first.endpoint[0]) is not (":" in second.endpoint[0])


def test_no_endpoint_is_tried_twice() -> None:
    pool = pool_of(*many(3))
    tried = [pool.reserve()]
    while (seat := pool.another(tried)) is not None:  # type: ignore[arg-type]  # the first is there
        tried.append(seat)
    assert len({seat.endpoint for seat in tried if seat}) == len(tried) == 3
    assert pool.open == 3


def test_a_single_endpoint_has_no_other() -> None:
    pool = pool_of(FOUR)
    only = pool.reserve()
    assert isinstance(only, Seat)
    assert pool.another([only]) is None


@pytest.mark.parametrize("give", ["reserve", "another"])
def test_size_holds_for_connections_in_advance_too(give: str) -> None:
    pool = pool_of(FOUR, SIX, size=1)
    first = pool.reserve()
    assert first is not None
    assert (pool.reserve() if give == "reserve" else pool.another([first])) is None
    pool.drop(first)
    assert pool.reserve() is not None


def test_few_are_looked_at() -> None:
    """All near ones have been tried: no search through a thousand."""
    pool = pool_of(*many(250))
    first = pool.reserve()
    assert first is not None
    tried = [first]
    while (seat := pool.another(tried)) is not None:
        tried.append(seat)
    assert len(tried) == LOOK_AHEAD + 1


def test_without_endpoints_there_is_no_seat() -> None:
    assert pool_of().reserve() is None
