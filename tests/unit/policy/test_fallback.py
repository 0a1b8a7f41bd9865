from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova_sidecar.policy.fallback import ENTRY_COST, LARGEST, Kept, KeptResponses

LIMIT = 20 * ENTRY_COST


def response(size: int, at: float = 0.0, name: bytes = b"") -> Kept:
    return Kept(b"HTTP/1.1 200 OK\r\n" + name, b"x" * size, at, 0)


def test_what_is_kept_is_found_while_it_is_young() -> None:
    kept: KeptResponses[str] = KeptResponses(LIMIT)
    good = response(10, at=100.0)
    kept.keep("a", good)
    assert kept.find("a", 159.9, 60.0) is good
    assert kept.find("b", 100.0, 60.0) is None
    assert kept.find("a", 160.0, 60.0) is None
    assert (len(kept), kept.bytes) == (0, 0), "what is too old leaves at once"


def test_a_new_response_takes_the_place_of_the_old() -> None:
    kept: KeptResponses[str] = KeptResponses(LIMIT)
    kept.keep("a", response(1000))
    fresh = response(10, at=5.0)
    kept.keep("a", fresh)
    assert kept.find("a", 5.0, 60.0) is fresh
    assert kept.bytes == response(10).size


def test_one_that_is_too_large_takes_the_old_one_away() -> None:
    """It would be wrong to go on with what has been replaced."""
    kept: KeptResponses[str] = KeptResponses(LIMIT)
    kept.keep("a", response(10))
    kept.keep("a", response(LIMIT // LARGEST))
    assert kept.find("a", 0.0, 60.0) is None
    assert kept.bytes == 0


def test_a_smaller_limit_is_kept_at_once() -> None:
    kept: KeptResponses[int] = KeptResponses(LIMIT)
    for key in range(10):
        kept.keep(key, response(10))
    kept.configure(2 * response(10).size)
    assert [key for key in range(10) if kept.find(key, 0.0, 60.0)] == [8, 9]
    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


def test_what_is_on_its_way_counts() -> None:
    kept: KeptResponses[str] = KeptResponses(LIMIT)
    kept.keep("a", response(10))
    kept.hold(LIMIT)
    assert (len(kept), kept.full) == (0, False)
    kept.hold(1)
    assert kept.full
    kept.let_go(LIMIT + 1)
    assert (kept.held, kept.full) == (0, False)
    assert repr(kept) == "<KeptResponses 0 of 0 bytes, 0 on their way>"


class Model(RuleBasedStateMachine):
    """Against a list, most recently used last."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: KeptResponses[int] = KeptResponses(LIMIT)
        self.limit = LIMIT
        self.held = 0
        self.expected: list[tuple[int, Kept]] = []
        self.now = 0.0

    def _shrink(self) -> None:
        while self.expected and sum(each.size for _, each in self.expected) + self.held > self.limit:
            self.expected.pop(0)

    @rule(key=st.integers(0, 12), size=st.integers(0, 6 * ENTRY_COST))
    def keep(self, key: int, size: int) -> None:
        fresh = response(size, self.now)
        self.kept.keep(key, fresh)
        self.expected = [(other, each) for other, each in self.expected if other != key]
        if fresh.size <= self.limit // LARGEST:
            self.expected.append((key, fresh))
            self._shrink()

    @rule(key=st.integers(0, 12), young=st.floats(0, 20))
    def find(self, key: int, young: float) -> None:
        expected = next((each for other, each in self.expected if other == key), None)
        if expected is not None:
            self.expected.remove((key, expected))
            if self.now - expected.at < young:
                self.expected.append((key, expected))  # now the most recently used
            else:
                expected = None
        assert self.kept.find(key, self.now, young) is expected

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(0, 5000))
    def hold(self, size: int) -> None:
        self.kept.hold(size)
        self.held += size
        self._shrink()

    @rule(data=st.data())
    def let_go(self, data: Any) -> None:
        size = data.draw(st.integers(0, self.held))
        self.kept.let_go(size)
        self.held -= size

    @rule(limit=st.integers(0, LIMIT))
    def configure(self, limit: int) -> None:
        self.kept.configure(limit)
        self.limit = limit
        self._shrink()

    @invariant()
    def bounded(self) -> None:
        assert len(self.kept) == len(self.expected)
        assert self.kept.bytes == sum(each.size for _, each in self.expected)
        assert self.kept.bytes == 0 or self.kept.bytes + self.kept.held <= self.limit
        assert self.kept.full == (self.held > self.limit)


TestModel = Model.TestCase


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3000)), max_size=50))
def test_the_most_recently_used_stay(calls: list[tuple[int, int]]) -> None:
    kept: KeptResponses[int] = KeptResponses(LIMIT)
    for key, size in calls:
        kept.keep(key, response(size))
        if response(size).size <= kept.largest:
            assert kept.find(key, 0.0, 1.0) is not None


def test_what_callers_ask_for_counts() -> None:
    """Targets and the values of fields that Vary names are kept as well, and callers choose how long they are."""
    assert Kept(b"h" * 10, b"b" * 20, 0.0, 0, asked=8000).size == ENTRY_COST + 8030
