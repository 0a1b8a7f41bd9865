"""Redis pub/sub: who has something to read, told to the other processes.

Nothing depends on it. A message is in PostgreSQL before anybody hears of it here, and whoever hears nothing looks there
every few seconds (`watching`). So Redis may lose what it is told, be away, or be a new one: then messages come later,
and none is missing. That is why publishing is not waited for, and why what cannot be published is dropped.

A notice is a number of user ids, 16 bytes each. All processes hear all notices, which is fine for tens of them; for
more, give each a channel for its users.
"""

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from nova_data.backoff import Backoff
from nova_services.logs import get_logger

CHANNEL: Final = "nova:messaging:wakeups"
MOST: Final = 10_000
"""Users that wait to be told of; those beyond are found by the next look into PostgreSQL."""
_AT_ONCE: Final = 500
_TIMEOUT: Final = 1.0
_SILENCE: Final = 15.0
"""Seconds after which a silent connection is asked whether it is one."""
_AGAIN: Final = Backoff(base=0.2, longest=5.0)
_FAILURES: Final = (RedisError, OSError, TimeoutError)
Told = Callable[[Iterable[UUID]], None]


class Wakeups:
    """See the module. `told` is called with users who have something to read, and `missed` when notices may have been
    lost, as at each new connection."""

    def __init__(self, url: str, *, told: Told, missed: Callable[[], None], random: Random) -> None:
        self._redis: Any = Redis.from_url(
            url,
            socket_connect_timeout=_TIMEOUT,
            socket_timeout=_SILENCE + _TIMEOUT,
            health_check_interval=_SILENCE,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # a connection made anew in silence would hide that notices were lost
        )
        self._told = told
        self._missed = missed
        self._random = random
        self._due: set[UUID] = set()
        self._there_are = asyncio.Event()
        self.connected = False

    def tell(self, users: Iterable[UUID]) -> None:
        """These have something to read. Does not wait."""
        if len(self._due) < MOST:
            self._due.update(users)
            self._there_are.set()

    async def run(self) -> None:
        """Listen and publish, until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._publish())
        finally:
            await self._redis.aclose()

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL)
                    failures = 0
                    await self._hear(channel)
            except _FAILURES as error:
                if self.connected or failures == 0:
                    get_logger().warning("wake-ups lost", error=type(error).__name__)
                self.connected = False
                failures += 1
                await asyncio.sleep(_AGAIN.wait(failures, self._random))

    async def _hear(self, channel: Any) -> None:
        while True:
            notice = await channel.get_message(timeout=_SILENCE)
            if not self.connected:
                self.connected = True
                self._missed()
            if notice is not None:
                self._told(_read(notice["data"]))

    async def _publish(self) -> None:
        while True:
            await self._there_are.wait()
            self._there_are.clear()
            users = [self._due.pop() for _ in range(min(len(self._due), _AT_ONCE))]
            if self._due:
                self._there_are.set()
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self._redis.publish(CHANNEL, b"".join(user.bytes for user in users))
            except _FAILURES as error:
                if self.connected:
                    get_logger().warning("wake-up not published", error=type(error).__name__)

    def __repr__(self) -> str:
        return f"<Wakeups connected={self.connected} due={len(self._due)}>"


def _read(data: bytes) -> list[UUID]:
    """The users of a notice; what is no whole id is passed over."""
    return [UUID(bytes=data[start : start + 16]) for start in range(0, len(data) - 15, 16)]
