"""Invalidations that Redis has not been told of: none is lost, none is told in vain for ever, and there are bounds."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nova_sidecar.pipeline import cache_owed
from nova_sidecar.pipeline.cache_owed import MOST_OWED, Change, Owed
from nova_sidecar.store.port import StoreError

EVERYTHING = Change("generation", 0, b"p*")


def change(target: bytes) -> Change:
    return Change(f"target:{target!r}", 1000, b"t" + target)


class Redis:
    """What was told, while it is `there`."""

    def __init__(self) -> None:
        self.there = True
        self.told: list[bytes] = []
        self.asked = self.refused = 0
        self.lost = b""
        """Of which the first word is lost."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def share(self, change: Change) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        await self.gate.wait()
        if not self.there or self.lost == change.message:
            self.lost = b""
            self.refused += 1
            raise StoreError("away")
        self.told.append(change.message)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_owed, "AGAIN", 0.001)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - of what is under way in this loop
        await asyncio.sleep(0)


def run(scene: Callable[[Redis, Owed], Awaitable[None]]) -> None:
    async def main() -> None:
        redis = Redis()
        await scene(redis, Owed(redis.share, EVERYTHING, asyncio.get_running_loop()))

    asyncio.run(asyncio.wait_for(main(), 10))


def test_it_is_owed_until_redis_has_it() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        owed.tell(change(b"/a"))
        assert (owed.concerns(b"/a"), owed.concerns(b"/b")) == (True, False)
        await until(lambda: not len(owed))
        assert redis.told == [b"t/a"]
        assert not owed.concerns(b"/a")

    run(scene)


def test_a_redis_that_is_away_is_told_when_it_is_back() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        redis.there = False
        owed.tell(change(b"/a"))
        owed.tell(Change("generation", 0, b"p/x*"))
        await until(lambda: redis.asked > 5)
        assert owed.concerns(b"/whatever"), "which the pattern may name"
        redis.there = True
        await until(lambda: not len(owed))
        assert sorted(redis.told) == [b"p/x*", b"t/a"]

    run(scene)


def test_one_that_fails_while_others_are_told_again_is_told_too() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        redis.there = False
        owed.tell(change(b"/a"))
        await until(lambda: redis.refused == 1)
        redis.gate.clear()
        await until(lambda: redis.asked == 2)  # told again, and under way
        owed.tell(change(b"/b"))
        await until(lambda: redis.asked == 3)
        redis.lost, redis.there = b"t/b", True
        redis.gate.set()
        await until(lambda: not len(owed))
        assert sorted(redis.told) == [b"t/a", b"t/b"]

    run(scene)


def test_what_was_invalidated_once_more_while_it_was_told_is_told_again() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        owed.tell(change(b"/a"))
        await until(lambda: redis.asked)
        owed.tell(change(b"/a"))
        await until(lambda: len(redis.told) == 1)
        assert owed.concerns(b"/a")
        await until(lambda: not len(owed))
        assert redis.told == [b"t/a", b"t/a"]

    run(scene)


def test_too_many_are_one_purge_of_everything() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        redis.there = False
        for number in range(MOST_OWED + 1):
            owed.tell(change(b"/%d" % number))
        assert len(owed) == 2
        assert owed.concerns(b"/0")
        redis.there = True
        await until(lambda: not len(owed))
        assert b"p*" in redis.told

    run(scene)


def test_another_redis_takes_them_over() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        redis.there = False
        owed.tell(change(b"/a"))
        await until(lambda: redis.asked)
        owed.end()
        other = Redis()
        after = Owed(other.share, EVERYTHING, asyncio.get_running_loop())
        after.take_over(owed)
        assert after.concerns(b"/a")
        await until(lambda: not len(after))
        assert other.told == [b"t/a"]

    run(scene)


def test_after_its_end_there_are_no_tries() -> None:
    async def scene(redis: Redis, owed: Owed) -> None:
        redis.there = False
        owed.tell(change(b"/a"))
        await until(lambda: redis.asked)
        owed.end()
        before = redis.asked
        await asyncio.sleep(20 * cache_owed.AGAIN)  # nothing is to happen, and there is no condition for that
        assert redis.asked == before

    run(scene)
