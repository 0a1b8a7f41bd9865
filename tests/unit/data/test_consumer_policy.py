import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_data.consumer.flow import Flow, Intake
from nova_data.consumer.keys import by_aggregate, by_tenant, spread
from nova_data.consumer.ledger import Ledger
from nova_data.consumer.message import Message
from nova_data.consumer.outage import SUSPECTS, Outage
from nova_data.errors import RejectedError

# --- the ledger


def test_what_may_be_committed_is_the_first_that_is_not_done() -> None:
    ledger = Ledger()
    assert ledger.position is None
    assert [ledger.take(offset) for offset in (5, 6, 9)] == [True, True, True]  # 7 and 8 were compacted away
    ledger.finish(6)
    ledger.finish(9)
    assert (ledger.position, ledger.in_hand) == (5, 1)
    ledger.finish(5)
    assert (ledger.position, ledger.in_hand) == (10, 0)
    assert repr(ledger) == "<Ledger position=10 in_hand=0>"


def test_a_message_is_taken_once() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (3, 3, 2, 4)] == [True, False, False, True]


@pytest.mark.parametrize("offset", [1, 3, 9])
def test_what_is_not_in_hand_cannot_be_done(offset: int) -> None:
    ledger = Ledger()
    for each in (2, 3, 4):
        ledger.take(each)
    ledger.finish(3)
    with pytest.raises(KeyError):
        ledger.finish(offset)


@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=60))
def test_nothing_that_is_not_done_is_ever_passed_over(data: Any, gaps: list[int]) -> None:
    ledger, offset, open_ones, last = Ledger(), 0, set(), -1
    for gap in gaps:
        offset += gap
        ledger.take(offset)
        open_ones.add(offset)
        last = offset
        if open_ones and data.draw(st.booleans()):
            done = data.draw(st.sampled_from(sorted(open_ones)))
            ledger.finish(done)
            open_ones.discard(done)
        assert ledger.position == min(open_ones, default=last + 1)
        assert ledger.in_hand == len(open_ones)


# --- flow


def intake(in_hand: int, *, paused: bool = False) -> Intake:
    one = Intake()
    one.taken = in_hand
    one.paused = paused
    return one


def test_a_partition_with_its_share_in_hand_is_paused_until_it_has_half() -> None:
    flow, one, two = Flow(20), intake(10), intake(3)
    assert flow.turns([one, two]) == ([one], [])
    one.finished = 5
    assert flow.turns([one, two]) == ([], [])
    one.finished = 6
    assert flow.turns([one, two]) == ([], [one])


def test_in_an_outage_every_partition_has_one_message_for_a_probe() -> None:
    flow, full, empty = Flow(100), intake(7), intake(0)
    flow.halted = True
    assert flow.turns([full, empty]) == ([full], [])
    empty.taken = 1
    assert flow.turns([full, empty]) == ([empty], [])
    flow.halted = False
    assert flow.turns([full, empty]) == ([], [full, empty])


@given(
    st.integers(1, 50),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["take", "finish", "halt", "go"])), max_size=200),
)
def test_never_more_in_hand_than_the_bound_or_one_each(bound: int, count: int, steps: list[tuple[int, str]]) -> None:
    flow, intakes = Flow(bound), [Intake() for _ in range(count)]
    for which, step in steps:
        one = intakes[which % count]
        if step == "take" and not one.paused:
            one.taken += 1
        elif step == "finish" and one.in_hand:
            one.finished += 1
        elif step in ("halt", "go"):
            flow.halted = step == "halt"
        flow.turns(intakes)
        assert sum(each.in_hand for each in intakes) <= max(bound, count)
    flow.halted = False
    for each in intakes:
        each.finished = each.taken
    flow.turns(intakes)
    assert not any(each.paused for each in intakes)  # who has nothing in hand is never left paused


# --- outages


def test_an_outage_opens_at_once_and_one_message_is_tried_after_a_while() -> None:
    outage = Outage(random.Random(1))
    outage.failed("t/0/1", 10.0, outage=True)
    wait = outage.probe(10.0)
    assert outage.there
    assert wait is not None
    assert 0.25 <= wait <= 0.5
    assert outage.probe(10.0 + wait) == 0
    assert outage.probe(10.0 + wait) is None  # another one is being tried
    outage.succeeded()
    assert not outage.there


