"""The breaker against anything that may happen to it, in any order."""

from math import inf
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from nova_api.policies import BreakerPolicy, WindowPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome

OUTCOMES = st.sampled_from(Outcome)
NO_RATE = WindowPolicy(failure_rate=Share(0))  # test_breaker_rates has the rates

POLICIES = st.builds(
    lambda failures, successes, probes, length, longer: BreakerPolicy(
        failure_threshold=failures,
        success_threshold=successes,
        half_open_probes=probes,
        window=NO_RATE,
        open_duration=Duration(length),
        max_open_duration=Duration(length + longer),
    ),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.floats(0.5, 10),
    st.floats(0, 30),
)


class BreakerMachine(RuleBasedStateMachine):
    """Random admissions, results (late and stale ones too), waits and reloads, checked against the log of events.

    The log holds what counts since the last transition: from it alone follows whether the breaker had to move.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.policy = BreakerPolicy(failure_threshold=2, success_threshold=2, open_duration=Duration(5), window=NO_RATE)
        self.breaker = Breaker(self.policy, Random(7), self.now)
        self.breaker.on_transition.append(self.moved)
        self.moves: list[tuple[str, str, float]] = []
        self.log: list[Outcome] = []
        self.current: list[int] = []  # tickets in flight from this generation
        self.stale: list[int] = []
        self.open_since = -inf

    def moved(self, before: str, after: str, cause: str, now: float) -> None:
        self.moves.append((before, after, now))
        self.stale += self.current
        self.current, self.log = [], []
        if after == "open":
            self.open_since = now

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def admit(self) -> None:
        before, in_flight = self.breaker.state, len(self.current)
        reject = self.breaker.admit(self.now)
        after = self.breaker.state
        if before == "closed":
            assert reject is None
        if before == "open" and self.now < self.open_since + self.policy.open_duration:
            assert reject is not None
        if before == "open" and self.now >= self.open_since + self.policy.max_open_duration:
            assert (reject, after) == (None, "half_open")
        if before == "half_open":
            assert (reject is None) == (in_flight < self.policy.half_open_probes)
        if reject is None:
            self.current.append(self.breaker.ticket)
        else:
            assert reject.retry_after is not None
            assert 0 < reject.retry_after <= max(1.0, self.policy.max_open_duration) + 1e-9  # an instant is rounded

    @precondition(lambda self: self.current)
    @rule(outcome=OUTCOMES, data=st.data())
    def record(self, outcome: Outcome, data: st.DataObject) -> None:
        ticket = self.current.pop(data.draw(st.integers(0, len(self.current) - 1)))
        before, moves = self.breaker.state, len(self.moves)
        counted = [*self.log, outcome] if outcome is not CANCELLED else list(self.log)
        self.log = list(counted)
        self.breaker.record(outcome, self.now, ticket)
        moved = self.moves[moves:]
        if before == "closed":
            tail = counted[-self.policy.failure_threshold :]
            must_open = len(tail) == self.policy.failure_threshold and set(tail) == {FAILURE} and outcome is FAILURE
            assert moved == ([("closed", "open", self.now)] if must_open else [])
        elif outcome is FAILURE:
            assert moved == [("half_open", "open", self.now)]
        elif outcome is SUCCESS and counted.count(SUCCESS) >= self.policy.success_threshold:
            assert moved == [("half_open", "closed", self.now)]
        else:
            assert moved == []

    @precondition(lambda self: self.stale)
    @rule(outcome=OUTCOMES)
    def record_stale(self, outcome: Outcome) -> None:
        before = self.breaker.snapshot(self.now)
        self.breaker.record(outcome, self.now, self.stale.pop())
        assert self.breaker.snapshot(self.now) == before

    @rule(policy=POLICIES)
    def configure(self, policy: BreakerPolicy) -> None:
        before = self.breaker.snapshot(self.now)
        self.policy = policy
        self.breaker.configure(policy, self.now)
        after = self.breaker.snapshot(self.now)
        assert {**after, "retryAfter": None} == {**before, "retryAfter": None}

    @invariant()
    def the_transitions_lead_to_the_state(self) -> None:
        counts = self.breaker.transitions
        assert sum(counts.values()) == len(self.moves)
        entered = sum(count for (_, after, _), count in counts.items() if after == self.breaker.state)
        left = sum(count for (before, _, _), count in counts.items() if before == self.breaker.state)
        assert entered - left == (0 if self.breaker.state == "closed" else 1)

    @invariant()
    def probes_in_flight_are_those_not_yet_recorded(self) -> None:
        if self.breaker.state == "half_open":
            assert self.breaker.snapshot(self.now)["probesInFlight"] == len(self.current)

    @invariant()
    def open_seconds_are_the_sum_of_the_open_times(self) -> None:
        total, since = 0.0, None
        for before, after, at in [*self.moves, ("", "", self.now)]:
            if since is not None and (before == "open" or not before):
                total, since = total + at - since, None
            if after == "open":
                since = at
        assert abs(self.breaker.open_seconds(self.now) - total) < 1e-6


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=100, deadline=None)
@given(
    policy=POLICIES,
    events=st.lists(st.tuples(st.floats(0, 4), OUTCOMES, OUTCOMES), max_size=60),
    seed=st.integers(0, 2**32),
)
def test_shadow_goes_through_the_states_of_enforce(
    policy: BreakerPolicy, events: list[tuple[float, Outcome, Outcome]], seed: int
) -> None:
    """Whatever becomes of the requests that Enforce would have refused."""
    enforce = Breaker(policy, Random(seed), 0.0)
    shadow = Breaker(replace(policy, mode="Shadow"), Random(seed), 0.0)
    now = 0.0
    for seconds, outcome, of_the_refused in events:
        now += seconds
        reject = enforce.admit(now)
        assert shadow.admit(now) is None
        assert (shadow.ticket < 0) == (reject is not None)
        if reject is None:
            enforce.record(outcome, now, enforce.ticket)
        shadow.record(outcome if reject is None else of_the_refused, now, shadow.ticket)
        assert shadow.state == enforce.state
    assert shadow.transitions == enforce.transitions
    assert (shadow.would_reject, shadow.rejected) == (enforce.rejected, 0)
