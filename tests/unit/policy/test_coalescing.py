"""Flights: who goes to the app, who waits, and that nobody waits for nothing."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_sidecar.policy.coalescing import REMEMBER, REMEMBERED, Flight, Flights, Shared

KEY = b"GET /a"


def flying(*followers: str, patience: float = 1.0) -> tuple[Flights[str], Flight[str]]:
    flights: Flights[str] = Flights(patience, 100)
    flight, how = flights.enter(KEY, "leader", 0.0)
    assert (how, flight is not None) == (Shared.LED, True)
    assert flight is not None
    for follower in followers:
        assert flights.enter(KEY, follower, 0.0) == (flight, Shared.FOLLOWED)
    return flights, flight


def test_a_head_ends_the_waiting_and_the_next_leads_anew() -> None:
    flights, flight = flying("a", "b")
    assert flights.close(flight) == ["a", "b"]
    assert len(flights) == 0
    assert flights.enter(KEY, "c", 0.1)[1] is Shared.LED


def test_other_requests_have_other_flights() -> None:
    flights, _ = flying()
    assert flights.enter(b"GET /b", "b", 0.0)[1] is Shared.LED
    assert len(flights) == 2


def test_when_the_leader_fails_the_first_follower_leads() -> None:
    flights, flight = flying("a", "b", "c")
    assert flights.failed(flight, "leader", 0.1) == ["a"]
    assert flights.enter(KEY, "d", 0.2)[1] is Shared.FOLLOWED


def test_when_that_one_fails_too_all_go_by_themselves() -> None:
    """They would otherwise get the same error one after the other, each later than the one before."""
    flights, flight = flying("a", "b", "c")
    flights.failed(flight, "leader", 0.1)
    assert flights.failed(flight, "a", 0.2) == ["b", "c"]
    assert len(flights) == 0


def test_leaders_that_leave_are_no_failures() -> None:
    flights, flight = flying("a", "b", "c", "d")
    assert flights.left(flight, "leader", 0.1) == ["a"]
    assert flights.left(flight, "a", 0.1) == ["b"]
    assert flights.left(flight, "b", 0.1) == ["c"]
    assert flights.failed(flight, "c", 0.1) == ["d"]


def test_a_flight_without_followers_ends_with_its_leader() -> None:
    flights, flight = flying()
    assert flights.failed(flight, "leader", 0.1) == []
    assert len(flights) == 0


def test_one_more_goes_after_each_patience_while_calls_are_slow() -> None:
    flights, flight = flying("a", "b", "c", patience=1.0)
    assert flights.next_due(flight, 0.999) is None
    assert flights.next_due(flight, 1.0) == "a"
    assert flights.next_due(flight, 1.0) is None, "one, not all"
    assert flights.next_due(flight, 2.0) == "b"
    assert flights.failed(flight, "leader", 2.1) == [], "others are under way"
    assert flights.close(flight) == ["c"]


def test_patience_begins_with_the_first_who_waits() -> None:
    flights, flight = flying(patience=1.0)
    flights.enter(KEY, "late", 5.0)
    assert flights.next_due(flight, 5.9) is None
    assert flights.next_due(flight, 6.0) == "late"


def test_too_many_followers_go_by_themselves() -> None:
    flights: Flights[int] = Flights(1.0, 2)
    hows = [flights.enter(KEY, member, 0.0)[1] for member in range(5)]
    assert hows == [Shared.LED, Shared.FOLLOWED, Shared.FOLLOWED, Shared.FULL, Shared.FULL]


def test_what_cannot_be_shared_is_not_waited_for_again() -> None:
    flights: Flights[str] = Flights(1.0, 10)
    flights.remember(KEY, 0.0)
    assert flights.enter(KEY, "a", REMEMBER - 0.1) == (None, Shared.ALONE)
    assert flights.enter(KEY, "b", REMEMBER)[1] is Shared.LED


def test_what_is_remembered_is_bounded() -> None:
    flights: Flights[str] = Flights(1.0, 10)
    for number in range(REMEMBERED + 1):
        flights.remember(b"%d" % number, 0.0)
    assert flights.enter(b"0", "a", 1.0)[1] is Shared.LED, "the oldest was forgotten"
    assert flights.enter(b"1", "a", 1.0)[1] is Shared.ALONE


class Machine(RuleBasedStateMachine):
    """Whatever happens in whatever order: whoever waits has somebody to wait for, and nobody is lost or woken twice."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[int] = Flights(1.0, 4)
        self.now = 0.0
        self.names = iter(range(1_000_000))
        self.waiting: dict[int, Flight[int]] = {}
        self.leading: dict[int, Flight[int]] = {}

    def _went(self, flight: Flight[int], went: list[int]) -> None:
        for member in went:
            assert self.waiting.pop(member) is flight
            if member in flight.leaders:
                self.leading[member] = flight
        self.leading = {member: each for member, each in self.leading.items() if member in each.leaders}

    @rule(key=st.sampled_from([b"a", b"b"]))
    def enter(self, key: bytes) -> None:
        member = next(self.names)
        flight, how = self.flights.enter(key, member, self.now)
        if how is Shared.FOLLOWED:
            assert flight is not None
            self.waiting[member] = flight
        elif how is Shared.LED:
            assert flight is not None
            self.leading[member] = flight
        else:
            assert flight is None

    @precondition(lambda self: self.leading)
    @rule(data=st.data(), how=st.sampled_from(["failed", "left", "closed"]))
    def lead_ends(self, data: st.DataObject, how: str) -> None:
        member = data.draw(st.sampled_from(sorted(self.leading)))
        flight = self.leading.pop(member)
        if how == "failed":
            self._went(flight, self.flights.failed(flight, member, self.now))
        elif how == "left":
            self._went(flight, self.flights.left(flight, member, self.now))
        else:
            self._went(flight, self.flights.close(flight))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def follower_leaves(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(sorted(self.waiting)))
        self.flights.abandon(self.waiting.pop(member), member)

    @rule(seconds=st.floats(0.0, 2.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for flight in {id(each): each for each in self.waiting.values()}.values():
            member = self.flights.next_due(flight, self.now)
            if member is not None:
                self._went(flight, [member])

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        for member, flight in self.waiting.items():
            assert member in flight.followers
            assert flight.leaders, "somebody is under way for it"
            assert flight.due <= self.now + 1.0, "and if that takes long, its turn comes"
        assert len(self.flights) <= 2


TestMachine = Machine.TestCase
