"""The queue: who is looked at next, and when. Time is handed in."""

from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_operator.work import BACKOFF_BASE, BACKOFF_MAX, WorkQueue


def queue() -> WorkQueue[str]:
    return WorkQueue(Random(7))


def take_all(of: WorkQueue[str], now: float) -> list[str]:
    taken = []
    while (key := of.take(now)) is not None:
        taken.append(key)
    return taken


def test_keys_come_in_the_order_of_their_turns() -> None:
    keys = queue()
    keys.add("late", 0.0, 2.0)
    keys.add("soon", 0.0)
    keys.add("next", 0.0, 1.0)
    assert (take_all(keys, 0.5), keys.next_due()) == (["soon"], 1.0)
    assert take_all(keys, 5.0) == ["next", "late"]
    assert keys.next_due() is None


def test_a_burst_is_one_turn_at_the_earliest_time() -> None:
    keys = queue()
    for delay in (3.0, 1.0, 2.0):
        keys.add("a", 0.0, delay)
    assert (take_all(keys, 0.9), take_all(keys, 1.0), take_all(keys, 9.0)) == ([], ["a"], [])


def test_a_key_in_work_is_not_taken_twice_but_looked_at_once_more() -> None:
    keys = queue()
    keys.add("a", 0.0)
    assert keys.take(0.0) == "a"
    keys.add("a", 0.1)
    keys.add("a", 0.2)
    assert take_all(keys, 1.0) == []
    keys.done("a", 1.0, again_in=60.0)
    assert (take_all(keys, 1.0), len(keys)) == (["a"], 0)


def test_a_key_comes_back_unasked_when_it_wants_to() -> None:
    keys = queue()
    keys.add("a", 0.0)
    keys.take(0.0)
    keys.done("a", 0.0, again_in=5.0)
    assert (take_all(keys, 4.9), take_all(keys, 5.0)) == ([], ["a"])


def test_a_key_that_is_gone_does_not_come_back() -> None:
    keys = queue()
    keys.add("a", 0.0)
    keys.take(0.0)
    keys.done("a", 0.0, again_in=None)
    assert (keys.next_due(), len(keys)) == (None, 0)


def test_a_failing_key_comes_back_later_and_later_with_jitter() -> None:
    keys = queue()
    waits, now = [], 0.0
    for _ in range(14):
        keys.add("a", now)
        assert keys.take(now) == "a"
        waits.append(keys.failed("a", now))
        now += waits[-1]
    bounds = [min(BACKOFF_MAX, BACKOFF_BASE * 2**failures) for failures in range(14)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == len(waits)


def test_news_do_not_shorten_the_wait_of_a_failing_key() -> None:
    keys = queue()
    keys.add("a", 0.0)
    keys.take(0.0)
    wait = keys.failed("a", 0.0, at_least=8.0)
    keys.add("a", 0.1)
    assert (wait, take_all(keys, 7.9), take_all(keys, 8.0)) == (8.0, [], ["a"])


def test_success_forgets_the_failures() -> None:
    keys = queue()
    for now in (0.0, 100.0, 200.0):
        keys.add("a", now)
        keys.take(now)
        keys.failed("a", now)
    keys.add("a", 300.0)
    keys.take(300.0)
    keys.done("a", 300.0, again_in=None)
    keys.add("a", 300.0)
    assert keys.take(300.0) == "a"
    assert keys.failed("a", 300.0) <= BACKOFF_BASE


def test_a_key_in_both_classes_has_one_turn_at_the_earliest_time() -> None:
    keys = queue()
    keys.add("a", 0.0, 5.0)
    keys.add("a", 0.0, 1.0, in_motion=True)
    assert (len(keys), keys.overdue(6.0), keys.next_due()) == (1, 1, 1.0)
    assert (take_all(keys, 1.0), take_all(keys, 9.0), keys.lag(9.0)) == (["a"], [], 0.0)


def test_what_is_added_while_in_work_keeps_its_class() -> None:
    """Beside a key that is waited for, so that the class decides who is next."""
    for in_motion, order in ((True, ["other", "a"]), (False, ["a", "other"])):
        keys = queue()
        keys.add("a", 0.0)
        keys.take(0.0)
        keys.add("a", 0.1, in_motion=True)
        keys.add("a", 0.2, in_motion=in_motion)
        keys.add("other", 0.45)
        keys.done("a", 0.4, again_in=None)
        assert take_all(keys, 0.5) == order


def test_what_comes_round_by_itself_is_not_waited_for() -> None:
    keys = queue()
    keys.add("a", 0.0)
    keys.take(0.0)
    keys.done("a", 0.0, again_in=1.0)
    keys.add("b", 5.0)
    assert take_all(keys, 6.0) == ["b", "a"]


class Queueing(RuleBasedStateMachine):
    """Whatever happens, no key is in work twice, and none that was added is forgotten."""

    keys = st.sampled_from("abc")
    delays = st.sampled_from([0.0, 0.5, 3.0])

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue(Random(1))
        self.now = 0.0
        self.running: set[str] = set()
        self.owed: set[str] = set()

    @rule(key=keys, delay=delays, in_motion=st.booleans())
    def add(self, key: str, delay: float, in_motion: bool) -> None:
        self.queue.add(key, self.now, delay, in_motion=in_motion)
        self.owed.add(key)

    @rule(seconds=st.sampled_from([0.1, 1.0, 90.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        key = self.queue.take(self.now)
        if key is not None:
            assert key not in self.running
            assert key in self.owed
            self.running.add(key)
            self.owed.discard(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), again_in=st.sampled_from([None, 0.0, 5.0]))
    def finish(self, data: Any, again_in: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        self.queue.done(key, self.now, again_in)
        if again_in is not None:
            self.owed.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        self.queue.failed(key, self.now)
        self.owed.add(key)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        assert len(self.queue) == len(self.owed - self.running)

    def teardown(self) -> None:
        for key in sorted(self.running):
            self.queue.done(key, self.now, None)
        assert set(take_all(self.queue, self.now + 1000)) == self.owed


TestQueueing = Queueing.TestCase


def test_its_repr_tells_the_state() -> None:
    keys = queue()
    keys.add("a", 0.0)
    keys.add("b", 0.0)
    keys.take(0.0)
    assert repr(keys) == "<WorkQueue waiting=1 running=1 failing=0>"
    assert keys.overdue(0.0) == 1
