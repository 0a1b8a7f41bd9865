"""Buckets against a model that does it the long way: a level that fills with time, in exact fractions."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova_sidecar.policy.gcra import SECOND, Buckets, Quota


class Bucket:
    """A token bucket as everybody explains it: it holds `burst`, gains one each interval, and a request takes one."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.level = Fraction(quota.burst)
        self.seen = 0

    def take(self, now: int) -> bool:
        self.level = min(
            Fraction(self.quota.burst), self.level + Fraction(max(0, now - self.seen), self.quota.interval)
        )
        self.seen = max(self.seen, now)
        if self.level < 1:
            return False
        self.level -= 1
        return True


quotas = st.builds(
    Quota,
    st.integers(1, 200),
    st.integers(1, 3600).map(float),
    st.one_of(st.none(), st.integers(1, 40)),
    parts=st.integers(1, 7),
)
gaps = st.lists(st.one_of(st.just(0), st.integers(0, 5_000_000), st.integers(0, 20 * SECOND)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(quotas, gaps)
def test_it_decides_as_the_model_does(quota: Quota, steps: list[int]) -> None:
    buckets, model, now = Buckets(10), Bucket(quota), 0
    for step in steps:
        now += step
        left = quota.left(buckets.tat(b"a"), now)
        wait = quota.wait(max(buckets.tat(b"a"), now), now)
        taken = buckets.take(b"a", quota, now)
        assert taken == model.take(now) == (left > 0) == (wait == 0)
        assert quota.left(buckets.tat(b"a"), now) == int(model.level)


@settings(max_examples=80, deadline=None)
@given(quotas, gaps)
def test_no_window_holds_more_than_burst_and_rate_allow(quota: Quota, steps: list[int]) -> None:
    buckets, now = Buckets(10), 0
    passed: list[int] = []
    for step in steps:
        now += step
        while len(passed) < 120 and buckets.take(b"a", quota, now):
            passed.append(now)
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= quota.burst + Fraction(passed[last] - begin, quota.interval)


@settings(max_examples=100, deadline=None)
@given(quotas, st.integers(0, 10**18))
def test_who_waits_as_long_as_told_is_let_in(quota: Quota, now: int) -> None:
    buckets = Buckets(10)
    while buckets.take(b"a", quota, now):
        pass
    wait = quota.wait(buckets.tat(b"a"), now)
    assert 0 < wait <= quota.interval
    assert not buckets.take(b"a", quota, now + wait - 1)
    assert buckets.take(b"a", quota, now + wait)


def test_a_clock_that_stands_or_runs_back_gives_nothing_away() -> None:
    buckets, quota = Buckets(10), Quota(2, 1.0)
    assert [buckets.take(b"a", quota, SECOND) for _ in range(3)] == [True, True, False]
    assert not buckets.take(b"a", quota, SECOND)
    assert not buckets.take(b"a", quota, 0)
    assert [buckets.take(b"a", quota, 2 * SECOND) for _ in range(3)] == [True, True, False]


def test_a_higher_rate_helps_at_once_whoever_is_limited() -> None:
    buckets, before, after = Buckets(10), Quota(1, 60.0, 10), Quota(100, 60.0, 10)
    while buckets.take(b"a", before, 0):
        pass
    assert before.wait(buckets.level(b"a", before, 0), 0) == 60 * SECOND
    assert after.wait(buckets.level(b"a", after, 0), 0) == after.interval
    assert not buckets.take(b"a", after, 0)
    assert [buckets.take(b"a", after, after.interval) for _ in range(2)] == [True, False]


def test_shared_buckets_gain_nothing_by_one_that_is_not_deep() -> None:
    buckets, deep, flat = Buckets(0), Quota(2, 3600.0), Quota(2, 1.0)
    while buckets.take(b"a", deep, 0):
        pass
    assert not buckets.take(b"a", flat, 0)
    assert not buckets.take(b"a", deep, 2 * SECOND)


def test_a_share_is_never_more_than_a_part_and_never_nothing() -> None:
    whole, part = Quota(10, 1.0, 10), Quota(10, 1.0, 10, parts=4)
    assert (part.burst, part.interval) == (2, 4 * whole.interval)
    assert Quota(1, 1.0, parts=10).burst == 1
    assert Quota(3, 1.0).interval * 3 >= SECOND  # rounded up


def test_inventing_keys_does_not_empty_anybodys_bucket() -> None:
    buckets, quota = Buckets(100), Quota(5, 60.0)
    while buckets.take(b"mine", quota, 0):
        pass
    for number in range(10_000):
        buckets.take(b"invented %d" % number, quota, 1)
    assert len(buckets) <= 100
    assert not buckets.take(b"mine", quota, 2)
    assert buckets.overflows > 0


def test_inventing_keys_gains_no_more_than_there_are_buckets() -> None:
    """Whoever invents a key for each request has at most the table's and the shared buckets' permits."""
    buckets, quota = Buckets(100), Quota(2, 3600.0)
    passed = sum(buckets.take(b"%d" % number, quota, number) for number in range(20_000))
    assert passed <= (100 + 1024) * quota.burst


def test_keys_that_have_not_been_used_lately_make_room() -> None:
    buckets, quota = Buckets(100), Quota(5, 1.0)
    for number in range(100):
        buckets.take(b"a%d" % number, quota, 0)
    for number in range(100):
        assert buckets.take(b"b%d" % number, quota, SECOND)
    assert (len(buckets), buckets.overflows) == (100, 0)


def test_a_key_that_finds_room_later_begins_where_its_shared_bucket_is() -> None:
    buckets, quota = Buckets(1), Quota(2, 10.0)
    assert buckets.take(b"first", quota, 0)
    assert [buckets.take(b"second", quota, 1) for _ in range(3)] == [True, True, False]
    buckets.configure(10)
    assert not buckets.take(b"second", quota, 2)
    assert buckets.take(b"second", quota, 5 * SECOND + 1)
    assert len(buckets) == 1  # the first one's was full again and made room


asks = st.lists(
    st.tuples(st.sampled_from(["take", "take", "give back"]), st.integers(0, SECOND), st.integers(0, 5)), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(quotas, asks, st.sampled_from([0, 10]))
def test_what_is_given_back_lets_nobody_else_exceed_the_rate(
    quota: Quota, steps: list[tuple[str, int, int]], room: int
) -> None:
    """Those who kept their permit, whatever others took and gave back meanwhile."""
    buckets, now = Buckets(room), 0
    kept: list[tuple[int, int]] = []
    for what, step, which in steps:
        now += step % (2 * quota.interval)
        if what == "give back" and kept:
            since, tat = kept.pop(which % len(kept))
            buckets.give_back(b"a", quota, tat, since, now)
        elif buckets.take(b"a", quota, now):
            kept.append((now, buckets.tat(b"a")))
    for first, (begin, _) in enumerate(kept):
        for last in range(first, len(kept)):
            assert last - first + 1 <= quota.burst + Fraction(kept[last][0] - begin, quota.interval)


def test_a_permit_that_is_given_back_is_there_again() -> None:
    buckets, quota = Buckets(10), Quota(2, 10.0)
    assert buckets.take(b"a", quota, 0)
    for _ in range(5):
        assert buckets.take(b"a", quota, SECOND)
        buckets.give_back(b"a", quota, buckets.tat(b"a"), SECOND, 2 * SECOND)
    assert [buckets.take(b"a", quota, 2 * SECOND) for _ in range(2)] == [True, False]


def test_one_that_has_come_back_by_itself_is_not_given_twice() -> None:
    buckets, quota = Buckets(10), Quota(2, 10.0)
    assert buckets.take(b"a", quota, 0)
    tat = buckets.tat(b"a")
    assert [buckets.take(b"a", quota, 6 * SECOND) for _ in range(3)] == [True, True, False]
    buckets.give_back(b"a", quota, tat, 0, 6 * SECOND)
    assert not buckets.take(b"a", quota, 6 * SECOND)


class TableMachine(RuleBasedStateMachine):
    """Few keys in a table of two: nobody ever gets more than a bucket of its own would give."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = Quota(3, 2.0)
        self.buckets = Buckets(2)
        self.models: dict[bytes, Bucket] = {}
        self.now = 0

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), step=st.integers(0, SECOND))
    def ask(self, key: bytes, step: int) -> None:
        self.now += step
        model = self.models.setdefault(key, Bucket(self.quota))
        if self.buckets.take(key, self.quota, self.now):
            assert model.take(self.now)

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.buckets) <= 2


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
