"""One primary and its replicas: `write` goes to the primary, `read` to a replica that is near enough.

    async with SplitDatabase(Database(primary), [Database(one, name="replica-1")]) as database:
        async with database.write() as connection: ...      # a transaction on the primary
        async with database.read() as connection: ...       # reads only; whoever has written reads what it wrote
        rows = await database.run(lambda connection: connection.fetch("SELECT …"))      # again, if a replica is lost

Rules:

* What is read is read only, at whichever server: on the primary in a read-only transaction, so that code which writes
  by mistake fails in every environment.
* A replica that gives no connection is left alone until it is heard again, and the primary reads. One that is full
  refuses, as every full pool does: reads that a replica cannot take must not stand in the writes' way.
* A block that has begun cannot begin again elsewhere: it gets the error. `run` can, and does, once, on the primary.
* Where the log stood after a write is asked on its connection, after its commit. When there is no answer, the caller's
  reads go to the primary: never is a write taken for failed for that.
* Each replica has its own pool and its own metrics, by its database's name.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import asyncpg

from nova_data.database import GONE
from nova_data.pool.database import Connection, Database
from nova_data.split.choice import Choice, Replica, Route, SplitSettings
from nova_data.split.metrics import SplitMetrics
from nova_data.split.position import NOWHERE, ended, position
from nova_data.split.probes import Probes
from nova_data.split.session import current

V = TypeVar("V")

POSITION_TIMEOUT: Final = 1.0
"""Seconds for the log's position after a write."""
POLLS: Final = (0.001, 0.005)
"""Seconds between the first two looks at a replica that is waited for, and between later ones; most are near."""
AGAIN: Final = (*GONE, asyncpg.SerializationError)
"""When a server is gone, and what a replica says to a query whose rows the primary has removed meanwhile.
https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT"""


class SplitDatabase:
    """See the module. `primary` and `replicas` are databases that are not open yet, each with a name of its own."""

    def __init__(
        self,
        primary: Database,
        replicas: Sequence[Database],
        *,
        settings: SplitSettings | None = None,
        metrics: SplitMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        names = [primary.name, *(replica.name for replica in replicas)]
        if len(set(names)) < len(names):
            raise ValueError(f"replicas: expected a name for each database, got {', '.join(names)}")
        self.settings = settings = settings or SplitSettings()
        self.primary = primary
        self.choice = Choice(names[1:], settings)
        self._databases = dict(zip(self.choice.replicas, replicas, strict=True))
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - which replica, no secret
        self._probes = Probes(self.choice, primary.url, [each.url for each in replicas], settings.interval, clock)
        self._stack = AsyncExitStack()
        self._metrics = metrics
        if metrics is not None:
            metrics.add(primary.name)
            for replica in self.choice.replicas:
                metrics.add_replica(primary.name, replica.name, partial(self._lag, replica))

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for database in (self.primary, *self._databases.values()):
                await stack.enter_async_context(database)
            stack.push_async_callback(self._probes.stop)
            await self._probes.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- writing

    @asynccontextmanager
    async def write(
        self, *, tenant: str | None = None, within: float | None = None, **options: Any
    ) -> AsyncGenerator[Connection, None]:
        """A connection of the primary in a transaction; what it wrote, the caller's session reads from now on.

        Arguments and errors are those of `Database.transaction`.
        """
        async with self.primary.acquire(tenant=tenant, within=within) as connection:
            try:
                async with connection.transaction(**options):
                    yield connection
            except GONE:
                current().wrote(NOWHERE)  # it may have been written
                raise
            current().wrote(await _end_of_log(connection))

    # --- reading

    @asynccontextmanager
    async def read(self, *, tenant: str | None = None, within: float | None = None) -> AsyncGenerator[Connection, None]:
        """A connection to read with. Arguments and errors are those of `Database.acquire`."""
        async with AsyncExitStack() as stack:
            token = current().position
            route, replica = self.choice.route(self._clock(), self._random, token)
            connection = None
            if replica is not None:
                route, connection = await self._replica(stack, route, replica, token, tenant=tenant, within=within)
            if connection is None:
                block = self.primary.transaction(tenant=tenant, within=within, readonly=True)
                connection = await stack.enter_async_context(block)
            self._count(route)
            yield connection

    async def run(
        self,
        work: Callable[[Connection], Awaitable[V]],
        *,
        tenant: str | None = None,
        within: float | None = None,
    ) -> V:
        """What `work` reads; once more, on the primary, when a replica is lost or takes it back meanwhile."""
        replica = False
        try:
            async with self.read(tenant=tenant, within=within) as connection:
                replica = not connection.is_in_transaction()
                return await work(connection)
        except AGAIN:
            if not replica:
                raise
        self._count(Route.FAILED)
        async with self.primary.transaction(tenant=tenant, within=within, readonly=True) as connection:
            return await work(connection)

    async def _replica(
        self, stack: AsyncExitStack, route: Route, replica: Replica, token: int, **options: Any
    ) -> tuple[Route, Connection | None]:
        """A connection of a replica that has what is asked for; None, with the reason, where there is none."""
        async with AsyncExitStack() as own:
            try:
                connection = await own.enter_async_context(self._databases[replica].acquire(**options))
                if route is Route.WAITED and not await self._caught_up(connection, replica, token):
                    return Route.OWN_WRITE, None
            except GONE:
                self.choice.lost(replica)
                return Route.FAILED, None
            await stack.enter_async_context(own.pop_all())
            return route, connection

    async def _caught_up(self, connection: Connection, replica: Replica, token: int) -> bool:
        """Wait until a replica has replayed a position, but not for long."""
        give_up, pause = self._clock() + self.settings.patience, POLLS[0]
        while True:
            found = await connection.fetchval("SELECT pg_last_wal_replay_lsn()::text")
            if found is None:  # it is no replica any more
                return False
            replayed = position(found)
            self.choice.heard(replica, self._clock(), replayed=replayed)
            if replayed >= token:
                return True
            if self._clock() >= give_up:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLLS[1])

    def _lag(self, replica: Replica) -> float:
        return self.choice.lag(replica, self._clock())

    def _count(self, route: Route) -> None:
        if self._metrics is not None:
            self._metrics.read(self.primary.name, route)

    def __repr__(self) -> str:
        return f"<SplitDatabase {self.primary.name} {self.choice!r}>"


async def _end_of_log(connection: Connection) -> int:
    """Where the log stands; beyond every position where that cannot be asked."""
    try:
        async with asyncio.timeout(POSITION_TIMEOUT):
            return ended(position(await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")))
    except (TimeoutError, ValueError, asyncpg.PostgresError, *GONE):
        return NOWHERE
