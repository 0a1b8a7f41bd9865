"""In which turns everything is listed when nothing happens."""

import asyncio
from random import Random

from nova_operator.cluster import UnavailableError
from nova_operator.kinds import CONFIG_MAP, POD, SERVICE, Kind
from nova_operator.resync import JITTER, Resync

PLACES = [(SERVICE, "a"), (SERVICE, "b"), (CONFIG_MAP, "a"), (CONFIG_MAP, "b")]


class Lists:
    """Notes what is listed; a list of ConfigMaps fails. `enough` comes after so many."""

    def __init__(self, many: int) -> None:
        self.made: list[tuple[Kind, str | None]] = []
        self.enough = asyncio.Event()
        self._many = many

    async def __call__(self, kind: Kind, namespace: str | None) -> str:
        self.made.append((kind, namespace))
        if len(self.made) == self._many:
            self.enough.set()
        if kind is CONFIG_MAP:
            raise UnavailableError("not now")
        return "7"


def test_all_kinds_have_their_turn_again_and_again_also_after_one_that_failed() -> None:
    async def run() -> list[tuple[Kind, str | None]]:
        lists = Lists(10)
        task = asyncio.create_task(Resync(lists, 0.0, Random(1)).run(PLACES))
        await lists.enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return lists.made

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [*PLACES, *PLACES, *PLACES[:2]]


def test_the_turns_are_spread_over_the_time() -> None:
    one = Resync(Lists(1), 300.0, Random(1))
    pauses = [one.pause(12) for _ in range(1200)]
    assert min(pauses) >= 25 * (1 - JITTER)
    assert max(pauses) <= 25
    assert 265 * 100 < sum(pauses) < 275 * 100


def test_nothing_is_listed_before_the_first_pause_is_over() -> None:
    """It was all listed when the watches began."""

    async def run() -> list[tuple[Kind, str | None]]:
        lists = Lists(1)
        task = asyncio.create_task(Resync(lists, 86400.0, Random(1)).run([(POD, None)]))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return lists.made

    assert asyncio.run(asyncio.wait_for(run(), 10)) == []
