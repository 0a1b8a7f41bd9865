import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.units import Duration
from nova_sidecar.policy.pool_guard import (
    MOST_COUNTED,
    MOST_POOLS,
    MOST_SOURCES,
    RATE,
    PoolGuard,
    PoolReport,
    Taken,
    parse_report,
)
from nova_sidecar.policy.reasons import Reason

GOOD = "pool=main&source=5f0c5f0c5f0c5f0c&held=18&size=20&exhausted=3"


def guard(**fields: object) -> PoolGuard:
    return PoolGuard(PoolGuardPolicy(mode="Enforce", **fields))


def report(held: int, size: int = 20, pool: str = "main", source: int = 1, exhausted: int = 0) -> PoolReport:
    return PoolReport(pool, f"{source:016x}", held, size, exhausted)


def refuses(pools: PoolGuard, now: float) -> bool:
    return pools.admit(now) is not None


def test_a_report_is_read() -> None:
    assert parse_report(GOOD) == PoolReport("main", "5f0c" * 4, 18, 20, 3)
    assert parse_report("&".join(reversed(GOOD.split("&")))) == parse_report(GOOD)


@pytest.mark.parametrize(
    "query",
    [
        "",
        GOOD.replace("&exhausted=3", ""),
        GOOD + "&held=1",
        GOOD.replace("&held=18", "&held=18&held=18").replace("&size=20", ""),
        GOOD + "&more=1",
        GOOD.replace("main", ""),
        GOOD.replace("main", "x" * 33),
        GOOD.replace("main", "a%22b"),
        GOOD.replace("main", 'a"b'),
        GOOD.replace("5f0c5f0c5f0c5f0c", "5F0C5F0C5F0C5F0C"),
        GOOD.replace("5f0c5f0c5f0c5f0c", "5f0c"),
        GOOD.replace("18", "-1"),
        GOOD.replace("18", "1e3"),
        GOOD.replace("18", "018"),
        GOOD.replace("18", "21"),
        GOOD.replace("size=20", "size=0"),
        GOOD.replace("size=20", "size=1000001"),
        GOOD.replace("exhausted=3", "exhausted=" + "9" * 16),
        GOOD.replace("18", "\u0661\u0668"),
    ],
)
def test_what_is_no_report(query: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_report(query)


@given(st.text(max_size=120) | st.text(alphabet="abcdefhlmnoprstuxz=&0123456789", max_size=120))
def test_whatever_is_sent_is_a_report_or_an_error(query: str) -> None:
    try:
        found = parse_report(query)
    except ValueError:
        return
    assert 0 <= found.held <= found.size


def test_without_a_report_everything_passes() -> None:
    pools = guard()
    assert not refuses(pools, 0.0)
    assert repr(pools) == "<PoolGuard open pools=0>"


@pytest.mark.parametrize(("held", "refused"), [(0, False), (16, False), (17, False), (18, True), (20, True)])
def test_above_the_threshold_is_refused_and_at_it_is_not(held: int, refused: bool) -> None:
    pools = guard()
    assert pools.report(report(held), 0.0) is Taken.ACCEPTED
    reject = pools.admit(0.0)
    assert (reject is not None) is refused
    if reject is not None:
        assert (reject.reason, reject.retry_after) == (Reason.DATABASE_SATURATED, 1.0)


def test_a_threshold_of_one_switches_it_off() -> None:
    pools = guard(threshold=1.0)
    pools.report(report(20), 0.0)
    assert not refuses(pools, 0.0)


def test_room_is_known_with_the_next_report() -> None:
    pools = guard()
    pools.report(report(20), 0.0)
    pools.report(report(10), 0.1)
    assert not refuses(pools, 0.1)


def test_a_report_expires_so_that_a_dead_app_is_not_shut_out() -> None:
    pools = guard(lifetime=Duration(3))
    pools.report(report(20), 10.0)
    assert refuses(pools, 12.9)
    assert not refuses(pools, 13.0)
    assert pools.utilization(13.0) == {"main": 0.0}


def test_processes_of_an_app_count_together() -> None:
    pools = guard()
    pools.report(report(20, source=1), 0.0)
    assert refuses(pools, 0.0)
    pools.report(report(2, source=2), 0.0)
    assert not refuses(pools, 0.0)  # 22 of 40
    pools.report(report(20, source=2), 0.5)
    assert refuses(pools, 0.5)


def test_a_process_that_ends_counts_no_more() -> None:
    pools = guard(lifetime=Duration(3))
    pools.report(report(0, source=2), 0.0)
    pools.report(report(20, source=1), 1.0)
    assert not refuses(pools, 2.9)
    assert refuses(pools, 3.0)  # the empty pool is gone, and nobody had to report for that
    assert not refuses(pools, 4.0)


def test_one_full_pool_is_enough() -> None:
    pools = guard()
    pools.report(report(0, pool="replica"), 0.0)
    pools.report(report(20, pool="main"), 0.0)
    assert refuses(pools, 0.0)
    assert pools.utilization(0.0) == {"replica": 0.0, "main": 1.0}


@pytest.mark.parametrize(
    ("paths", "path", "concerned"),
    [
        ((), "/health", True),
        (("/orders",), "/orders", True),
        (("/orders",), "/orders/7", False),
        (("/orders/*",), "/orders/7", True),
        (("/orders/*", "/shop.Orders/Place"), "/shop.Orders/Place", True),
        (("/orders/*",), "/static/app.js", False),
    ],
)
def test_only_listed_paths_are_concerned(paths: tuple[str, ...], path: str, concerned: bool) -> None:
    assert guard(paths=paths).concerns(path) is concerned


def test_a_new_threshold_applies_to_what_was_reported_before() -> None:
    pools = guard()
    pools.report(report(17), 0.0)
    assert not refuses(pools, 0.1)
    pools.configure(PoolGuardPolicy(mode="Enforce", threshold=0.5))
    assert refuses(pools, 0.1)
    pools.configure(PoolGuardPolicy(mode="Enforce", threshold=1.0))
    assert not refuses(pools, 0.1)


def test_reports_are_bounded_in_rate() -> None:
    pools = guard()
    taken = [pools.report(report(0), 0.0) for _ in range(int(RATE) + 20)]
    assert taken.count(Taken.TOO_MANY) == 20
    assert pools.report(report(0), 0.005) is Taken.TOO_MANY
    assert pools.report(report(0), 0.05) is Taken.ACCEPTED
    assert pools.reports == {Taken.ACCEPTED: RATE + 1, Taken.MALFORMED: 0, Taken.TOO_MANY: 21}


def test_processes_are_bounded_and_those_that_end_make_room() -> None:
    pools = guard()
    for source in range(MOST_SOURCES):
        assert pools.report(report(0, source=source), 0.0) is Taken.ACCEPTED
    assert pools.report(report(0, source=999), 1.0) is Taken.TOO_MANY
    assert pools.report(report(0, source=0), 1.0) is Taken.ACCEPTED  # who is known goes on
    assert pools.report(report(0, source=999), 3.0) is Taken.ACCEPTED


def test_names_of_pools_are_bounded_for_good() -> None:
    pools = guard()
    for number in range(MOST_POOLS):
        pools.report(report(0, pool=f"p{number}"), 0.0)
    assert pools.report(report(20, pool="one-more"), 100.0) is Taken.TOO_MANY
    assert pools.report(report(20, pool="p0", source=7), 100.0) is Taken.ACCEPTED
    assert len(pools.utilization(100.0)) == MOST_POOLS


def test_what_the_app_counts_is_counted_once() -> None:
    pools = guard()
    for now, source, exhausted in [(0.0, 1, 3), (1.0, 1, 5), (1.0, 2, 2), (20.0, 1, 6), (21.0, 1, 6), (22.0, 3, 0)]:
        pools.report(report(0, source=source, exhausted=exhausted), now)
    assert pools.exhausted == {"main": 8}
    pools.report(report(0, source=1, exhausted=1), 23.0)  # nothing ever falls
    assert pools.exhausted == {"main": 8}


def test_what_is_kept_to_count_by_is_bounded() -> None:
    pools = guard()
    for number in range(MOST_COUNTED * 2):
        pools.report(report(0, source=number, exhausted=1), number * 10.0)
    assert pools.exhausted == {"main": MOST_COUNTED * 2}
    assert pools.snapshot(1e6)["sources"] == 0


def test_what_an_operator_sees() -> None:
    pools = guard()
    pools.report(report(18, exhausted=4), 0.0)
    pools.malformed()
    assert pools.snapshot(0.1) == {
        "mode": "Enforce",
        "refusing": True,
        "utilization": {"main": 0.9},
        "sources": 1,
        "exhausted": {"main": 4},
        "reports": {"accepted": 1, "malformed": 1, "too_many": 0},
    }
    assert repr(pools) == "<PoolGuard refusing pools=1>"


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(0, 3), st.sampled_from(["main", "replica"]), st.integers(0, 20)),
        max_size=60,
    )
)
def test_the_verdict_is_that_of_the_reports_that_count(steps: list[tuple[float, int, str, int]]) -> None:
    """Whatever comes in whatever order, a request meets what a look at all reports would say."""
    pools, now = guard(lifetime=Duration(3)), 0.0
    heard: dict[tuple[str, int], tuple[int, float]] = {}
    for pause, source, pool, held in steps:
        now += pause
        if pools.report(report(held, pool=pool, source=source), now) is Taken.ACCEPTED:
            heard[pool, source] = (held, now + 3)
        now += pause
        shares = []
        for name in ("main", "replica"):
            living = [held for (of, _), (held, until) in heard.items() if of == name and now < until]
            shares.append(sum(living) / (20 * len(living)) if living else 0.0)
        assert refuses(pools, now) is (max(shares) > 0.85)
