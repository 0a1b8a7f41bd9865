"""When the sidecar protects itself, and when it is over."""

from hypothesis import given
from hypothesis import strategies as st

from nova_api.policies import SelfProtectionPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.protection import HOLD, Cause, SelfProtection, Usage

POLICY = SelfProtectionPolicy(max_loop_lag=Duration(1), max_memory=Share(0.9), max_connections=100)


def test_one_late_round_is_no_overload() -> None:
    """A process that was stopped for a while comes round late once."""
    protection = SelfProtection(POLICY)
    assert protection.look(Usage(lag=30.0), 0.0) == []
    assert protection.look(Usage(lag=0.0), 0.1) == []
    assert not protection.shedding


def test_a_loop_that_stays_late_sheds_until_it_is_well_below() -> None:
    protection = SelfProtection(POLICY)
    protection.look(Usage(lag=1.5), 0.0)
    assert protection.look(Usage(lag=1.2), 1.0) == [Cause.EVENT_LOOP]
    assert protection.shedding
    assert protection.look(Usage(lag=0.8), 5.0) == []
    assert protection.shedding
    assert protection.look(Usage(lag=0.1), 6.0) == [Cause.EVENT_LOOP]
    assert not protection.shedding
    assert protection.raised[Cause.EVENT_LOOP] == 1


def test_a_cause_stays_for_a_while() -> None:
    protection = SelfProtection(POLICY)
    protection.look(Usage(memory=0.95), 0.0)
    protection.look(Usage(memory=0.1), HOLD / 2)
    assert protection.shedding
    protection.look(Usage(memory=0.1), HOLD)
    assert not protection.shedding


def test_memory_without_a_limit_sheds_nothing() -> None:
    protection = SelfProtection(POLICY)
    assert protection.look(Usage(memory=0.0), 0.0) == []


def test_there_is_room_for_as_many_connections_as_the_policy_says() -> None:
    protection = SelfProtection(POLICY)
    protection.look(Usage(connections=40), 0.0)
    assert protection.room == 100
    assert protection.look(Usage(connections=100), 1.0) == [Cause.CONNECTIONS]
    assert (protection.shedding, protection.cause_of_no_room) == (False, Cause.CONNECTIONS)
    assert protection.look(Usage(connections=96), 9.0) == []
    assert protection.look(Usage(connections=90), 9.0) == [Cause.CONNECTIONS]


def test_there_is_room_for_as_many_connections_as_descriptors_are_left() -> None:
    """90 % of 60 are 54, of which 50 are open, 30 of them by callers: room for 34 callers."""
    protection = SelfProtection(POLICY)
    protection.look(Usage(connections=30, descriptors=50, descriptor_limit=60), 0.0)
    assert (protection.room, protection.cause_of_no_room) == (34, Cause.DESCRIPTORS)
    assert protection.look(Usage(connections=34, descriptors=54, descriptor_limit=60), 1.0) == [Cause.DESCRIPTORS]
    protection.look(Usage(connections=2, descriptors=60, descriptor_limit=60), 2.0)
    assert protection.room == 0
    assert protection.snapshot() == {
        "mode": "Enforce",
        "active": ["descriptors"],
        "raised": {"event_loop": 0, "memory": 0, "descriptors": 1, "connections": 0},
        "room": 0,
    }


def test_off_sees_nothing_and_forgets() -> None:
    protection = SelfProtection(POLICY)
    protection.look(Usage(memory=1.0), 0.0)
    assert protection.shedding
    protection.configure(SelfProtectionPolicy(mode="Off"))
    assert not protection.shedding
    assert protection.look(Usage(memory=1.0, lag=9, connections=10**9), 1.0) == []
    assert repr(protection) == "<SelfProtection calm up=[]>"


usages = st.builds(
    lambda lag, memory, connections, descriptors: Usage(
        lag=lag, memory=memory, connections=connections, descriptors=descriptors + connections, descriptor_limit=120
    ),
    st.floats(0, 3),
    st.floats(0, 1.2),
    st.integers(0, 120),
    st.integers(0, 50),
)


@given(st.lists(st.tuples(usages, st.floats(0, 2)), max_size=60))
def test_it_sheds_exactly_while_a_cause_for_it_is_up_and_never_flaps(looks: list[tuple[Usage, float]]) -> None:
    protection, now = SelfProtection(POLICY), 0.0
    since: dict[Cause, float] = {}
    for usage, seconds in looks:
        now += seconds
        for cause in protection.look(usage, now):
            if protection.active(cause):
                assert cause not in since
                since[cause] = now
            else:
                assert now - since.pop(cause) >= HOLD
        assert {cause for cause in Cause if protection.active(cause)} == set(since)
        assert protection.shedding == bool({Cause.EVENT_LOOP, Cause.MEMORY} & set(since))
        assert protection.active(Cause.MEMORY) or usage.memory <= POLICY.max_memory
        assert 0 <= protection.room <= POLICY.max_connections
