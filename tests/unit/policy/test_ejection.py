"""Endpoints that fail are taken out, not too many, not for ever; checked against anything that may happen."""

from math import floor, inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from nova_api.policies import EndpointBreakerPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.ejection import Ejector, Health
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome

POLICY = EndpointBreakerPolicy(
    failure_threshold=2, eject_duration=Duration(10), max_eject_duration=Duration(25), panic_threshold=Share(0)
)


def make(endpoints: int, **changes: Any) -> tuple[Ejector[Health], list[Health]]:
    ejector: Ejector[Health] = Ejector(replace(POLICY, **changes))
    members = [Health() for _ in range(endpoints)]
    ejector.replace(members)
    return ejector, members


def fail(ejector: Ejector[Health], health: Health, now: float, times: int = 2) -> bool:
    """Whether the last of so many failures ejected it."""
    return [ejector.record(health, FAILURE, now) for _ in range(times)][-1]


def test_consecutive_failures_take_an_endpoint_out_and_time_lets_it_back_in() -> None:
    ejector, (good, bad) = make(2)
    for outcome in (FAILURE, SUCCESS, FAILURE, CANCELLED):
        assert not ejector.record(bad, outcome, 0.0)
    assert ejector.ring == [good, bad]

    assert ejector.record(bad, FAILURE, 1.0)

    assert ejector.ring == [good]
    assert ejector.acts(bad)
    ejector.readmit(10.9)
    assert ejector.ring == [good]
    ejector.readmit(11.0)
    assert ejector.ring == [good, bad]
    assert (ejector.out, ejector.ejections, bad.failures) == (0, 1, 0)


@pytest.mark.parametrize(
    ("endpoints", "share", "most"),
    [(1, 1.0, 0), (2, 0.0, 0), (2, 0.01, 1), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (10, 0.29, 2), (100, 0.29, 29)],
)
def test_how_many_may_be_out(endpoints: int, share: float, most: int) -> None:
    ejector, members = make(endpoints, max_ejected=Share(share))
    for health in members:
        fail(ejector, health, 0.0)
    assert ejector.out == most


def test_it_is_out_longer_each_time_in_a_row_up_to_a_maximum() -> None:
    ejector, (_, bad) = make(2)
    now, lengths = 0.0, []
    for _ in range(4):
        assert fail(ejector, bad, now)
        lengths.append(bad.back_at - now)
        now = bad.back_at
        ejector.readmit(now)
    assert lengths == [10, 20, 25, 25]

    now += 25.1  # it did well for longer than it had been out
    assert fail(ejector, bad, now)
    assert bad.back_at - now == 10


def test_a_success_in_between_does_not_end_the_row() -> None:
    """A bad endpoint that answers every now and then is still bad."""
    ejector, (_, bad) = make(2)
    assert fail(ejector, bad, 0.0)
    ejector.readmit(10.0)
    ejector.record(bad, SUCCESS, 11.0)
    assert fail(ejector, bad, 12.0)
    assert bad.back_at == 32.0


def test_what_happens_to_an_endpoint_that_is_out_is_not_counted() -> None:
    ejector, (_, bad) = make(2)
    fail(ejector, bad, 0.0)
    assert not fail(ejector, bad, 5.0, times=10)
    ejector.readmit(10.0)
    assert not ejector.record(bad, FAILURE, 10.0)


def test_panic_uses_all_of_them_until_enough_are_back() -> None:
    ejector, members = make(4, max_ejected=Share(1.0), panic_threshold=Share(0.5))
    for at, health in enumerate(members[:2]):
        fail(ejector, health, float(at))
    assert (ejector.panic, ejector.ring) == (False, [members[3], members[2]])
    fail(ejector, members[2], 2.0)
    assert ejector.panic
    assert ejector.ring == members
    assert not ejector.acts(members[0])
    ejector.readmit(10.0)
    assert not ejector.panic
    assert set(ejector.ring) == {members[0], members[3]}


def test_there_is_always_one_to_choose_also_without_a_panic_threshold() -> None:
    ejector, members = make(2, max_ejected=Share(1.0))
    for health in members:
        fail(ejector, health, 0.0)
    assert ejector.ring == members
    assert ejector.panic


def test_endpoints_that_stay_keep_their_state_and_those_that_go_do_not_matter() -> None:
    ejector, members = make(4)
    fail(ejector, members[0], 0.0)
    ejector.record(members[1], FAILURE, 0.0)
    gone = members[2]
    ejector.replace([members[0], members[1], Health()])

    assert ejector.out == 1
    assert len(ejector.ring) == 2
    assert not fail(ejector, gone, 1.0, times=5)
    assert not ejector.record(members[1], FAILURE, 1.0)  # one of three is out already
    ejector.readmit(10.0)
    assert ejector.record(members[1], FAILURE, 10.0)


