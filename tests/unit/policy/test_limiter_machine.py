"""The limiter against any order of arrivals, ends, departures and reloads: nobody is lost, nobody served twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_api.policies import AdaptivePolicy, BackpressurePolicy, PriorityPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.limiter import CRITICAL, NORMAL, QUEUED, SHEDDABLE, Limiter, Priority
from nova_sidecar.policy.reasons import Reject

POLICIES = st.builds(
    lambda mode, maximum, threshold, queue, timeout, priority, sheddable, adaptive: BackpressurePolicy(
        mode=mode,
        max_concurrency=maximum,
        threshold=threshold,
        max_queue=queue,
        acquire_timeout=Duration(timeout),
        priority=PriorityPolicy(mode=priority, sheddable=Share(sheddable)),
        adaptive=AdaptivePolicy(mode=adaptive, min_concurrency=1),
    ),
    st.sampled_from(["Enforce", "Enforce", "Enforce", "Shadow", "Off"]),
    st.integers(1, 6),
    st.sampled_from([0.5, 0.85, 1.0, 1.0, 1.0]),
    st.integers(0, 5),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from(["Off", "Shadow", "Enforce", "Enforce"]),
    st.sampled_from([0.4, 1.0]),
    st.sampled_from(["Off", "Off", "Shadow", "Enforce"]),
)


class LimiterMachine(RuleBasedStateMachine):
    """The model: how many are in flight, and the waiters of each class in order, with the end of their wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.policy = BackpressurePolicy(max_concurrency=2, threshold=1.0, max_queue=4)
        self.limiter: Limiter[int] = Limiter(self.policy)
        self.in_flight = 0
        self.most = 0
        self.queue: list[tuple[Priority, int, float]] = []
        self.names = 0
        self.granted = 0

    @property
    def limit(self) -> int:
        return self.limiter.limit

    def share(self, priority: Priority) -> float:
        """Utilization above which this class is not simply let in."""
        policy = self.policy
        if policy.priority.mode != "Enforce" or priority == NORMAL:
            return policy.threshold
        return 1.0 if priority == CRITICAL else min(policy.threshold, policy.priority.sheddable)

    def full_for(self, priority: Priority) -> bool:
        return self.in_flight >= self.limit or self.in_flight / self.limit > self.share(priority)

    def live(self) -> list[int]:
        ordered = sorted(self.queue, key=lambda waiter: (waiter[0], waiter[1]))
        return [name for _, name, until in ordered if self.now < until]

    def grant(self, waiter: int) -> None:
        assert waiter == self.live()[0], "by class, first in, first out, and nobody whose time is over"
        self.queue = [entry for entry in self.queue if entry[1] != waiter]
        self.granted += 1

    def enter(self) -> None:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)

    @rule(patience=st.sampled_from([0.5, 2.0, 10.0]), priority=st.sampled_from([CRITICAL, NORMAL, NORMAL, SHEDDABLE]))
    def arrive(self, patience: float, priority: Priority) -> None:
        full, live = self.full_for(priority), self.live()
        plain = self.policy.priority.mode == "Off"
        answer = self.limiter.admit(self.now) if plain else self.limiter.admit_as(priority, self.now)
        kept = NORMAL if plain else priority
        if answer is None:
            if self.policy.mode == "Enforce":
                assert not full
                assert not live or (priority == CRITICAL and self.policy.threshold < 1), "overtaken"
            self.enter()
        elif answer is QUEUED:
            assert self.policy.threshold == 1.0
            assert self.in_flight >= self.limit
            self.wait_in_line(kept, patience)
        else:
            assert isinstance(answer, Reject)
            assert self.policy.mode == "Enforce"
            assert full

    def wait_in_line(self, priority: Priority, patience: float) -> None:
        until = self.limiter.enqueue(self.names + 1, self.now, self.now + patience, priority)
        if isinstance(until, Reject):
            assert self.queue, "whoever comes first may wait"
            return
        assert until == self.now + min(patience, self.policy.acquire_timeout)
        self.names += 1
        self.queue.append((priority, self.names, until))

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
        _, waiter, _ = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.limiter.abandon(waiter)

    @rule(seconds=st.sampled_from([0.01, 0.25, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.limiter.adaptive)
    @rule(limit=st.integers(1, 6))
    def the_limit_moves(self, limit: int) -> None:
        adaptive = self.limiter.adaptive
        assert adaptive is not None
        adaptive.limit = float(min(limit, self.policy.max_concurrency))
        for waiter in self.limiter.resize(self.now):
            self.grant(waiter)
            self.enter()

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
            assert self.policy.mode == "Enforce"
            assert self.in_flight >= self.limit or self.in_flight / self.limit > self.policy.threshold

    @invariant()
    def every_waiter_has_exactly_one_fate(self) -> None:
        limiter = self.limiter
        assert limiter.queued == self.granted + limiter.abandoned + limiter.expired + limiter.waiting
        assert len(self.live()) <= limiter.waiting <= len(self.queue)


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
