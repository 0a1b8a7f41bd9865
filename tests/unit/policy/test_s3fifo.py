"""The cache's eviction: what it keeps, what it never exceeds, and that it beats LRU where LRU is weak."""

from bisect import bisect_left
from collections import OrderedDict
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova_sidecar.policy.s3fifo import S3Fifo


class Lru:
    """What it is compared with."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int) -> bool:
        if key in self._kept:
            self._kept.move_to_end(key)
            return True
        self._kept[key] = None
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return False


def zipf(objects: int, skew: float, asked: int, seed: int) -> list[int]:
    """Numbers of objects as they are asked for: the n-th most popular with a share of 1 / n^skew."""
    bounds = list(accumulate(1 / (rank**skew) for rank in range(1, objects + 1)))
    rng = Random(seed)
    return [bisect_left(bounds, rng.random() * bounds[-1]) for _ in range(asked)]


def hit_ratio(cache: S3Fifo[int, int], trace: list[int]) -> float:
    hits = 0
    for key in trace:
        if cache.get(key) is None:
            cache.put(key, key, 1)
        else:
            hits += 1
    return hits / len(trace)


@pytest.mark.parametrize(("skew", "share"), [(0.8, 0.01), (0.8, 0.1), (1.0, 0.01), (1.0, 0.1), (1.2, 0.01)])
def test_more_hits_than_lru_on_zipf_traces(skew: float, share: float) -> None:
    objects = 10_000
    trace = zipf(objects, skew, 30_000, seed=7)
    limit = int(objects * share)
    lru = Lru(limit)
    by_lru = sum(map(lru.ask, trace)) / len(trace)
    ours = hit_ratio(S3Fifo(limit), trace)
    assert ours > by_lru, f"{ours:.3f} against {by_lru:.3f}"


def test_a_scan_takes_nothing_away_that_is_in_use() -> None:
    """Everything is asked for once: a crawler, a backup, an attacker with random query strings."""
    cache: S3Fifo[int, int] = S3Fifo(100)
    popular = range(50)
    for _ in range(4):
        hit_ratio(cache, list(popular))
    hit_ratio(cache, list(range(1000, 3000)))
    kept = sum(key in cache for key in popular)
    lru = Lru(100)
    for _ in range(4):
        list(map(lru.ask, popular))
    list(map(lru.ask, range(1000, 3000)))
    assert kept == 50
    assert sum(map(lru.ask, popular)) == 0, "LRU forgets all of them"


def test_one_larger_than_everything_is_not_taken_in() -> None:
    cache: S3Fifo[str, int] = S3Fifo(10)
    cache.put("a", 1, 5)
    assert cache.put("b", 2, 11) == [("b", 2)]
    assert ("a" in cache, "b" in cache) == (True, False)
    assert cache.put("a", 3, 11) == [("a", 3)], "and what it was to replace is gone"
    assert (len(cache), cache.size) == (0, 0)


def test_a_smaller_limit_is_kept_at_once() -> None:
    cache: S3Fifo[int, int] = S3Fifo(100)
    for key in range(100):
        cache.put(key, key, 1)
    gone = cache.configure(30)
    assert len(gone) == 70
    assert cache.size == len(cache) == 30


class Machine(RuleBasedStateMachine):
    """Against a plain dictionary: never a wrong value, never more than the limit, every departure reported once."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: S3Fifo[int, int] = S3Fifo(40)
        self.model: dict[int, tuple[int, int]] = {}

    @rule(key=st.integers(0, 15), value=st.integers(), size=st.integers(1, 50))
    def put(self, key: int, value: int, size: int) -> None:
        self.model[key] = (value, size)
        for gone, left in self.cache.put(key, value, size):
            assert self.model.pop(gone)[0] == left

    @rule(key=st.integers(0, 15))
    def get(self, key: int) -> None:
        expected = self.model.get(key)
        assert self.cache.get(key) == (None if expected is None else expected[0])

    @rule(key=st.integers(0, 15))
    def pop(self, key: int) -> None:
        expected = self.model.pop(key, None)
        assert self.cache.pop(key) == (None if expected is None else expected[0])

    @rule(limit=st.integers(5, 80))
    def configure(self, limit: int) -> None:
        for gone, left in self.cache.configure(limit):
            assert self.model.pop(gone)[0] == left

    @invariant()
    def sizes_add_up(self) -> None:
        assert self.cache.size == sum(size for _, size in self.model.values()) <= self.cache.limit
        assert dict(self.cache.items()) == {key: value for key, (value, _) in self.model.items()}
        assert len(self.cache) == len(self.model)


TestMachine = Machine.TestCase


@given(st.lists(st.integers(0, 10_000), max_size=500))
def test_names_of_what_left_are_bounded(keys: list[int]) -> None:
    cache: S3Fifo[int, int] = S3Fifo(8)
    for key in keys:
        cache.put(key, key, 1)
    assert len(cache._ghosts) <= 16