def test_when_endpoints_go_no_more_than_the_share_stays_out() -> None:
    ejector, members = make(4)
    fail(ejector, members[0], 0.0)
    fail(ejector, members[1], 1.0)
    ejector.replace(members[:3])

    assert [health.ejected for health in members[:3]] == [False, True, False]  # the one that was due first is back


def test_shadow_counts_and_keeps_all() -> None:
    ejector, members = make(2, mode="Shadow")
    assert fail(ejector, members[1], 0.0)
    assert ejector.ring == members
    assert not ejector.acts(members[1])
    assert ejector.snapshot() == {
        "mode": "Shadow", "ejected": 0, "ejections": 0, "wouldEject": 1, "panic": False,
    }  # fmt: skip


def test_a_reload_keeps_who_is_out_and_another_mode_lets_all_back_in() -> None:
    ejector, members = make(2)
    fail(ejector, members[1], 0.0)
    ejector.configure(replace(POLICY, failure_threshold=9))
    assert ejector.ring == [members[0]]
    ejector.configure(replace(POLICY, mode="Off"))
    assert set(ejector.ring) == set(members)
    assert not fail(ejector, members[1], 1.0, times=100)


def test_listeners_hear_of_both() -> None:
    ejector, (_, bad) = make(2)
    heard: list[tuple[Health, bool]] = []
    ejector.on_change.append(lambda health: heard.append((health, health.ejected)))
    fail(ejector, bad, 0.0)
    ejector.readmit(99.0)
    assert heard == [(bad, True), (bad, False)]


def test_many_endpoints_cost_no_more_per_ejection() -> None:
    ejector, members = make(10_000, max_ejected=Share(1.0), failure_threshold=1, panic_threshold=Share(0.3))
    for health in members:
        assert ejector.record(health, FAILURE, 0.0)
    ejector.readmit(10.0)
    assert (ejector.out, len(ejector.ring)) == (0, 10_000)


class EjectorMachine(RuleBasedStateMachine):
    """Random outcomes, waits, sets of endpoints and policies."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.policy = POLICY
        self.ejector: Ejector[Health] = Ejector(POLICY)
        self.members: list[Health] = []

    @rule(count=st.integers(0, 7), fresh=st.booleans())
    def endpoints(self, count: int, fresh: bool) -> None:
        kept = [] if fresh else self.members[:count]
        self.members = kept + [Health() for _ in range(count - len(kept))]
        self.ejector.replace(self.members)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), outcome=st.sampled_from([FAILURE, FAILURE, FAILURE, SUCCESS, CANCELLED]))
    def result(self, data: st.DataObject, outcome: Outcome) -> None:
        health = data.draw(st.sampled_from(self.members))
        was, failures, out = health.ejected, health.failures, self.ejector.out
        ejected = self.ejector.record(health, outcome, self.now)
        must = (
            outcome is FAILURE
            and not was
            and failures + 1 >= self.policy.failure_threshold
            and out < self.most
            and self.policy.mode != "Off"
        )
        assert ejected == must
        if ejected:
            stays = health.back_at - self.now
            assert self.policy.eject_duration - 1e-9 <= stays <= self.policy.max_eject_duration + 1e-9

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.ejector.readmit(self.now)
        assert all(health.back_at > self.now for health in self.members if health.ejected)

    @rule(
        mode=st.sampled_from(["Enforce", "Enforce", "Shadow", "Off"]),
        share=st.floats(0, 1),
        panic=st.floats(0, 1),
        threshold=st.integers(1, 3),
    )
    def configure(self, mode: Any, share: float, panic: float, threshold: int) -> None:
        self.policy = replace(
            POLICY, mode=mode, max_ejected=Share(share), panic_threshold=Share(panic), failure_threshold=threshold
        )
        self.ejector.configure(self.policy)

    @property
    def most(self) -> float:
        count, share = len(self.members), self.policy.max_ejected
        return 0 if count < 2 or share <= 0 else max(1, floor(share * count + 1e-9))

    @invariant()
    def never_more_out_than_allowed(self) -> None:
        assert self.ejector.out == sum(health.ejected for health in self.members) <= self.most
        assert self.ejector.out == 0 or self.policy.mode != "Off"

    @invariant()
    def those_to_choose_from_are_those_that_serve_or_all(self) -> None:
        ring = self.ejector.ring
        assert len(ring) == len(set(ring))
        serving = {h for h in self.members if not (h.ejected and self.policy.mode == "Enforce")}
        few = len(serving) + 1e-9 < self.policy.panic_threshold * len(self.members)
        assert self.ejector.panic == bool(self.members and (few or not serving))
        assert set(ring) == (set(self.members) if self.ejector.panic else serving)
        assert ring or not self.members

    @invariant()
    def everybody_who_is_out_has_an_end(self) -> None:
        assert all(self.now - inf < health.back_at < inf for health in self.members if health.ejected)


TestEjectorMachine = EjectorMachine.TestCase
TestEjectorMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
