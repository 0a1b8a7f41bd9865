"""Charges of several limits at once, the script that charges them in Redis, and what callers are told."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.lua51 import LuaRuntime

from nova_api.request_policies.rate_limit import RateLimit
from nova_api.units import Duration
from nova_sidecar.policy.gcra import SECOND, Buckets, Quota
from nova_sidecar.policy.rate_limit import (
    SCRIPT,
    Charge,
    Limit,
    RateLimiter,
    Standing,
    fields,
    refusal,
    values,
)
from nova_sidecar.policy.reasons import Reason


def limit(name: str = "clients", rate: int = 2, pods: int = 1, **more: Any) -> Limit:
    return Limit(RateLimit(**({"name": name, "rate": rate, "period": Duration(10)} | more)), pods)


def passes(limiter: RateLimiter, charges: list[Charge], now: int) -> bool:
    return refusal(limiter.check(charges, now)) is None


# --- local


def test_a_refusal_by_one_charges_none() -> None:
    limiter = RateLimiter("shop", 100)
    wide, narrow = limit("wide", 5), limit("narrow", 1)
    both = [Charge(wide, b"a"), Charge(narrow, b"b")]
    assert passes(limiter, both, 0)
    for _ in range(20):
        assert not passes(limiter, both, 0)
    assert [passes(limiter, [Charge(wide, b"a")], 0) for _ in range(5)] == [True] * 4 + [False]


def test_what_a_global_limit_refuses_costs_the_local_ones_nothing() -> None:
    limiter = RateLimiter("shop", 100)
    near, far = limit("near", 3), limit("far", 1, scope="Global")
    both = [Charge(near, b"a"), Charge(far, b"b")]
    assert refusal(limiter.alone([both[1]], 0)) is None  # the only one there is
    for _ in range(5):
        standings = limiter.check(both, 0)
        assert refusal(limiter.alone(limiter.remote(both), 0)) is not None
        limiter.give_back(both, standings, 0, 0)
    assert [passes(limiter, [both[0]], 0) for _ in range(4)] == [True] * 3 + [False]


def test_when_to_come_back() -> None:
    limiter, two = RateLimiter("shop", 100), limit(rate=2)
    for _ in range(2):
        limiter.check([Charge(two, b"a")], 0)
    reject = refusal(limiter.check([Charge(two, b"a")], SECOND))
    assert reject is not None
    assert (reject.reason, reject.retry_after) == (Reason.RATE_LIMITED, 4.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3 * SECOND), st.sets(st.sampled_from("abc"), min_size=1)), min_size=1, max_size=40
    )
)
def test_no_limit_ever_gives_more_than_it_has(asks: list[tuple[int, set[str]]]) -> None:
    limiter = RateLimiter("shop", 100)
    limits = {"a": limit("a", 1), "b": limit("b", 3, burst=1), "c": limit("c", 4)}
    passed: dict[str, list[int]] = {name: [] for name in limits}
    now = 0
    for step, names in asks:
        now += step
        if passes(limiter, [Charge(limits[name], name.encode()) for name in sorted(names)], now):
            for name in names:
                passed[name].append(now)
    for name, times in passed.items():
        quota = limits[name].quota
        for first, begin in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= quota.burst + Fraction(times[last] - begin, quota.interval)


# --- global


class Redis:
    """Runs the script as Redis does, by a clock of the test's."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000
        self.held: dict[str, tuple[str, int]] = {}
        self._lua = LuaRuntime(unpack_returned_tuples=True)
        self._lua.globals().redis = self._lua.table(call=self._call)
        self._run = self._lua.eval(f"function(KEYS, ARGV) {SCRIPT} end")

    def _call(self, command: str, *words: Any) -> Any:
        if command == "TIME":
            return self._lua.table(str(self.now // 1_000_000), str(self.now % 1_000_000))
        if command == "GET":
            value, until = self.held.get(words[0], ("", 0))
            return value if until > self.now else False
        assert (command, words[2]) == ("SET", "PX")
        self.held[words[0]] = (words[1], self.now + int(words[3]) * 1000)
        return None

    def run(self, keys: list[str], arguments: list[bytes]) -> list[int]:
        answer = self._run(self._lua.table(*keys), self._lua.table(*[one.decode() for one in arguments]))
        return [int(answer[number]) for number in range(1, 2 * len(keys) + 1)]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 50), st.integers(1, 20), st.integers(1, 60),
    st.lists(st.integers(0, 5_000_000), min_size=1, max_size=60),
)  # fmt: skip
def test_the_script_decides_as_a_bucket_does(rate: int, burst: int, period: int, steps: list[int]) -> None:
    redis, limiter, buckets = Redis(), RateLimiter("shop", 100), Buckets(10)
    one = limit(rate=rate, burst=burst, period=Duration(period), scope="Global")
    charge = Charge(one, b"a")
    keys, arguments = limiter.request([charge])
    whole = Quota.__new__(Quota)  # the same bucket, as Redis has it: in whole microseconds
    whole.interval, whole.burst, whole.tolerance = int(arguments[0]) * 1000, burst, int(arguments[1]) * 1000
    for step in steps:
        redis.now += step
        standings = limiter.settle([charge], redis.run(keys, arguments), 0)
        assert (refusal(standings) is None) == buckets.take(b"a", whole, redis.now * 1000)
        assert standings[0].wait == whole.wait(max(buckets.tat(b"a"), redis.now * 1000), redis.now * 1000) or (
            not standings[0].wait
        )


