"""The pool as a table of decisions: connections are plain objects, nothing is opened."""

from random import Random

from nova_api.policies import PoolPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.pool import Pool
from nova_sidecar.transport.seat import CloseReason, Seat

ONE, TWO = ("10.0.0.1", 80), ("10.0.0.2", 80)


class Connection:
    """What the pool looks at, and a name for the test."""

    def __init__(self, seat: "Seat[Connection]", retire_at: float = 1e9) -> None:
        self.seat = seat
        self.retire_at = retire_at
        self.requests = 0
        self.reusable = True
        self.close_reason: CloseReason | None = None


def pool_of(*endpoints: tuple[str, int], policy: PoolPolicy | None = None) -> Pool[Connection, str]:
    policy = policy or PoolPolicy()
    pool: Pool[Connection, str] = Pool(policy, Lifespan(policy, Random(1)), Random(1))
    pool.replace_endpoints(endpoints)
    return pool


def opened(pool: Pool[Connection, str]) -> Connection:
    seat = pool.checkout()
    assert isinstance(seat, Seat)
    return Connection(seat)


def test_endpoints_take_turns() -> None:
    pool = pool_of(ONE, TWO)

    assert sorted(opened(pool).seat.endpoint for _ in range(4)) == [ONE, ONE, TWO, TWO]


def test_the_connection_used_last_is_used_next() -> None:
    pool = pool_of(ONE)
    first, second = opened(pool), opened(pool)
    pool.put(first)
    pool.put(second)

    assert pool.checkout() is second
    assert pool.checkout() is first
    assert isinstance(pool.checkout(), Seat)


def test_an_endpoint_whose_turn_it_is_gets_a_new_connection_rather_than_anothers_idle_one() -> None:
    pool = pool_of(ONE, TWO)
    kept = opened(pool)
    pool.put(kept)

    other = pool.checkout()

    assert isinstance(other, Seat)
    assert other is not kept.seat


def test_size_bounds_what_is_open_or_being_opened() -> None:
    pool = pool_of(ONE, TWO, policy=PoolPolicy(size=2))
    first, _ = opened(pool), opened(pool)

    assert pool.checkout() is None
    pool.put(first)
    assert pool.checkout() is first
    pool.drop(first.seat)
    assert isinstance(pool.checkout(), Seat)
    assert pool.checkout() is None


def test_a_full_pool_uses_any_idle_connection() -> None:
    pool = pool_of(ONE, TWO, policy=PoolPolicy(size=1))
    only = opened(pool)
    pool.put(only)

    for _ in range(3):
        assert pool.checkout() is only
        pool.put(only)


def test_a_connection_that_is_closing_is_passed_over() -> None:
    pool = pool_of(ONE)
    good, bad = opened(pool), opened(pool)
    pool.put(good)
    pool.put(bad)
    bad.close_reason = "error"

    assert pool.checkout() is good


def test_waiting_is_in_order_and_can_be_left() -> None:
    pool = pool_of(ONE)
    for name in ("a", "b", "c"):
        pool.wait(name)

    assert pool.leave("b")
    assert not pool.leave("b")
    assert [pool.next_waiter() for _ in range(3)] == ["a", "c", None]


def test_why_a_connection_is_not_used_again() -> None:
    policy = PoolPolicy(max_requests=3, max_age=Duration(100), jitter=Share(0))
    pool = pool_of(ONE, policy=policy)
    fine, broken, counted, old = (opened(pool) for _ in range(4))
    broken.reusable = False
    counted.requests = 3
    old.retire_at = 50.0

    assert pool.retire(fine, 60.0) is None
    assert pool.retire(broken, 60.0) == "peer"
    assert pool.retire(counted, 60.0) == "requests"
    assert pool.retire(old, 60.0) == "age"


def test_old_connections_do_not_all_go_at_once() -> None:
    pool = pool_of(ONE)
    crowd = [opened(pool) for _ in range(20)]
    for connection in crowd:
        connection.retire_at = 0.0

    assert [pool.retire(connection, 1.0) for connection in crowd].count("age") == 2


def test_an_endpoint_that_is_gone_gives_its_idle_connections_back_and_ends_the_others() -> None:
    pool = pool_of(ONE, TWO)
    by_endpoint = {connection.seat.endpoint: connection for connection in (opened(pool), opened(pool))}
    busy = opened(pool)
    for connection in by_endpoint.values():
        pool.put(connection)

    gone = pool.replace_endpoints([endpoint for endpoint in (ONE, TWO) if endpoint != busy.seat.endpoint])

    assert gone == [by_endpoint[busy.seat.endpoint]]
    assert pool.retire(busy, 0.0) == "removed"
    for connection in (*gone, busy):
        pool.forget(connection)
    assert pool.open == 1
    (shown,) = pool.snapshot(0.0)["endpoints"]
    assert (shown["address"], shown["open"], shown["idle"]) == (f"{pool.endpoints[0][0]}:80", 1, 1)


def test_an_endpoint_that_stays_keeps_its_connections() -> None:
    pool = pool_of(ONE)
    kept = opened(pool)
    pool.put(kept)

    assert pool.replace_endpoints([ONE, TWO]) == []
    assert {pool.checkout(), pool.checkout()} >= {kept}
