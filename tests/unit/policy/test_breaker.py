from random import Random

import pytest
from msgspec.structs import replace

from nova_api.policies import BreakerPolicy
from nova_api.units import Duration
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.transitions import TRANSITIONS

POLICY = BreakerPolicy(
    failure_threshold=3,
    success_threshold=2,
    open_duration=Duration(10),
    max_open_duration=Duration(60),
    half_open_probes=1,
)


class Fixed(Random):
    """Chance that always falls the same way."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


def make(now: float = 0.0, spread: float = 0.0, **changes: object) -> Breaker:
    return Breaker(policy(**changes), Fixed(spread), now)


def policy(**changes: object) -> BreakerPolicy:
    return replace(POLICY, **changes)


def call(breaker: Breaker, outcome: Outcome, now: float) -> Reject | None:
    reject = breaker.admit(now)
    if reject is None:
        breaker.record(outcome, now, breaker.ticket)
    return reject


def opened(now: float = 0.0, **changes: object) -> Breaker:
    breaker = make(now, **changes)
    for _ in range(POLICY.failure_threshold):
        assert call(breaker, FAILURE, now) is None
    assert breaker.state == "open"
    return breaker


def test_consecutive_failures_open_it() -> None:
    breaker = make()
    for outcome in (FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE):
        call(breaker, outcome, 1.0)
    assert breaker.state == "closed"
    call(breaker, FAILURE, 1.0)
    assert breaker.state == "open"


def test_a_cancelled_attempt_is_neither_failure_nor_success() -> None:
    breaker = make()
    for outcome in (FAILURE, CANCELLED, FAILURE, CANCELLED, FAILURE):
        call(breaker, outcome, 1.0)
    assert breaker.state == "open"


def test_failures_that_finish_together_open_it_once() -> None:
    breaker = make()
    tickets = []
    for _ in range(10):
        assert breaker.admit(0.0) is None
        tickets.append(breaker.ticket)
    for ticket in tickets:
        breaker.record(FAILURE, 1.0, ticket)
    assert breaker.transitions["closed", "open", "consecutive"] == 1
    assert breaker.admit(10.9) == Reject(Reason.CIRCUIT_OPEN, pytest.approx(0.1))


def test_open_refuses_and_says_for_how_long() -> None:
    breaker = opened(now=100.0)
    assert breaker.admit(100.0) == Reject(Reason.CIRCUIT_OPEN, 10.0)
    assert breaker.admit(107.5) == Reject(Reason.CIRCUIT_OPEN, 2.5)
    assert breaker.rejected == 2


def test_recovery_takes_consecutive_probes_one_at_a_time() -> None:
    breaker = opened()
    assert breaker.admit(10.0) is None
    assert breaker.state == "half_open"
    first = breaker.ticket
    assert breaker.admit(10.1) == Reject(Reason.CIRCUIT_OPEN, 1.0)
    breaker.record(SUCCESS, 10.2, first)
    assert breaker.state == "half_open"
    assert call(breaker, SUCCESS, 10.3) is None
    assert breaker.state == "closed"
    assert {step: count for step, count in breaker.transitions.items() if count} == {
        ("closed", "open", "consecutive"): 1,
        ("open", "half_open", "probe"): 1,
        ("half_open", "closed", "probe"): 1,
    }


def test_a_cancelled_probe_gives_its_place_back_and_proves_nothing() -> None:
    breaker = opened(success_threshold=1)
    assert breaker.admit(10.0) is None
    breaker.record(CANCELLED, 10.1, breaker.ticket)
    assert breaker.state == "half_open"
    assert call(breaker, SUCCESS, 10.2) is None
    assert breaker.state == "closed"


def test_failed_probes_double_the_open_time_up_to_its_maximum_and_success_resets_it() -> None:
    breaker = opened()
    now, lengths = 0.0, []
    for _ in range(5):
        wait = breaker.admit(now)
        assert wait is not None
        assert wait.retry_after is not None
        lengths.append(wait.retry_after)
        now += wait.retry_after
        assert call(breaker, FAILURE, now) is None
    assert lengths == pytest.approx([10, 20, 40, 60 / 1.1, 60 / 1.1])  # at the maximum it is spread downwards
    now += 60
    assert call(breaker, SUCCESS, now) is None
    assert call(breaker, SUCCESS, now) is None
    for _ in range(3):
        call(breaker, FAILURE, now)
    assert breaker.admit(now) == Reject(Reason.CIRCUIT_OPEN, 10.0)


@pytest.mark.parametrize(
    ("spread", "shortest", "longest", "expected"),
    [
        (0.0, 10, 60, 10.0),
        (1.0, 10, 60, 11.0),
        (1.0, 10, 10.5, 10.5),  # never above the maximum ...
        (0.0, 10, 10.5, 10.0),  # ... nor below openDuration
        (0.5, 10, 10, 10.0),
    ],
)
def test_the_spread_of_the_open_time_stays_within_its_bounds(
    spread: float, shortest: float, longest: float, expected: float
) -> None:
    breaker = opened(spread=spread, open_duration=Duration(shortest), max_open_duration=Duration(longest))
    assert breaker.admit(0.0) == Reject(Reason.CIRCUIT_OPEN, pytest.approx(expected))


def test_at_the_maximum_the_open_time_is_spread_downwards() -> None:
    lengths = set()
    for spread in (0.0, 0.5, 1.0):
        breaker = opened(spread=spread, open_duration=Duration(1), max_open_duration=Duration(2))
        assert call(breaker, FAILURE, 5.0) is None  # the probe: 2 s, which is the maximum
        reject = breaker.admit(5.0)
        assert reject is not None
        lengths.add(reject.retry_after)
    assert len(lengths) == 3
    assert max(lengths) == 2.0
    assert min(lengths) == pytest.approx(2 / 1.1)


def test_results_from_before_a_transition_do_not_count() -> None:
    breaker = make(success_threshold=1)
    assert breaker.admit(0.0) is None
    slow = breaker.ticket
    for _ in range(3):
        call(breaker, FAILURE, 1.0)
    assert breaker.admit(11.5) is None  # half_open, one probe under way
    probe = breaker.ticket
    breaker.record(SUCCESS, 11.6, slow)
    assert breaker.state == "half_open"
    assert breaker.admit(11.7) is not None  # and the old result freed no place
    breaker.record(SUCCESS, 11.8, probe)
    assert breaker.state == "closed"
    for _ in range(3):
        breaker.record(FAILURE, 11.9, slow)
    assert breaker.state == "closed"


def test_several_probes_may_be_allowed_and_a_late_one_counts_for_nothing() -> None:
    breaker = opened(half_open_probes=2, success_threshold=1)
    assert breaker.admit(10.0) is None
    first = breaker.ticket
    assert breaker.admit(10.0) is None
    second = breaker.ticket
    assert breaker.admit(10.0) is not None
    breaker.record(FAILURE, 10.1, first)
    breaker.record(SUCCESS, 10.2, second)
    assert breaker.state == "open"


def test_forced_open_refuses_from_the_start_without_promising_an_end() -> None:
    breaker = make(now=50.0, mode="ForcedOpen")
    assert breaker.admit(1e9) == Reject(Reason.CIRCUIT_OPEN, None)
    assert breaker.open_seconds(60.0) == 10.0
    breaker.configure(POLICY, 70.0)
    assert breaker.state == "closed"
    assert breaker.admit(70.0) is None
    assert breaker.open_seconds(99.0) == 20.0


def test_forced_open_takes_over_from_every_state() -> None:
    half_open = opened()
    assert half_open.admit(10.0) is None
    for breaker in (make(), opened(), half_open):
        breaker.configure(policy(mode="ForcedOpen"), 20.0)
        assert breaker.admit(1e9) == Reject(Reason.CIRCUIT_OPEN, None)


def test_off_watches_nothing() -> None:
    breaker = make(mode="Off")
    for _ in range(100):
        assert call(breaker, FAILURE, 1.0) is None
    assert breaker.state == "closed"
    breaker = opened()
    breaker.configure(policy(mode="Off"), 1.0)
    assert breaker.admit(1.0) is None
    assert breaker.transitions["open", "closed", "configuration"] == 1


def test_failures_from_before_off_are_forgotten() -> None:
    breaker = make()
    call(breaker, FAILURE, 0.0)
    call(breaker, FAILURE, 0.0)
    breaker.configure(policy(mode="Off"), 1.0)
    breaker.configure(POLICY, 2.0)
    call(breaker, FAILURE, 3.0)
    assert breaker.state == "closed"


def test_shadow_refuses_nothing_and_counts() -> None:
    breaker = opened(mode="Shadow")
    assert call(breaker, FAILURE, 5.0) is None
    assert breaker.admit(6.0) is None
    assert breaker.would_reject == 2
    assert breaker.ticket < 0
    assert breaker.rejected == 0
    assert breaker.state == "open"


def test_a_hot_reload_keeps_counts_and_changes_the_open_time_under_way() -> None:
    breaker = make()
    call(breaker, FAILURE, 0.0)
    breaker.configure(policy(failure_threshold=2), 0.5)
    call(breaker, FAILURE, 1.0)
    assert breaker.state == "open"
    breaker.configure(policy(open_duration=Duration(2)), 1.5)
    assert breaker.admit(2.0) == Reject(Reason.CIRCUIT_OPEN, 1.0)
    breaker.configure(policy(open_duration=Duration(20)), 2.0)
    assert breaker.admit(2.0) == Reject(Reason.CIRCUIT_OPEN, 19.0)
    breaker.configure(policy(mode="Shadow", open_duration=Duration(20)), 2.0)
    assert breaker.admit(2.0) is None
    breaker.configure(policy(open_duration=Duration(1)), 3.0)
    assert breaker.admit(3.0) is None
    assert breaker.state == "half_open"


def test_open_seconds_add_up_over_several_open_times() -> None:
    breaker = opened(now=0.0, success_threshold=1)
    assert breaker.open_seconds(4.0) == 4.0
    call(breaker, SUCCESS, 12.0)
    assert breaker.open_seconds(50.0) == 12.0
    for _ in range(3):
        call(breaker, FAILURE, 60.0)
    assert breaker.open_seconds(65.0) == 17.0


def test_listeners_hear_every_transition() -> None:
    breaker = make(success_threshold=1)
    heard: list[tuple[str, str, str, float]] = []
    breaker.on_transition.append(lambda *step: heard.append(step))
    for _ in range(3):
        call(breaker, FAILURE, 1.0)
    call(breaker, FAILURE, 11.0)
    call(breaker, SUCCESS, 40.0)
    assert heard == [
        ("closed", "open", "consecutive", 1.0),
        ("open", "half_open", "probe", 11.0),
        ("half_open", "open", "probe", 11.0),
        ("open", "half_open", "probe", 40.0),
        ("half_open", "closed", "probe", 40.0),
    ]


def test_snapshot_and_repr_tell_the_state() -> None:
    breaker = opened(now=1.0)
    breaker.admit(3.0)
    assert breaker.snapshot(3.0) == {
        "mode": "Enforce",
        "state": "open",
        "cause": "consecutive",
        "failures": 0,
        "successes": 0,
        "calls": 0,
        "failedCalls": 0,
        "slowCalls": 0,
        "probesInFlight": 0,
        "retryAfter": 8.0,
        "openSeconds": 2.0,
        "rejected": 1,
        "wouldReject": 0,
        "transitions": {
            "closed->open": 1,
            "open->half_open": 0,
            "half_open->open": 0,
            "half_open->closed": 0,
            "open->closed": 0,
        },
        "transitionsByCause": {
            f"{before}->{after} {cause}": int(cause == "consecutive") for before, after, cause in TRANSITIONS
        },
    }
    assert repr(breaker) == "<Breaker open failures=0 successes=0 probes=0 generation=1>"
