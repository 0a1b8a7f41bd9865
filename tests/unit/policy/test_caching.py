"""What a cache keeps: found by what was asked and by target, bounded, and never half forgotten."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova_sidecar.policy.caching import MOST_CHANGED, CachedResponses, PatternError, compiled
from nova_sidecar.policy.freshness import Stored, Terms, Verdict, Wish, judge, no_wish, stands_in

TERMS = Terms(60.0, 30.0, 120.0, always_ask=False)


def stored(key: bytes, target: bytes = b"/a", size: int = 10, terms: Terms = TERMS) -> Stored:
    return Stored(key, target, 200, b"HTTP/1.1 200 OK\r\n", b"x" * size, at=0.0, age=0.0, terms=terms)


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (0.0, Verdict.FRESH),
        (59.9, Verdict.FRESH),
        (60.0, Verdict.REFRESH),
        (89.9, Verdict.REFRESH),
        (90.0, Verdict.REVALIDATE),
        (1e9, Verdict.REVALIDATE),
    ],
)
def test_from_fresh_to_stale(age: float, verdict: Verdict) -> None:
    assert judge(stored(b"k"), no_wish(), age) is verdict


@pytest.mark.parametrize(
    ("wish", "age", "verdict"),
    [
        (Wish(-1, 0, 0, ask=True), 0.0, Verdict.REVALIDATE),
        (Wish(10, 0, 0, ask=False), 10.0, Verdict.FRESH),
        (Wish(10, 0, 0, ask=False), 10.1, Verdict.REVALIDATE),
        (Wish(-1, 30, 0, ask=False), 30.0, Verdict.FRESH),
        (Wish(-1, 30, 0, ask=False), 30.1, Verdict.REVALIDATE),
        (Wish(-1, 30, 0, ask=False), 61.0, Verdict.REVALIDATE),
        (Wish(-1, 0, 100, ask=False), 159.9, Verdict.FRESH),
        (Wish(-1, 0, 100, ask=False), 160.1, Verdict.REVALIDATE),
    ],
)
def test_what_a_request_wants(wish: Wish, age: float, verdict: Verdict) -> None:
    assert judge(stored(b"k"), wish, age) is verdict


def test_what_must_be_asked_for_is() -> None:
    asks = stored(b"k", terms=Terms(60.0, 30.0, 120.0, always_ask=True))
    assert judge(asks, no_wish(), 0.0) is Verdict.REVALIDATE
    assert not stands_in(asks, 0.0)
    must = stored(b"k", terms=Terms(60.0, 0.0, -1.0, always_ask=False))
    assert judge(must, Wish(-1, 0, 1e6, ask=False), 60.0) is Verdict.REVALIDATE
    assert not stands_in(must, 60.0)
    assert stands_in(stored(b"k"), 179.0)
    assert not stands_in(stored(b"k"), 180.0)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        (b"/a", [b"/a"], [b"/a/", b"/ab", b"/b"]),
        (b"/a*", [b"/a", b"/ab", b"/a?x\n"], [b"/b"]),
        (b"*a*", [b"a", b"/xay"], [b"/b"]),
        (b"/a.b", [b"/a.b"], [b"/axb"]),
        (b"graphql:Get*", [b"graphql:GetUser"], [b"graphql:Set"]),
        (b"*", [b"", b"/a\n"], []),
        (b"**b", [b"b", b"ab"], [b"a"]),
        (b"/a*ab", [b"/aab", b"/a/ab"], [b"/ab"]),
        (b"*ab*b", [b"abb", b"aabxb", b"abab"], [b"ab", b"bab"]),
        (b"*ab*ab*", [b"abab", b"aabcab/"], [b"ab", b"aab"]),
    ],
)
def test_patterns(pattern: bytes, matches: list[bytes], others: list[bytes]) -> None:
    expression = compiled(pattern)
    assert all(expression.fullmatch(each) for each in matches)
    assert not any(expression.fullmatch(each) for each in others)


@pytest.mark.parametrize("pattern", [b"", b"*" * 9, b"x" * 1025])
def test_patterns_that_are_none(pattern: bytes) -> None:
    with pytest.raises(PatternError):
        compiled(pattern)


def test_a_pattern_of_many_stars_takes_no_longer_than_it_is_long() -> None:
    """By trying every place for every part this one would take longer than the earth has left."""
    assert not compiled(b"*a" * 8 + b"b").fullmatch(b"a" * 8000)


def test_what_has_changed_since() -> None:
    kept = CachedResponses(10_000, 3)
    assert kept.unchanged(b"/a", kept.changes)
    before = kept.changes
    kept.invalidate(b"/a")
    assert not kept.unchanged(b"/a", before)
    assert kept.unchanged(b"/b", before)
    assert kept.unchanged(b"/a", kept.changes)
    for change in (lambda: kept.purge(b"/x*"), kept.clear):
        before = kept.changes
        change()
        assert not kept.unchanged(b"/b", before), "it may have been any target's"
        assert kept.unchanged(b"/b", kept.changes)


def test_changes_that_are_no_longer_told_apart_may_have_been_any_targets() -> None:
    kept = CachedResponses(10_000, 3)
    before = kept.changes
    kept.invalidate(b"/a")
    since = kept.changes
    for number in range(MOST_CHANGED):
        kept.invalidate(b"/%d" % number)
    assert not kept.unchanged(b"/a", before)
    assert not kept.unchanged(b"/never", before)
    assert kept.unchanged(b"/never", since)
    assert len(kept._changed) == MOST_CHANGED


class Machine(RuleBasedStateMachine):
    """Whatever comes and goes, every entry can be found by its resource and by its target, and nothing else is left."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = CachedResponses(40_000, 3)

    resources = st.integers(0, 5)

    @rule(number=resources, names=st.sampled_from([(), (b"accept",), (b"accept", b"x")]), value=st.integers(0, 6))
    def keep(self, number: int, names: tuple[bytes, ...], value: int) -> None:
        resource = b"r%d" % number
        key = resource + b"".join(names) + (b"%d" % value if names else b"")
        one = stored(key, b"/t%d" % (number % 3), size=value * 2000)
        taken = self.kept.keep(resource, names, one)
        assert (self.kept.find(key) is one) is taken
        if taken:
            assert self.kept.names(resource) == names

    @rule(number=resources)
    def forget(self, number: int) -> None:
        self.kept.forget(b"r%d" % number)
        assert self.kept.names(b"r%d" % number) is None

    @rule(number=st.integers(0, 2))
    def invalidate(self, number: int) -> None:
        before = len(self.kept)
        gone = self.kept.invalidate(b"/t%d" % number)
        assert len(self.kept) == before - gone
        assert all(one.target != b"/t%d" % number for _, one in self.kept._entries.items())

    @rule(pattern=st.sampled_from([b"/t*", b"/t1", b"*2"]))
    def purge(self, pattern: bytes) -> None:
        self.kept.purge(pattern)
        assert not any(compiled(pattern).fullmatch(one.target) for _, one in self.kept._entries.items())

    @rule(limit=st.integers(5_000, 60_000), variants=st.integers(1, 4))
    def configure(self, limit: int, variants: int) -> None:
        self.kept.configure(limit, variants)

    @invariant()
    def tables_agree(self) -> None:
        kept = self.kept
        entries = dict(kept._entries.items())
        assert kept.size <= kept._entries.limit
        assert set(kept._owner) == set(entries)
        listed = {variant for each in kept._resources.values() for variant in each.variants}
        assert listed == set(entries)
        assert {name for names in kept._targets.values() for name in names} == set(kept._resources)
        assert all(each.variants for each in kept._resources.values())


TestMachine = Machine.TestCase
