import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_sidecar.policy.fair_queue import NOBODY, FairQueue, Flow


def order(queue: FairQueue[str]) -> str:
    return "".join(queue.pop()[0] for _ in range(len(queue)))


def test_with_one_flow_it_is_a_plain_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    for waiter in "abc":
        queue.put(waiter, 1.0)
    assert queue.discard("b")
    assert not queue.discard("b")
    queue.put("d", 2.0)
    assert [queue.pop(), queue.pop(), queue.pop()] == [("a", 1.0), ("c", 1.0), ("d", 2.0)]
    with pytest.raises(IndexError):
        queue.pop()


def test_flows_take_turns_whoever_brings_more() -> None:
    queue: FairQueue[str] = FairQueue()
    heavy, light = Flow(), Flow()
    for waiter in "aaaaaaaa":
        queue.put(f"{waiter}{len(queue)}", 1.0, heavy)
    queue.put("b", 1.0, light)
    assert [queue.pop()[0][0] for _ in range(3)] in (["a", "b", "a"], ["a", "a", "b"])


def test_weights_are_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    gold, plain = Flow(3), Flow(1)
    for number in range(40):
        queue.put(f"g{number}", 1.0, gold)
        queue.put(f"p{number}", 1.0, plain)
    first = [queue.pop()[0][0] for _ in range(40)]
    assert first.count("g") == pytest.approx(30, abs=1)


def test_idling_saves_no_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    steady, back = Flow(), Flow()
    for number in range(60):
        queue.put(f"s{number}", 1.0, steady)
    for _ in range(20):
        queue.pop()
    for number in range(20):
        queue.put(f"b{number}", 1.0, back)
    first = [queue.pop()[0][0] for _ in range(20)]
    assert first.count("b") == pytest.approx(10, abs=1)


def test_how_many_go_before() -> None:
    queue: FairQueue[str] = FairQueue()
    heavy, light = Flow(), Flow()
    for number in range(10):
        queue.put(f"h{number}", 1.0, heavy)
    assert (queue.ahead(heavy), queue.ahead(light), queue.ahead(Flow(10))) == (10, 1, 0)
    assert FairQueue[str]().ahead(NOBODY) == 0


class FairQueueMachine(RuleBasedStateMachine):
    """The model: lists by flow, and how many of each were served while both waited."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = [Flow(1), Flow(2), Flow(5)]
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: list[list[int]] = [[], [], []]
        self.number = 0

    @rule(flow=st.integers(0, 2))
    def put(self, flow: int) -> None:
        self.number += 1
        self.queue.put(self.number, float(self.number), self.flows[flow])
        self.waiting[flow].append(self.number)

    @precondition(lambda self: any(self.waiting))
    @rule()
    def pop(self) -> None:
        waiter, until = self.queue.pop()
        flow = next(each for each in self.waiting if waiter in each)
        assert (flow.pop(0), until) == (waiter, float(waiter))

    @precondition(lambda self: any(self.waiting))
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from([each for each in self.waiting if each]))
        waiter = data.draw(st.sampled_from(flow))
        flow.remove(waiter)
        assert self.queue.discard(waiter)

    @invariant()
    def they_agree(self) -> None:
        assert len(self.queue) == sum(map(len, self.waiting))
        for flow, model in zip(self.flows, self.waiting, strict=True):
            assert self.queue.waiting(flow) == len(model)
            assert 0 <= self.queue.ahead(flow) <= len(self.queue)
        assert len(self.queue._due) <= 2 * 3 + 33


TestFairQueueMachine = FairQueueMachine.TestCase
TestFairQueueMachine.settings = settings(max_examples=60, stateful_step_count=80, deadline=None)
