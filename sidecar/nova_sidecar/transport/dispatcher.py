"""Carries out what the pool decides: opens and closes connections, keeps the endpoints up to date.

A caller gets a connection at once when there is one; otherwise it is told later, exactly once, unless it cancels.
Only opening a connection and asking for addresses take a task.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, Protocol

from nova_api.policies import PoolPolicy
from nova_api.proxy import Address
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.endpoints import Endpoint, Resolution, ResolveError, Resolver, literal
from nova_sidecar.transport.pool import Pool
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.response import ResponseReader

MAX_WAITING: Final = 1024
"""Callers that wait for a connection at once; further ones are refused."""
MIN_REFRESH: Final = 1.0
MAX_REFRESH: Final = 30.0
"""Bounds on the seconds between two looks at an upstream's addresses."""


class Counters(Protocol):
    """What is counted of connections; the pipeline's statistics provide it."""

    connections_opened: int
    connect_failures: int
    connections_closed: dict[CloseReason, int]


class Waiter(Protocol):
    """A caller that waits for a connection."""

    def on_connection(self, connection: UpstreamConnection) -> None:
        """Here it is."""

    def on_no_connection(self, reason: Reason, why: str) -> None:
        """There will be none: no_endpoint or connect_failure."""


class Dispatcher:
    """The connections to one upstream or to the app."""

    def __init__(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        connect_timeout: float,
        reader: ResponseReader,
        resolver: Resolver,
        wheel: Wheel,
        rng: Random,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        # for the life of the port
        self._loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._wheel = wheel
        self._counters = counters
        self._clock = clock
        self._connections: set[UpstreamConnection] = set()
        self._opening: dict[Waiter, asyncio.Task[None]] = {}
        self._unresolved: dict[Waiter, None] = {}
        self._refresher: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        self._closed = False
        self.pool: Pool[UpstreamConnection, Waiter] = Pool(policy, Lifespan(policy, rng))
        # until the next configuration
        self.reader = reader
        self._address = address
        self._connect_timeout = connect_timeout
        self._locate()

    # --- for the exchange

    def acquire(self, waiter: Waiter) -> UpstreamConnection | Reason | None:
        """A connection to use now; a Reason when there can be none; None: the waiter will be told."""
        decision = self.pool.checkout()
        if isinstance(decision, UpstreamConnection):
            return decision
        if decision is None:
            return self._queue(waiter)
        self._open(decision, waiter)
        return None

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Give back a connection whose response is complete; a caller that waits gets it."""
        pool = self.pool
        why = pool.retire(connection, now)
        if why:
            connection.close(why)
        elif pool.queue:
            pool.next_waiter().on_connection(connection)  # type: ignore[union-attr]  # there is one
        else:
            connection.seat.idle[connection] = None  # `pool.put`, without the price of a call
            deadline = connection.deadline = now + connection.idle_limit
            if deadline < connection.wakes:
                self._wheel.place(connection)

    def cancel(self, waiter: Waiter) -> Reason:
        """The caller waits no more; what it would have been refused for."""
        task = self._opening.pop(waiter, None)
        if task is not None:
            task.cancel()
            return Reason.CONNECT_FAILURE
        if waiter in self._unresolved:
            del self._unresolved[waiter]
            return Reason.NO_ENDPOINT
        self.pool.leave(waiter)
        return Reason.POOL_EXHAUSTED

    def _queue(self, waiter: Waiter) -> Reason | None:
        if not self.pool.endpoints:
            self._unresolved[waiter] = None
            self._kick.set()
            return None
        if self.pool.waiting >= MAX_WAITING:
            return Reason.POOL_EXHAUSTED
        self.pool.wait(waiter)
        return None

    # --- for connections

    def lost(self, connection: UpstreamConnection, reason: CloseReason) -> None:
        """A connection is closed, by whomever. One that was never taken in is accounted for in `_settle`: not every
        loop tells of the end of a connection whose opening was cancelled."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._wheel.remove(connection)
        self._counters.connections_closed[reason] += 1
        self.pool.forget(connection)
        self._serve_next()

    def idle_expired(self, connection: UpstreamConnection, now: float) -> None:
        """A connection was idle for too long."""
        connection.close("idle")

    def _serve_next(self) -> None:
        """A place is free: open a connection for who waits."""
        while self.pool.waiting and not self._closed:
            decision = self.pool.checkout()
            if decision is None:
                return
            waiter = self.pool.next_waiter()
            assert waiter is not None  # noqa: S101 - tells the type checker what `waiting` says
            if isinstance(decision, UpstreamConnection):
                waiter.on_connection(decision)
            else:
                self._open(decision, waiter)

    # --- opening

    def _open(self, seat: Seat[UpstreamConnection], waiter: Waiter) -> None:
        lifespan = self.pool.lifespan
        connection = UpstreamConnection(
            self, seat, retire_at=lifespan.retire_at(self._clock()), idle_limit=lifespan.idle_limit()
        )
        task = self._loop.create_task(self._connect(connection))
        self._opening[waiter] = task
        task.add_done_callback(partial(self._settle, connection, waiter))

    async def _connect(self, connection: UpstreamConnection) -> None:
        async with asyncio.timeout(self._connect_timeout):
            await self._loop.create_connection(lambda: connection, *connection.endpoint)

    def _settle(self, connection: UpstreamConnection, waiter: Waiter, task: asyncio.Task[None]) -> None:
        """An attempt to connect is over: made, failed or cancelled, and its caller may have left in the meantime.

        A callback and not the end of the task, because a task that is cancelled before its first step never runs.
        """
        wanted = self._opening.get(waiter) is task
        if wanted:
            del self._opening[waiter]
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None and not connection.close_reason:
            self._take_in(connection, waiter if wanted else None)
            return
        if connection.transport is not None:  # made in the very moment it was no longer wanted, or lost at once
            connection.close("aborted")
        self.pool.drop(connection.seat)
        if error is not None:
            self._counters.connect_failures += 1
            self._kick.set()
        if wanted:
            waiter.on_no_connection(Reason.CONNECT_FAILURE, _connect_words(error))
        self._serve_next()

    def _take_in(self, connection: UpstreamConnection, waiter: Waiter | None) -> None:
        self._counters.connections_opened += 1
        self._connections.add(connection)
        if waiter is not None:
            waiter.on_connection(connection)
        else:
            self.release(connection, self._clock())

    # --- addresses

    def _locate(self) -> None:
        """Find the endpoints: at once for an IP literal, else in the background from now on."""
        if self._refresher is not None:
            self._refresher.cancel()
            self._refresher = None
        found = literal(self._address.host, self._address.port)
        if found is not None:
            self._take_over((found,))
        else:
            self._refresher = self._loop.create_task(self._refresh(self._address))

    async def _refresh(self, address: Address) -> None:
        """Keep the endpoints up to date; on failure the last known ones stay."""
        while True:
            self._kick.clear()
            try:
                resolution = await self._resolver.resolve(address.host, address.port)
            except ResolveError as error:
                self._fail_unresolved(str(error))
                resolution = Resolution((), MIN_REFRESH)
            if resolution.addresses:
                self._take_over(resolution.addresses)
            else:
                self._fail_unresolved(f"{address.host} has no address")
            await asyncio.sleep(MIN_REFRESH)
            rest = min(resolution.ttl, MAX_REFRESH) - MIN_REFRESH
            if rest > 0:
                try:
                    async with asyncio.timeout(rest):
                        await self._kick.wait()
                except TimeoutError:
                    pass

    def _take_over(self, endpoints: tuple[Endpoint, ...]) -> None:
        for connection in self.pool.replace_endpoints(endpoints):
            connection.close("removed")
        waiting, self._unresolved = list(self._unresolved), {}
        for waiter in waiting:
            answer = self.acquire(waiter)
            if isinstance(answer, UpstreamConnection):
                waiter.on_connection(answer)
            elif answer is not None:
                waiter.on_no_connection(answer, "too many callers wait for a connection")

    def _fail_unresolved(self, why: str) -> None:
        waiting, self._unresolved = list(self._unresolved), {}
        for waiter in waiting:
            waiter.on_no_connection(Reason.NO_ENDPOINT, why)

    # --- configuration and end

    def configure(
        self, address: Address, policy: PoolPolicy, *, connect_timeout: float, reader: ResponseReader
    ) -> None:
        """Take over new values; connections in use go on, idle ones to a former address are closed."""
        self.reader = reader
        self._connect_timeout = connect_timeout
        self.pool.configure(policy)
        if address != self._address:
            self._address = address
            self._locate()

    def close(self) -> None:
        """Close every connection now."""
        self._closed = True
        if self._refresher is not None:
            self._refresher.cancel()
        for task in list(self._opening.values()):
            task.cancel()
        for connection in list(self._connections):
            connection.close("shutdown")

    def __repr__(self) -> str:
        return f"<Dispatcher {self._address.host}:{self._address.port} {self.pool!r}>"


def _connect_words(error: BaseException | None) -> str:
    if error is None:
        return "the connection was closed as soon as it was made"
    if isinstance(error, TimeoutError):
        return "no connection within the connect timeout"
    return f"no connection: {getattr(error, 'strerror', None) or error}"
