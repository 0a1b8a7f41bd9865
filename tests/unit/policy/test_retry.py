from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nova_api.policies import BackoffPolicy, RetryPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import Retrier, Suppressed, is_repetition, parse_retry_after

ALL = RetryPolicy(
    when=(
        "connect-failure", "reset", "timeout", "502", "503", "504", "unavailable", "resource-exhausted", "aborted",
    )
)  # fmt: skip


def make(policy: RetryPolicy = ALL, **changes: Any) -> Retrier:
    return Retrier(replace(policy, **changes), Random(11))


def ask(retrier: Retrier, **changes: Any) -> float | Suppressed:
    call: dict[str, Any] = {"attempt": 1, "failure": 503, "method": b"GET", "replayable": True, "remaining": 10.0}
    return retrier.next(**{**call, "now": 0.0, **changes})


@pytest.mark.parametrize(
    ("condition", "failure"),
    [
        ("connect-failure", Reason.CONNECT_FAILURE),
        ("reset", Reason.UPSTREAM_RESET),
        ("timeout", Reason.ATTEMPT_TIMEOUT),
        ("502", 502),
        ("503", 503),
        ("504", 504),
        ("resource-exhausted", 8),
        ("aborted", 10),
        ("unavailable", 14),
    ],
)
def test_each_condition_covers_its_failure_and_no_other(condition: Any, failure: Reason | int) -> None:
    failures = [*Reason, *range(17), 200, 404, 429, 500, 502, 503, 504]
    allowed = [f for f in failures if isinstance(ask(make(when=(condition,)), failure=f), float)]
    assert allowed == [failure]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])
def test_idempotent_methods_are_repeated(method: bytes) -> None:
    assert isinstance(ask(make(), method=method), float)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"get", b"BREW", b""])
def test_other_methods_are_repeated_only_if_nothing_was_sent(method: bytes) -> None:
    for failure in (Reason.UPSTREAM_RESET, Reason.ATTEMPT_TIMEOUT, 502, 503, 504):
        assert ask(make(), method=method, failure=failure) is Suppressed.NOT_IDEMPOTENT
    assert isinstance(ask(make(), method=method, failure=Reason.CONNECT_FAILURE), float)


def test_a_key_or_the_policy_makes_any_method_repeatable() -> None:
    assert isinstance(ask(make(), method=b"POST", repeatable=True), float)
    assert isinstance(ask(make(), method=b"POST", failure=14, repeatable=True), float)


def test_what_was_refused_unseen_is_as_safe_as_no_connection() -> None:
    for failure in (Reason.UPSTREAM_RESET, 14):
        assert isinstance(ask(make(when=("connect-failure",)), method=b"POST", failure=failure, unseen=True), float)
        for when in (("reset",), ()):
            refused = ask(make(when=when), method=b"POST", failure=14, unseen=True)
            assert refused is Suppressed.NOT_RETRYABLE_CONDITION
    assert ask(make(), unseen=True, attempt=3) is Suppressed.ATTEMPTS_EXHAUSTED


@pytest.mark.parametrize(("pushback", "wait"), [(b"0", 0.0), (b"250", 0.25), (b"9999", 9.999)])
def test_the_servers_pushback_is_the_wait(pushback: bytes, wait: float) -> None:
    assert ask(make(), failure=14, pushback=pushback, retry_after=3.0) == wait


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/search", True),
        ("/search/", False),
        ("/pay/quote", True),
        ("/pay/", True),
        ("/pay", False),
        ("/shop.Cart/Get", True),
        ("/shop.Cart/GetAll", False),
        ("/", False),
    ],
)
def test_listed_paths(path: str, expected: bool) -> None:
    retrier = make(idempotent_paths=("/search", "/pay/*", "/shop.Cart/Get"))
    assert retrier.listed(path) is expected
    assert make().listed(path) is False
    assert make(idempotent_paths=("/*",)).listed(path) is True


