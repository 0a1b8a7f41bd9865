"""Windows against the plain definition: all calls kept in a list, and counted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nova_api.policies import WindowPolicy
from nova_api.units import Duration
from nova_sidecar.policy.window import CountWindow, TimeWindow, make_window, minimum

CALLS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 3), st.sampled_from(["failed", "slow", "plain"])), max_size=80
)
"""Seconds since the last call, plain successes in the second before it that are only counted, and what it is."""


@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 12), calls=CALLS)
def test_a_count_window_holds_the_last_calls(length: int, calls: list[tuple[float, int, str]]) -> None:
    window = CountWindow(length)
    every: list[str] = []
    for _, passed, kind in calls:
        window.settle(passed, 0.0)
        window.count(failed=kind == "failed", slow=kind == "slow")
        every += ["plain"] * passed + [kind]
        last = every[-length:]
        assert (window.calls, window.failed, window.slow) == (len(last), last.count("failed"), last.count("slow"))


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(1, 5), start=st.floats(0, 1000), calls=CALLS)
def test_a_time_window_holds_the_last_whole_seconds(
    seconds: int, start: float, calls: list[tuple[float, int, str]]
) -> None:
    window = TimeWindow(seconds, start)
    now = start
    every: list[tuple[int, str]] = []
    for wait, passed, kind in calls:
        every += [(int(now), "plain")] * passed  # counted while it was still that second
        now += wait
        window.settle(passed, now)
        window.count(failed=kind == "failed", slow=kind == "slow")
        every.append((int(now), kind))
        last = [what for second, what in every if second > int(now) - seconds]
        assert (window.calls, window.failed, window.slow) == (len(last), last.count("failed"), last.count("slow"))
        assert now < window.quiet_until <= now + 1


def test_time_that_goes_back_is_no_time() -> None:
    window = TimeWindow(3, 10.0)
    window.settle(0, 12.0)
    window.count(failed=True, slow=False)
    window.settle(0, 11.0)
    window.count(failed=False, slow=False)

    assert (window.calls, window.failed) == (2, 1)
    window.settle(0, 14.9)
    assert window.calls == 2
    window.settle(0, 15.0)
    assert window.calls == 0


def test_after_a_long_silence_nothing_is_left_and_it_took_no_longer() -> None:
    window = TimeWindow(300, 0.0)
    window.settle(7, 0.5)
    window.settle(0, 1e9)

    assert window.calls == 0


def test_a_window_begins_anew() -> None:
    for window in (CountWindow(5), TimeWindow(5, 0.0)):
        window.settle(3, 0.5)
        window.count(failed=True, slow=False)
        window.clear(7.0)
        assert (window.calls, window.failed, window.slow) == (0, 0, 0)
        window.settle(1, 7.5)
        assert window.calls == 1


def test_the_policy_says_which_window_and_when_a_rate_is_looked_at() -> None:
    assert repr(make_window(WindowPolicy(type="Count"), 0.0)) == "<CountWindow calls=0 failed=0 slow=0>"
    assert repr(make_window(WindowPolicy(duration=Duration(2.9)), 0.0)) == "<TimeWindow calls=0 failed=0 slow=0>"
    assert minimum(WindowPolicy(type="Count", calls=10, minimum_calls=20)) == 10
    assert minimum(WindowPolicy(type="Time", calls=10, minimum_calls=20)) == 20
