"""A round: where it begins, never behind what is still to be sent, and whom it blames."""

from typing import Any

from confluent_kafka import KafkaError

from nova_data.outbox.event import Event
from nova_data.outbox.rounds import LAG, MOST_REACHED, Floors, Found, first_failures, found


def event(position: int, slot: int = 0) -> Event:
    made: dict[str, Any] = {"created_at": None, "topic": "t", "key": "a", "content": b"", "headers": []}
    return Event(position=position, slot=slot, aggregate=("x", "a"), retry_count=0, waited=0.0, **made)


def floors_of(*slots: int) -> Floors:
    floors = Floors()
    floors.own(set(slots))
    floors.now(0.0)  # the first round sweeps
    return floors


def look(floors: Floors, now: float) -> dict[int, int]:
    """Where a round begins that finds nothing."""
    begins = dict(floors.now(now))
    floors.reached([], now, complete=True)
    return begins


def test_a_floor_rises_once_a_position_was_settled_long_enough_ago() -> None:
    floors = floors_of(0, 1)
    floors.reached([event(7), event(9), event(4, slot=1)], 1.0, complete=True)
    assert look(floors, LAG - 1) == {0: 0, 1: 0}
    assert look(floors, LAG + 1) == {0: 0, 1: 0}  # a sweep was due
    assert look(floors, LAG + 2) == {0: 9, 1: 4}


def test_a_floor_stays_below_what_an_open_transaction_may_have_drawn() -> None:
    floors = floors_of(0)
    for second in range(2 * int(LAG)):
        floors.writing(["3/17"] if second >= 2 else [], float(second))
        floors.now(float(second))
        floors.reached([event(second + 1)], float(second), complete=True)
    assert floors.now(2 * LAG - 1) == {0: 1}  # where rounds were when the transaction was not there yet


def test_a_floor_rises_only_behind_a_round_that_read_what_was_late() -> None:
    floors = floors_of(0)
    floors.writing(["3/17"], 0.0)
    floors.reached([event(90)], 1.0, complete=True)
    floors.now(LAG)
    floors.writing([], 3 * LAG - 2)  # it has ended, and its events were not read yet
    assert floors.now(3 * LAG - 1) == {0: 0}
    floors.reached([event(5), event(6)], 3 * LAG - 1, complete=True)  # there may be a 7, for which was no room
    assert floors.now(3 * LAG) == {0: 6}


def test_a_transaction_of_hours_costs_no_more_memory_than_one_of_minutes() -> None:
    floors = floors_of(0)
    floors.writing(["3/17"], 0.0)
    rounds = MOST_REACHED + 100
    for number in range(rounds):
        floors.reached([event(number + 1)], float(number), complete=True)
    assert len(floors._reached) == MOST_REACHED
    assert floors._floors == {0: 0}
    floors.writing([], float(rounds))
    look(floors, rounds + LAG)
    assert floors._floors == {0: rounds}
    assert not floors._reached


def test_now_and_then_a_round_begins_at_the_beginning() -> None:
    floors = floors_of(0)
    floors.reached([event(9)], 0.0, complete=True)
    look(floors, LAG)
    assert floors.now(LAG + 1) == {0: 9}
    assert floors.now(2 * LAG) == {0: 0}
    assert floors.now(2 * LAG + 1) == {0: 9}


def test_an_incomplete_round_and_a_rewind_raise_nothing() -> None:
    floors = floors_of(0)
    floors.reached([event(9)], 0.0, complete=False)
    floors.reached([event(12)], 0.0, complete=True)
    floors.rewind()
    floors.now(LAG)
    assert floors.now(LAG + 1) == {0: 0}


def test_a_slot_that_comes_again_begins_at_the_beginning() -> None:
    floors = floors_of(0)
    floors.reached([event(9)], 0.0, complete=True)
    floors.now(LAG)
    floors.own(set())
    floors.own({0})
    assert floors.now(LAG + 1) == {0: 0}


def test_of_each_aggregate_the_first_event_that_failed_is_blamed() -> None:
    sent = [event(1), event(2), event(3), event(4)._replace(aggregate=("x", "b"))]
    too_large = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert first_failures(sent, {1: None, 2: None, 3: None, 4: None}) == []
    assert first_failures(sent, {1: None, 2: too_large, 3: too_large, 4: None}) == [(sent[1], too_large)]
    assert first_failures(sent, {2: too_large, 4: too_large}) == [(sent[0], None), (sent[3], too_large)]


def test_there_is_more_where_a_slot_was_full() -> None:
    assert found([], 2) is Found.NOTHING
    assert found([event(1), event(2, slot=1)], 2) is Found.ALL
    assert found([event(1), event(2, slot=1), event(3)], 2) is Found.MORE
