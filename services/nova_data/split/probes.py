"""Asks the servers where their logs stand, each by a connection of its own, so that a full pool hides nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from nova_data.split.choice import Choice, Replica
from nova_data.split.position import ended, position

TIMEOUT: Final = 2.0
"""Seconds to connect, and for an answer."""
PRIMARY_POSITION: Final = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn()::text END"
REPLICA_POSITION: Final = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END"
"""https://www.postgresql.org/docs/current/functions-admin.html"""
Ask = Callable[[Any], Awaitable[None]]
_FAILURES: Final = (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Probes:
    """One task for each server, until `stop`; `interval` in seconds. A probe that fails is the next one's to make
    good."""

    def __init__(
        self, choice: Choice, primary: str, replicas: list[str], interval: float, clock: Callable[[], float]
    ) -> None:
        self._choice = choice
        self._clock = clock
        self._interval = interval
        self._servers: list[tuple[str, Ask]] = [(primary, self._primary)]
        for url, replica in zip(replicas, choice.replicas, strict=True):
            self._servers.append((url, self._replica_of(replica)))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Ask all of them once, then go on; servers that do not answer are not waited for beyond `TIMEOUT`."""
        first = [asyncio.Event() for _ in self._servers]
        create = asyncio.get_running_loop().create_task
        self._tasks = [create(self._go_on(*server, asked)) for server, asked in zip(self._servers, first, strict=True)]
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(asked.wait() for asked in first))

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _go_on(self, url: str, ask: Ask, asked: asyncio.Event) -> None:
        while True:
            with suppress(*_FAILURES):
                async with asyncio.timeout(TIMEOUT):
                    connection = await asyncpg.connect(
                        url, timeout=TIMEOUT, server_settings={"application_name": "probe"}
                    )
                try:
                    while True:
                        async with asyncio.timeout(TIMEOUT):
                            await ask(connection)
                        asked.set()
                        await asyncio.sleep(self._interval)
                finally:
                    connection.terminate()
            asked.set()
            await asyncio.sleep(self._interval)

    async def _primary(self, connection: Any) -> None:
        began = self._clock()
        found = await connection.fetchval(PRIMARY_POSITION)
        if found is not None:  # else it is a replica now, and the address leads nowhere useful
            self._choice.log.heard(ended(position(found)), began)

    def _replica_of(self, replica: Replica) -> Ask:
        async def ask(connection: Any) -> None:
            found = await connection.fetchval(REPLICA_POSITION)
            replayed = None if found is None else position(found)
            self._choice.heard(replica, self._clock(), replayed=replayed)

        return ask