@pytest.mark.parametrize(
    "path",
    [
        "/orders/../payments", "/orders/..", "/orders/.", "/orders/./x", "/orders/%2e%2e/payments", "/orders/%2E./x",
        "/orders//payments", "/orders/..;/payments", "/orders/..%2fpayments", "/orders/..\\payments", "/orders/%5c..",
        "/orders/%252e%252e/payments",
    ],
)  # fmt: skip
def test_a_path_that_may_lead_elsewhere_is_not_listed_by_its_beginning(path: str) -> None:
    retrier = make(idempotent_paths=("/orders/*",))
    assert retrier.listed("/orders/7.5/..x/.well-known") is True
    assert retrier.listed(path) is False
    assert make(idempotent_paths=(path,)).listed(path) is True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        (b"1", False),
        (b"0", False),
        (b"01", False),
        (b"2", True),
        (b"10", True),
        (b"x", False),
        (b"", False),
    ],
)
def test_repetitions_are_told_by_the_attempt(value: bytes | None, expected: bool) -> None:
    assert is_repetition(value) is expected


@pytest.mark.parametrize(
    ("changes", "call", "expected"),
    [
        ({"mode": "Off"}, {}, Suppressed.OFF),
        ({}, {"failure": 500}, Suppressed.NOT_RETRYABLE_CONDITION),
        ({}, {"replayable": False}, Suppressed.BODY_NOT_REPLAYABLE),
        ({}, {"replayable": False, "failure": Reason.CONNECT_FAILURE}, Suppressed.BODY_NOT_REPLAYABLE),
        ({"attempts": 3}, {"attempt": 3}, Suppressed.ATTEMPTS_EXHAUSTED),
        ({"attempts": 1}, {"attempt": 1}, Suppressed.ATTEMPTS_EXHAUSTED),
        ({}, {"nested": True}, Suppressed.NESTED),
        ({}, {"nested": True, "failure": Reason.CONNECT_FAILURE}, Suppressed.NESTED),
        ({}, {"pushback": b"-1"}, Suppressed.PUSHBACK),
        ({}, {"pushback": b"soon"}, Suppressed.PUSHBACK),
        ({}, {"pushback": b""}, Suppressed.PUSHBACK),
        ({}, {"pushback": b"10001"}, Suppressed.DEADLINE),
        ({}, {"pushback": b"1" * 400}, Suppressed.DEADLINE),
        ({}, {"pushback": b"5", "failure": 500}, Suppressed.NOT_RETRYABLE_CONDITION),
        ({}, {"pushback": b"5", "attempt": 3}, Suppressed.ATTEMPTS_EXHAUSTED),
        ({}, {"remaining": 0.0}, Suppressed.DEADLINE),
        ({}, {"remaining": 2.0, "retry_after": 2.0}, Suppressed.DEADLINE),
        ({"budget": Share(0), "min_per_second": 0}, {}, Suppressed.BUDGET_EXHAUSTED),
        ({"mode": "Shadow"}, {}, Suppressed.SHADOW),
    ],
)
def test_every_suppressed_retry_is_counted_under_its_reason(
    changes: dict[str, Any], call: dict[str, Any], expected: Suppressed
) -> None:
    retrier = make(**changes)
    assert ask(retrier, **call) is expected
    assert {why: count for why, count in retrier.suppressed.items() if count} == {expected: 1}
    assert set(retrier.suppressed) == set(Suppressed)
    assert retrier.retries == 0


def test_what_is_suppressed_costs_no_budget() -> None:
    retrier = make(budget=Share(0), min_per_second=1)
    ask(retrier, attempt=9)
    ask(retrier, remaining=0.0)
    assert isinstance(ask(retrier), float)
    assert ask(retrier) is Suppressed.BUDGET_EXHAUSTED


def test_deposits_raise_the_budget() -> None:
    retrier = make(budget=Share(0.5), min_per_second=0)
    retrier.deposit(0.0)
    assert ask(retrier) is Suppressed.BUDGET_EXHAUSTED
    retrier.deposit(0.0)
    assert isinstance(ask(retrier), float)


