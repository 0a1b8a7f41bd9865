"""Nothing that was said is lost and nothing comes twice, whatever ends: processes, Redis, connections, all of them."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.loopback.data.database import Database
from tests.loopback.support.postgresserver import Server as Postgres
from tests.loopback.support.redisservers import Server as Redis

from .chatting import Client, begin, messaging, person, prepared
from .process import Service

PEOPLE = 6
BEAT = 0.4
"""Seconds that Redis is away."""
PAUSE = 0.5
"""Seconds between two messages of one of them, at most."""
LAST_WORDS = 60.0
"""Seconds in which all that was said must have come."""


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[Database]:
    with prepared(postgres) as made:
        yield made


class World:
    """Two processes and a Redis, each of which may be ended at any time."""

    def __init__(self, database: Database, folder: Path, stack: ExitStack) -> None:
        self._database = database
        self._stack = stack
        self.redis = Redis(folder)
        stack.callback(self.redis.stop)
        self.services = [self._started() for _ in range(2)]

    def _started(self) -> Service:
        return self._stack.enter_context(messaging(self._database, redis=self.redis.port))

    def ports(self) -> list[int]:
        """Of the processes, whether or not they are there at this moment."""
        return [service.port for service in self.services]

    async def kill(self, number: int) -> None:
        """End a process at once, and start another one in its place."""
        self.services[number].process.kill()
        self.services[number] = await asyncio.to_thread(self._started)

    async def roll(self) -> None:
        """Replace the processes one after the other, as a rolling update does: the new one is there first."""
        for number, old in enumerate(tuple(self.services)):
            self.services[number] = await asyncio.to_thread(self._started)
            old.terminate()
            assert await asyncio.to_thread(old.process.wait, 20) == 0

    async def restart_redis(self) -> None:
        """With what subscribers do not hear meanwhile."""
        self.redis.stop()
        await asyncio.sleep(BEAT)
        await asyncio.to_thread(self.redis.start)


async def trouble(world: World) -> None:
    """Everything that may happen, once."""
    await world.kill(0)
    await world.restart_redis()
    await world.roll()
    world.redis.stop()
    await world.kill(1)
    await asyncio.to_thread(world.redis.start)


async def talk(clients: list[Client], world: World, random: Random) -> None:
    """Everybody writes while there is trouble, and listens until everything has come to everybody."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5)) as session:
        running = [asyncio.create_task(client.run(session)) for client in clients]
        troubled = asyncio.create_task(trouble(world))
        for number in itertools.count():
            if troubled.done():
                break
            for client in clients:
                client.write(f"{client.user} {number}")
            await asyncio.sleep(random.random() * PAUSE)
        await troubled
        deadline = asyncio.get_running_loop().time() + LAST_WORDS
        while not _complete(clients) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - as processes are
            await asyncio.sleep(0.05)
        for task in running:
            task.cancel()
        ends = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


def _complete(clients: list[Client]) -> bool:
    """Whether everybody was answered and has heard all; that it is not more than that is looked for later."""
    return not any(client.waiting for client in clients) and all(
        len(client.heard) >= sum(client.shares(other) for other in clients) for client in clients
    )


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_comes_twice(database: Database, tmp_path: Path) -> None:
    random = Random(17)
    with ExitStack() as stack:
        world = World(database, tmp_path, stack)
        people = [person() for _ in range(PEOPLE)]
        rooms = {begin(world.services[0], *members): members for members in (people, people[:3], people[2:])}
        clients = [
            Client(user, [room for room, members in rooms.items() if user in members], world.ports, Random(number))
            for number, user in enumerate(people)
        ]
        asyncio.run(talk(clients, world, random))

    for client in clients:
        assert not client.waiting
        assert sorted(client.sent) == sorted(client.written)  # each was acknowledged, once
        assert [frame["after"] for frame in client.heard] == list(range(1, len(client.heard) + 1))
    for room, members in rooms.items():
        heard = [_said(client, room) for client in clients if client.user in members]
        assert all(one == heard[0] for one in heard)  # the same, in the same order, for all of them
        written = [identity for client in clients for identity in client.written if client.written[identity] == room]
        assert sorted(identity for identity, _ in heard[0]) == sorted(written)
        assert [position for _, position in heard[0]] == list(range(1, len(written) + 1))
    codes = list(itertools.chain.from_iterable(client.codes for client in clients))
    assert 1012 in codes  # those of the rolling update
    assert len(codes) > PEOPLE  # and everybody came back


def _said(client: Client, room: str) -> list[tuple[Any, int]]:
    return [(frame["clientId"], frame["position"]) for frame in client.heard if frame["conversationId"] == room]