def test_the_script_charges_all_or_none() -> None:
    redis, limiter = Redis(), RateLimiter("shop", 100)
    charges = [Charge(limit("wide", 5, scope="Global"), b"a"), Charge(limit("narrow", 1, scope="Global"), b"b")]
    for _ in range(5):
        limiter.settle(charges, redis.run(*limiter.request(charges)), 0)
    found = [
        refusal(limiter.settle(charges[:1], redis.run(*limiter.request(charges[:1])), 0)) is None for _ in range(5)
    ]
    assert found == [True] * 4 + [False]


def test_what_redis_refused_is_refused_here_for_as_long_as_it_said_and_no_longer() -> None:
    limiter, one = RateLimiter("shop", 100), limit(rate=1, scope="Global")
    charge = Charge(one, b"a")
    assert refusal(limiter.settle([charge], [10_000_000, 4_000_000], SECOND)) is not None
    assert refusal(limiter.check([charge], 5 * SECOND - 1)) is not None
    assert refusal(limiter.check([charge], 5 * SECOND)) is None
    assert one.spared == 1


def test_what_redis_refused_under_other_limits_is_asked_again() -> None:
    limiter, one = RateLimiter("shop", 100), limit(rate=1, scope="Global")
    charge = Charge(one, b"a")
    limiter.settle([charge], [10_000_000, 4_000_000], SECOND)
    limiter.configure(100)
    assert refusal(limiter.check([charge], SECOND)) is None


def test_a_higher_rate_helps_at_once_in_redis_too() -> None:
    redis, limiter = Redis(), RateLimiter("shop", 100)
    slow, quick = limit(rate=1, burst=3, scope="Global"), limit(rate=10, burst=3, scope="Global")

    def passes_now(one: Limit) -> bool:
        charge = [Charge(one, b"a")]
        return refusal(limiter.settle(charge, redis.run(*limiter.request(charge)), 0)) is None

    assert [passes_now(slow) for _ in range(4)] == [True] * 3 + [False]
    assert not passes_now(quick)
    redis.now += quick.quota.interval // 1000
    assert [passes_now(quick) for _ in range(2)] == [True, False]


def test_what_is_remembered_of_refusals_is_bounded() -> None:
    limiter, one = RateLimiter("shop", 100), limit(rate=1, scope="Global")
    for number in range(10_000):
        limiter.settle([Charge(one, b"%d" % number)], [10_000_000, 4_000_000], SECOND)
    assert len(limiter._denied) <= 4096


def test_alone_each_pod_has_its_share() -> None:
    limiter, one = RateLimiter("shop", 100), limit(rate=8, pods=4, scope="Global")
    charge = [Charge(one, b"a")]
    found = [refusal(limiter.alone(charge, 0)) is None for _ in range(4)]
    assert (found, one.fallbacks) == ([True, True, False, False], 4)


# --- what it is counted by, and what is told


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"abc", [b"abc"]), (b" ABC ", [b"abc"]), (b"Bearer   abc", [b"bearer abc"]), (b"", []), (b" , ,", []),
        (b"a, b", [b"a", b"b"]), (b"a,a,A", [b"a"]),
    ],
)  # fmt: skip
def test_the_values_of_a_header(header: bytes, found: list[bytes]) -> None:
    assert values(header) == found


def test_too_many_values_are_one_more() -> None:
    many = values(b",".join(b"%d" % number for number in range(50)))
    assert len(many) == 9
    assert many[:8] == [b"%d" % number for number in range(8)]
    assert many[8] == values(b",".join(b"x%d" % number for number in range(50)))[8]


def test_keys_differ_by_limit_and_service() -> None:
    a, b = limit("a"), limit("b")
    shop, till = RateLimiter("shop", 10), RateLimiter("till", 10)
    assert len({shop.key(a, b"x"), shop.key(b, b"x"), till.key(a, b"x"), shop.key(a, b"y")}) == 4
    assert shop.key(a, b"x") == RateLimiter("shop", 10).key(a, b"x")
    assert b"x" * 20 not in shop.key(a, b"x" * 20)
    whole = limit("a", scope="Global")
    assert b"\x7f\0\0\1" not in shop.address_key(whole, b"\x7f\0\0\1")


def test_the_fields_are_structured_and_name_the_tightest() -> None:
    wide, narrow = limit("wide", 100), limit("narrow", 4)
    charges = [Charge(wide, b"a"), Charge(narrow, b"b"), Charge(narrow, b"c")]
    standings = [Standing(wide, 60, SECOND, 0), Standing(narrow, 1, 7 * SECOND + 1, 0)]
    assert fields(charges, standings) == (
        b'ratelimit-policy: "wide";q=100;w=10, "narrow";q=4;w=10\r\nratelimit: "narrow";r=1;t=8\r\n'
    )
    assert fields(charges, [Standing(narrow, 0, 0, SECOND // 2)]).endswith(b'ratelimit: "narrow";r=0;t=1\r\n')


def test_which_requests_it_is_for() -> None:
    one = limit(paths=("/a/*",), methods=("GET", "POST"))
    asked = [one.matches(*words) for words in (("GET", "/a/b"), ("HEAD", "/A/b"), ("PUT", "/a/b"), ("GET", "/b"))]
    assert asked == [True, True, False, False]
    assert limit().matches("ANY", "/")
    assert limit(methods=("POST",)).matches("post", "/")
    assert not limit(methods=("POST",)).matches("HEAD", "/")


def test_a_name_that_stays_keeps_its_counts() -> None:
    before, after = limit(), limit(rate=9)
    before.admitted, before.refused = 3, 2
    after.keep(before)
    after.keep(None)
    assert (after.snapshot()["admitted"], after.snapshot()["refused"]) == (3, 2)