@given(attempt=st.integers(1, 9), seed=st.integers(0, 2**32), asked=st.one_of(st.none(), st.floats(0, 5)))
def test_the_wait_is_drawn_below_a_doubling_bound(attempt: int, seed: int, asked: float | None) -> None:
    policy = replace(ALL, attempts=10, backoff=BackoffPolicy(base=Duration(0.025), max=Duration(0.25)))
    wait = ask(Retrier(policy, Random(seed)), attempt=attempt, retry_after=asked)
    assert isinstance(wait, float)
    assert (asked or 0.0) <= wait <= (asked or 0.0) + min(0.025 * 2 ** (attempt - 1), 0.25)


def test_the_jitter_uses_the_whole_range() -> None:
    retrier = make(min_per_second=1000, backoff=BackoffPolicy(base=Duration(0.1), max=Duration(0.1)))
    waits = sorted(float(ask(retrier)) for _ in range(500))
    assert waits[0] < 0.005
    assert waits[-1] > 0.095
    assert 0.04 < waits[250] < 0.06


def test_a_reload_keeps_counts_and_traffic() -> None:
    retrier = make(budget=Share(0), min_per_second=0)
    for _ in range(10):
        retrier.deposit(0.0)
    ask(retrier)
    retrier.configure(replace(ALL, budget=Share(0.1), min_per_second=0, when=("503",)))
    assert ask(retrier, failure=502) is Suppressed.NOT_RETRYABLE_CONDITION
    assert isinstance(ask(retrier), float)
    assert retrier.snapshot(0.0)["budget"] == {"requests": 10, "retries": 1}
    assert retrier.snapshot(0.0)["suppressed"]["budget_exhausted"] == 1
    assert repr(retrier) == "<Retrier retries=1 suppressed=2>"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"max_body_bytes": 100}, 100), ({"mode": "Off"}, 0), ({"attempts": 1}, 0), ({"mode": "Shadow"}, 65_536)],
)
def test_bodies_are_kept_only_where_they_may_be_sent_again(changes: dict[str, Any], expected: int) -> None:
    assert make(**changes).body_limit == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b"9" * 400, inf),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", inf),
        (b"soon", None),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"\xd9\xa1", None),  # a digit, but not an ASCII one
    ],
)
def test_retry_after(value: bytes, expected: float | None) -> None:
    assert parse_retry_after(value) == expected


@given(
    attempt=st.integers(1, 12),
    failure=st.sampled_from([*Reason, 8, 14, 500, 503]),
    method=st.sampled_from([b"GET", b"POST"]),
    flags=st.tuples(*[st.booleans()] * 4),
    remaining=st.floats(-1, 10),
    retry_after=st.one_of(st.none(), st.floats(0, 20), st.just(inf)),
    pushback=st.one_of(st.none(), st.binary(max_size=12), st.integers(-5, 20_000).map(lambda n: b"%d" % n)),
)
def test_a_retry_always_ends_in_time_and_is_always_safe(
    *, attempt: int, failure: Reason | int, method: bytes, flags: tuple[bool, ...], remaining: float,
    retry_after: float | None, pushback: bytes | None,
) -> None:  # fmt: skip
    """Whatever comes together: one of wait and reason, counted once, and no wait that leaves no time."""
    replayable, repeatable, unseen, nested = flags
    retrier = make(min_per_second=1)
    answer = retrier.next(
        attempt, failure, method=method, replayable=replayable, remaining=remaining, now=0.0,
        retry_after=retry_after, repeatable=repeatable, unseen=unseen, nested=nested, pushback=pushback,
    )  # fmt: skip
    assert retrier.retries + sum(retrier.suppressed.values()) == 1
    if isinstance(answer, float):
        assert 0 <= answer < remaining
        assert (attempt < ALL.attempts, replayable, nested) == (True, True, False)
        assert repeatable or unseen or method == b"GET" or failure is Reason.CONNECT_FAILURE
    else:
        assert retrier.suppressed[answer] == 1
        assert retrier.snapshot(0.0)["budget"]["retries"] == 0
