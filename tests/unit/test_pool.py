"""The pool as a table of decisions: connections are plain objects, nothing is opened."""

from random import Random

import pytest
from msgspec.structs import replace

from nova_api.policies import EndpointBreakerPolicy, PoolPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.outcome import FAILURE, SUCCESS
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.pool import NO_EJECTION, Pool
from nova_sidecar.transport.seat import CloseReason, Seat

ONE, TWO, THREE = ("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80)
IN_TURN = PoolPolicy(balance="RoundRobin")
EJECTION = EndpointBreakerPolicy(failure_threshold=1, eject_duration=Duration(10))


class Connection:
    """What the pool looks at, and a name for the test."""

    def __init__(self, seat: "Seat[Connection]", retire_at: float = 1e9) -> None:
        self.seat = seat
        self.retire_at = retire_at
        self.requests = 0
        self.reusable = True
        self.close_reason: CloseReason | None = None


def pool_of(
    *endpoints: tuple[str, int],
    policy: PoolPolicy = PoolPolicy(),  # noqa: B008 - frozen
    ejection: EndpointBreakerPolicy = NO_EJECTION,
) -> Pool[Connection, str]:
    pool: Pool[Connection, str] = Pool(policy, Lifespan(policy, Random(1)), Random(1), ejection)
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


def seats(pool: Pool[Connection, str], count: int) -> list[Seat[Connection]]:
    return [opened(pool).seat for _ in range(count)]


def test_in_turn_whatever_they_have_to_do() -> None:
    pool = pool_of(ONE, TWO, THREE, policy=IN_TURN)
    first = seats(pool, 3)
    for seat in first[1:]:
        pool.drop(seat)

    assert seats(pool, 3) == first


def test_the_less_busy_of_two_is_taken() -> None:
    pool = pool_of(ONE, TWO)
    for _ in range(20):
        opened(pool)
    busy = pool.checkout()
    assert isinstance(busy, Seat)
    busy.open += 30

    assert [seat for seat in seats(pool, 20) if seat is busy] == []


def test_a_full_pool_of_many_endpoints_finds_every_idle_connection_and_no_other() -> None:
    pool = pool_of(*((f"10.0.{n >> 8}.{n & 255}", 80) for n in range(1000)), policy=PoolPolicy(size=8))
    connections = [opened(pool) for _ in range(8)]
    assert pool.checkout() is None
    for connection in connections:
        pool.put(connection)
    connections[0].close_reason = "peer"

    found = [pool.checkout() for _ in range(8)]

    assert set(found) == {*connections[1:], None}
    pool.put(connections[3])
    assert pool.checkout() is connections[3]
    assert len(pool.spare) <= 8


def test_idle_connections_are_no_work() -> None:
    pool = pool_of(ONE, TWO)
    connections = [opened(pool) for _ in range(10)]
    rested = connections[0].seat
    for connection in connections:
        if connection.seat is rested:
            pool.put(connection)

    taken = [pool.checkout() for _ in range(3)]
    assert all(isinstance(connection, Connection) and connection.seat is rested for connection in taken)


def test_load_spreads_evenly_over_many_endpoints() -> None:
    """Two choices leave the busiest endpoint hardly busier than the mean; one choice would not."""
    pool = pool_of(*((f"10.0.1.{at}", 80) for at in range(50)), policy=PoolPolicy(size=1000))
    random = Random(3)
    held: list[Connection] = []
    for _ in range(5000):
        held.append(opened(pool))
        if len(held) > 500:
            pool.forget(held.pop(random.randrange(len(held))))
    loads = sorted(seat.active for seat in pool.ejector.members)
    assert sum(loads) == 500
    assert loads[-1] <= 13, loads


def test_sidecars_do_not_all_begin_with_the_same_endpoint() -> None:
    first = set()
    for seed in range(20):
        pool: Pool[Connection, str] = Pool(IN_TURN, Lifespan(IN_TURN, Random(seed)), Random(seed))
        pool.replace_endpoints((ONE, TWO, THREE))
        first.add(opened(pool).seat.endpoint)
    assert first == {ONE, TWO, THREE}


@pytest.mark.parametrize("policy", [IN_TURN, PoolPolicy()], ids=lambda policy: policy.balance)
def test_the_endpoint_that_failed_is_avoided_while_there_is_another(policy: PoolPolicy) -> None:
    pool = pool_of(ONE, TWO, THREE, policy=policy)
    failed = opened(pool).seat
    for _ in range(12):
        other = pool.checkout(failed)
        assert isinstance(other, Seat)
        assert other is not failed

    alone = pool_of(ONE)
    assert alone.checkout(opened(alone).seat) is not None


def test_an_ejected_endpoint_is_not_chosen_and_its_connections_go() -> None:
    pool = pool_of(ONE, TWO, policy=IN_TURN, ejection=EJECTION)
    rested, other, busy = (opened(pool) for _ in range(3))
    assert rested.seat is busy.seat
    pool.put(rested)
    pool.put(other)

    assert pool.judge(rested.seat, FAILURE, 0.0) == [rested]

    assert pool.retire(busy, 0.0) == "ejected"
    assert pool.retire(other, 0.0) is None
    for connection in (rested, busy):
        pool.forget(connection)
    assert pool.checkout() is other
    assert all(seat is other.seat for seat in seats(pool, 5))
    assert pool.out
    shown = {each["address"]: (each["ejected"], each["backIn"]) for each in pool.snapshot(4.0)["endpoints"]}
    assert shown[f"{rested.seat.endpoint[0]}:80"] == (True, 6.0)
    pool.readmit(10.0)
    assert not pool.out
    assert {seat.endpoint for seat in seats(pool, 2)} == {ONE, TWO}


def test_in_panic_connections_to_ejected_endpoints_are_used_further() -> None:
    pool = pool_of(ONE, TWO, ejection=replace(EJECTION, max_ejected=Share(1.0)))
    first, second = opened(pool), opened(pool)
    assert pool.judge(first.seat, FAILURE, 0.0) == []
    assert pool.retire(first, 0.0) == "ejected"
    assert pool.judge(second.seat, FAILURE, 0.0) == []
    assert [pool.retire(connection, 0.0) for connection in (first, second)] == [None, None]
    assert pool.snapshot(0.0)["ejection"]["panic"]


def test_a_success_ends_the_failures_in_a_row() -> None:
    pool = pool_of(ONE, TWO, ejection=replace(EJECTION, failure_threshold=2))
    seat = opened(pool).seat
    for outcome in (FAILURE, SUCCESS, FAILURE):
        pool.judge(seat, outcome, 0.0)
    assert (seat.failures, seat.ejected) == (1, False)


def test_a_reload_keeps_who_is_out_and_takes_the_other_balance() -> None:
    pool = pool_of(ONE, TWO, ejection=EJECTION)
    seat = opened(pool).seat
    pool.judge(seat, FAILURE, 0.0)
    pool.configure(IN_TURN, EJECTION)
    pool.replace_endpoints((TWO, ONE, THREE))
    assert seat not in seats(pool, 6)
    pool.configure(IN_TURN)
    assert seat in seats(pool, 3)
