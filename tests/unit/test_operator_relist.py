"""When the NovaServices are listed anew after Kopf's watch was opened."""

import asyncio

import pytest

from nova_operator import relist
from nova_operator.cluster import UnavailableError
from nova_operator.relist import Relist


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relist, "SETTLE", 0.0)
    monkeypatch.setattr(relist, "RETRY", 0.0)


class Reader:
    """Counts the reads; the first `failing` times it cannot."""

    def __init__(self, failing: int = 0) -> None:
        self.count = 0
        self._failing = failing
        self._read = asyncio.Semaphore(0)

    async def __call__(self) -> None:
        self.count += 1
        self._read.release()
        if self.count <= self._failing:
            raise UnavailableError("not now")

    async def reads(self, one: Relist, count: int) -> None:
        """Let it run until so many more lists were read, and nothing is due."""
        task = asyncio.create_task(one.run())
        for _ in range(count):
            await self._read.acquire()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_watch_that_stayed_silent_is_listed_too() -> None:
    """Of what told something the list is read anyway; where nothing did, everything may have gone meanwhile."""

    async def run() -> None:
        reader = Reader()
        one = Relist(reader)
        one.told()  # before this watch
        one.opening()
        await reader.reads(one, 1)
        assert repr(one) == "<Relist done>"
        one.opened()
        assert repr(one) == "<Relist due>"
        await reader.reads(one, 1)

        one.opening()
        one.told()
        await reader.reads(one, 1)
        one.opened()
        assert repr(one) == "<Relist done>"

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_list_that_cannot_be_read_is_read_later() -> None:
    async def run() -> int:
        reader = Reader(failing=1)
        one = Relist(reader)
        one.told()
        await reader.reads(one, 2)
        return reader.count

    assert asyncio.run(asyncio.wait_for(run(), 10)) == 2
