"""The limiter against any order of arrivals, ends, departures and reloads: nobody is lost, nobody served twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_api.policies import BackpressurePolicy
from nova_api.units import Duration
from nova_sidecar.policy.limiter import QUEUED, Limiter
from nova_sidecar.policy.reasons import Reject

POLICIES = st.builds(
    lambda mode, maximum, threshold, queue, timeout: BackpressurePolicy(
        mode=mode, max_concurrency=maximum, threshold=threshold, max_queue=queue, acquire_timeout=Duration(timeout)
    ),
    st.sampled_from(["Enforce", "Enforce", "Enforce", "Shadow", "Off"]),
    st.integers(1, 6),
    st.sampled_from([0.5, 0.85, 1.0, 1.0, 1.0]),
    st.integers(0, 5),
    st.sampled_from([0.0, 1.0, 3.0]),
)


class LimiterMachine(RuleBasedStateMachine):
    """The model: how many are in flight, and the waiters in order with the end of their wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.policy = BackpressurePolicy(max_concurrency=2, threshold=1.0, max_queue=4)
        self.limiter: Limiter[int] = Limiter(self.policy)
        self.in_flight = 0
        self.most = 0
        self.queue: list[tuple[int, float]] = []
        self.names = 0
        self.granted = 0

    def live(self) -> list[int]:
        return [waiter for waiter, until in self.queue if self.now < until]

    def grant(self, waiter: int) -> None:
        assert waiter == self.live()[0], "first in, first out, and nobody whose time is over"
        place = [name for name, _ in self.queue].index(waiter)
        del self.queue[: place + 1]  # those before it were over
        self.granted += 1

    def enter(self) -> None:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)

    @rule(patience=st.sampled_from([0.5, 2.0, 10.0]))
    def arrive(self, patience: float) -> None:
        utilization, live = self.in_flight / self.policy.max_concurrency, self.live()
        answer = self.limiter.admit(self.now)
        if answer is None:
            if self.policy.mode == "Enforce":
                assert utilization <= self.policy.threshold
                assert self.in_flight < self.policy.max_concurrency
                assert not live, "overtaken"
            self.enter()
        elif answer is QUEUED:
            assert self.policy.threshold == 1.0
            assert self.in_flight >= self.policy.max_concurrency
            self.names += 1
            until = self.limiter.enqueue(self.names, self.now, self.now + patience)
            assert until == self.now + min(patience, self.policy.acquire_timeout)
            self.queue.append((self.names, until))
        else:
            assert isinstance(answer, Reject)
            assert self.policy.mode == "Enforce"
            assert utilization > self.policy.threshold or self.in_flight >= self.policy.max_concurrency

    @precondition(lambda self: self.in_flight)
    @rule()
    def finish(self) -> None:
        waiter = self.limiter.release(self.now)
        if waiter is not None:
            self.grant(waiter)
        else:
            self.in_flight -= 1

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiter, _ = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.limiter.abandon(waiter)

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(policy=POLICIES)
    def configure(self, policy: BackpressurePolicy) -> None:
        self.policy = policy
        for waiter in self.limiter.configure(policy, self.now):
            self.grant(waiter)
            self.enter()

    @invariant()
    def in_flight_is_what_was_admitted_and_not_released(self) -> None:
        assert self.limiter.in_flight == self.in_flight
        assert self.limiter.high_water == self.most

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if self.live():
            utilization = self.in_flight / self.policy.max_concurrency
            assert self.policy.mode == "Enforce"
            assert utilization > self.policy.threshold or self.in_flight >= self.policy.max_concurrency

    @invariant()
    def every_waiter_has_exactly_one_fate(self) -> None:
        limiter = self.limiter
        assert limiter.queued == self.granted + limiter.abandoned + limiter.expired + limiter.waiting
        assert len(self.live()) <= limiter.waiting <= len(self.queue)


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
