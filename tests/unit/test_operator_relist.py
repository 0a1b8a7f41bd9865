"""Which kinds are listed anew after the watches were opened."""

import asyncio

import pytest

from nova_operator import relist
from nova_operator.cluster import UnavailableError
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, INGRESS, SERVICE, Kind
from nova_operator.relist import Relist


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relist, "SETTLE", 0.0)
    monkeypatch.setattr(relist, "RETRY", 0.0)


class Reader:
    """Notes which kinds are read; the first `failing` times it cannot."""

    def __init__(self, failing: int = 0) -> None:
        self.kinds: list[Kind] = []
        self._failing = failing
        self._read = asyncio.Semaphore(0)

    async def __call__(self, kind: Kind) -> None:
        self.kinds.append(kind)
        self._read.release()
        if len(self.kinds) <= self._failing:
            raise UnavailableError("not now")

    async def reads(self, one: Relist, count: int) -> list[Kind]:
        """Let it run until so many more lists were read; which."""
        before = len(self.kinds)
        task = asyncio.create_task(one.run())
        for _ in range(count):
            await self._read.acquire()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return self.kinds[before:]


def test_kinds_that_stayed_silent_are_listed_too() -> None:
    """Of what told something the list is read anyway; of what did not, everything may have gone meanwhile."""

    async def run() -> list[Kind]:
        reader = Reader()
        one = Relist(reader)
        one.told(INGRESS)  # before these watches
        one.opening()
        one.told(SERVICE)
        assert set(await reader.reads(one, 2)) == {INGRESS, SERVICE}
        one.opened([SERVICE, INGRESS, DEPLOYMENT])
        return await reader.reads(one, 2)

    assert set(asyncio.run(asyncio.wait_for(run(), 10))) == {INGRESS, DEPLOYMENT}


def test_a_list_that_cannot_be_read_is_read_later() -> None:
    async def run() -> list[Kind]:
        reader = Reader(failing=1)
        one = Relist(reader)
        one.told(CONFIG_MAP)
        return await reader.reads(one, 2)

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [CONFIG_MAP, CONFIG_MAP]
