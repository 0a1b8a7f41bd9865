"""Opening by the share of failed and of slow calls in a window."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nova_api.policies import BreakerPolicy, SlowCallPolicy, WindowPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome

COUNT = WindowPolicy(type="Count", calls=10, minimum_calls=4, failure_rate=Share(0.5))
TIME = WindowPolicy(type="Time", duration=Duration(3), minimum_calls=4, failure_rate=Share(0.5))
POLICY = BreakerPolicy(failure_threshold=0, success_threshold=1, open_duration=Duration(10))
SLOW = SlowCallPolicy(duration=Duration(0.5), rate=Share(0.5))


def make(**changes: Any) -> Breaker:
    return Breaker(replace(POLICY, **changes), Random(1), 0.0)


def feed(breaker: Breaker, outcomes: str, now: float = 0.0) -> None:
    """``.`` a success, ``x`` a failure, ``s`` a slow success, ``c`` a cancelled call; nothing once it is open."""
    kinds: dict[str, tuple[Outcome, float]] = {
        ".": (SUCCESS, 0.1), "x": (FAILURE, 0.0), "s": (SUCCESS, 0.5), "c": (CANCELLED, 9.0),
    }  # fmt: skip
    for kind in outcomes:
        if breaker.admit(now) is None:
            outcome, seconds = kinds[kind]
            breaker.record(outcome, now, breaker.ticket, seconds)


def cause(breaker: Breaker) -> str | None:
    found: str | None = breaker.snapshot(0.0)["cause"]
    return found


@pytest.mark.parametrize("window", [COUNT, TIME], ids=["Count", "Time"])
def test_half_of_the_calls_failing_opens_it_though_they_are_never_in_a_row(window: WindowPolicy) -> None:
    breaker = make(window=window, failure_threshold=3)
    feed(breaker, ".x.")
    assert breaker.state == "closed"
    feed(breaker, "x")
    assert (breaker.state, cause(breaker)) == ("open", "failure_rate")


@pytest.mark.parametrize("window", [COUNT, TIME], ids=["Count", "Time"])
def test_few_calls_say_nothing_and_the_one_that_makes_the_minimum_may_be_a_success(window: WindowPolicy) -> None:
    breaker = make(window=window)
    feed(breaker, "xx.")
    assert breaker.state == "closed"
    feed(breaker, ".")
    assert (breaker.state, cause(breaker)) == ("open", "failure_rate")


def test_calls_leave_a_count_window() -> None:
    breaker = make(window=COUNT)
    feed(breaker, "......x" + "." * 6 + "xxxx")
    assert breaker.state == "closed"
    feed(breaker, "x")
    assert breaker.state == "open"


def test_as_older_successes_leave_a_time_window_the_share_of_failures_rises() -> None:
    breaker = make(window=TIME)
    feed(breaker, "." * 20, now=1.0)
    feed(breaker, "xxx..", now=2.0)
    feed(breaker, "..", now=3.9)
    assert breaker.state == "closed"
    feed(breaker, "x", now=4.0)  # 4 of 8
    assert breaker.state == "open"


def test_the_first_call_of_a_second_is_looked_at_also_when_it_is_a_success() -> None:
    breaker = make(window=TIME)
    feed(breaker, "." * 20, now=1.0)
    feed(breaker, "xxx", now=2.0)
    feed(breaker, ".", now=4.2)  # 3 of 4
    assert (breaker.state, cause(breaker)) == ("open", "failure_rate")


@pytest.mark.parametrize("window", [COUNT, TIME], ids=["Count", "Time"])
def test_slow_successes_open_it(window: WindowPolicy) -> None:
    breaker = make(window=window, slow_call=SLOW)
    feed(breaker, ".s.")
    assert breaker.state == "closed"
    feed(breaker, "s")
    assert (breaker.state, cause(breaker)) == ("open", "slow_rate")


def test_no_call_is_slow_where_no_duration_is_given() -> None:
    breaker = make(window=COUNT)
    feed(breaker, "s" * 30)
    assert breaker.state == "closed"


def test_slow_calls_open_it_also_where_the_failure_rate_is_off() -> None:
    breaker = make(window=replace(COUNT, failure_rate=Share(0)), slow_call=SLOW)
    feed(breaker, "xxxxx")
    assert breaker.state == "closed"
    feed(breaker, "sssss")
    assert (breaker.state, cause(breaker)) == ("open", "slow_rate")


def test_neither_rate_nor_threshold_and_it_never_opens() -> None:
    breaker = make(window=replace(COUNT, failure_rate=Share(0)))
    feed(breaker, "x" * 2000)
    assert breaker.state == "closed"
    assert breaker.snapshot(0.0)["calls"] == 0  # there is no window to fill


def test_a_slow_probe_is_no_proof_of_recovery() -> None:
    breaker = make(window=COUNT, slow_call=SLOW)
    feed(breaker, "xxxx")
    feed(breaker, "s", now=11.0)
    assert (breaker.state, cause(breaker)) == ("open", "probe")


def test_after_it_has_closed_the_window_begins_anew() -> None:
    breaker = make(window=COUNT)
    feed(breaker, "xxxx")
    feed(breaker, ".", now=20.0)
    assert breaker.state == "closed"
    feed(breaker, "xxx", now=20.0)
    assert breaker.state == "closed"


def test_cancelled_calls_are_not_in_the_window() -> None:
    breaker = make(window=COUNT)
    feed(breaker, "xcccc.x")
    assert breaker.snapshot(0.0)["calls"] == 3


def test_consecutive_failures_are_named_before_the_rate() -> None:
    breaker = make(window=COUNT, failure_threshold=4)
    feed(breaker, "xxxx")
    assert cause(breaker) == "consecutive"


def test_a_share_is_reached_by_whole_numbers_in_spite_of_rounding() -> None:
    for percent in range(1, 101):
        share = Share.parse(f"{percent}%")
        breaker = make(window=WindowPolicy(type="Count", calls=100, minimum_calls=100, failure_rate=share))
        feed(breaker, "." * (100 - percent) + "x" * (percent - 1))
        assert breaker.state == "closed"
        feed(breaker, "x")
        assert breaker.state == "open", percent


def test_a_reload_keeps_the_window_unless_its_shape_changes() -> None:
    breaker = make(window=COUNT)
    feed(breaker, "..x")
    breaker.configure(replace(POLICY, window=replace(COUNT, failure_rate=Share(0.4))), 0.0)
    feed(breaker, "x")
    assert breaker.state == "open"

    breaker = make(window=COUNT)
    feed(breaker, "..x")
    breaker.configure(replace(POLICY, window=replace(COUNT, calls=20)), 0.0)
    feed(breaker, "xxx")
    assert (breaker.state, breaker.snapshot(0.0)["calls"]) == ("closed", 3)


def test_the_snapshot_counts_what_is_in_the_window_now() -> None:
    breaker = make(window=TIME, slow_call=SLOW)
    feed(breaker, "......sx", now=0.5)
    shown = breaker.snapshot(2.9)
    assert (shown["calls"], shown["failedCalls"], shown["slowCalls"]) == (8, 1, 1)
    assert breaker.snapshot(3.0)["calls"] == 0
    feed(breaker, "xxx.", now=3.1)
    assert breaker.state == "open"


@settings(max_examples=300, deadline=None)
@given(
    window=st.builds(
        lambda kind, size, least, rate: WindowPolicy(
            type=kind, calls=size, duration=Duration(size), minimum_calls=least, failure_rate=Share(rate)
        ),
        st.sampled_from(["Count", "Time"]),
        st.integers(1, 8),
        st.integers(1, 8),
        st.sampled_from([0.0, 0.2, 0.5, 0.75, 1.0]),
    ),
    slow=st.sampled_from([0.2, 0.5, 1.0]),
    calls=st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5]), st.sampled_from("...xxsc")), max_size=60),
)
def test_it_opens_on_the_very_call_after_which_a_share_is_reached(
    window: WindowPolicy, slow: float, calls: list[tuple[float, str]]
) -> None:
    """Against the plain definition: every call kept, and both shares taken after each of them."""
    breaker = make(window=window, slow_call=replace(SLOW, rate=Share(slow)))
    now, every = 0.0, list[tuple[int, str]]()
    for wait, kind in calls:
        now += wait
        feed(breaker, kind, now)
        if kind == "c":
            continue
        every.append((int(now), kind))
        if window.type == "Count":
            kinds, least = [k for _, k in every[-window.calls :]], min(window.minimum_calls, window.calls)
        else:
            kinds, least = [k for second, k in every if second > int(now) - window.duration], window.minimum_calls
        failed, slowed, rate = kinds.count("x"), kinds.count("s"), window.failure_rate
        must = len(kinds) >= least and (
            (rate > 0 and failed > 0 and failed / len(kinds) >= rate) or (slowed > 0 and slowed / len(kinds) >= slow)
        )
        assert (breaker.state == "open") == must, every
        if must:
            return