def test_a_probe_that_fails_waits_longer_whatever_it_raised() -> None:
    outage, now, waits = Outage(random.Random(1), base=1.0, longest=8.0), 0.0, []
    outage.failed("t/0/1", now, outage=True)
    for _ in range(6):
        wait = outage.probe(now)
        assert wait
        waits.append(wait)
        now += wait
        assert outage.probe(now) == 0
        outage.failed("t/0/1", now, outage=False)
    assert waits[0] < waits[2] < waits[4] <= 8.0


def test_what_was_under_way_when_it_began_does_not_make_it_longer() -> None:
    outage = Outage(random.Random(1))
    for number in range(32):
        outage.failed(f"t/0/{number}", 0.0, outage=True)
    assert (outage.probe(0.0) or 9) <= 0.5


def test_one_message_that_fails_alone_is_no_outage_but_many_in_a_row_are() -> None:
    outage = Outage(random.Random(1))
    for _ in range(100):
        outage.failed("t/0/1", 0.0, outage=False)
    assert not outage.there
    for number in range(SUSPECTS - 2):
        outage.failed(f"t/0/1{number}", 0.0, outage=False)
    assert not outage.there
    outage.failed("t/1/7", 0.0, outage=False)
    assert outage.there
    assert "open" in repr(outage)


def test_a_success_clears_every_suspicion() -> None:
    outage = Outage(random.Random(1))
    for number in range(100):
        outage.failed(f"t/0/{number}", 0.0, outage=False)
        if number % (SUSPECTS - 1) == 0:
            outage.succeeded()
    assert not outage.there


# --- messages and keys


def message(**headers: str) -> Message:
    given = [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
    return Message("orders", 3, 17, key=b"k", value=b'{"a": 1}', headers=given)


def test_what_a_message_is_called() -> None:
    assert message(idempotency_key="e1").idempotency_key == "e1"
    assert message().idempotency_key == message(idempotency_key="").idempotency_key == "orders/3/17"
    assert message(idempotency_key="x" * 600).idempotency_key == "orders/3/17"
    assert message(event_type="order-paid").event_type == "order-paid"
    assert repr(message()) == "<Message orders/3/17>"
    assert message().json() == {"a": 1}
    with pytest.raises(ValueError, match="no value"):
        Message("t", 0, 0, key=None, value=None).json()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"[" * 10_000, "it is nested too deeply"),
        (b'{"a":' * 10_000, "it is nested too deeply"),
        (b'{"a": "\xff"}', "invalid start byte"),
        (b'{"a": 1', "Expecting"),
        (b"", "Expecting value"),
        (b"9" * 5000, "Exceeds the limit"),
        (None, "the message has no value"),
    ],
)
def test_a_body_that_is_no_json_can_never_be_handled(value: bytes | None, why: str) -> None:
    with pytest.raises(RejectedError, match=f"^value: expected JSON.*{why}"):
        Message("t", 0, 0, key=None, value=value).json()


def test_an_id_or_trace_that_could_do_harm_is_replaced() -> None:
    assert message(correlation_id="abc-1").correlation_id == "abc-1"
    for bad in ("a b", "x" * 200, "anna@example.org", "a\nb"):
        made = message(correlation_id=bad)
        assert len(made.correlation_id) == 36
        assert made.correlation_id == made.correlation_id
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert message(traceparent=trace).traceparent == trace
    assert message(traceparent="00-00-00-00").traceparent is None


def test_the_last_header_of_a_name_counts() -> None:
    one = Message("t", 0, 0, key=None, value=None, headers=[("a", b"1"), ("a", b"2"), ("b", None)])
    assert (one.header("a"), one.header("b"), one.header("c")) == ("2", None, None)


def test_keys_by_what_keeps_its_order() -> None:
    assert by_aggregate("order", 42) == "order/42"
    assert by_tenant("acme") == "tenant/acme"
    keys = {spread("acme", number, ways=4) for number in range(200)}
    assert keys == {f"tenant/acme/{way}" for way in range(4)}
    assert spread("acme", 7, ways=4) == spread("acme", 7, ways=4)
    with pytest.raises(ValueError, match="ways: expected 1 to 1024, got 0"):
        spread("acme", 7, ways=0)
