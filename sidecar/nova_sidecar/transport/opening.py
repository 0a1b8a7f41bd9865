"""One connection being opened: for a caller, for whoever comes next, or in advance.

An endpoint that does not answer costs its caller little: while the pool has others, the next one is tried after a
quarter of a second, or at once when the connection is refused, and the first to answer is used (race.py). All of it is
one attempt of the exchange and no retry, since nothing of the request was sent; it has the connect timeout in all. Only
when up to `MOST_ADDRESSES` have failed does the exchange hear of a connect failure.
"""

import asyncio
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from nova_sidecar.transport.connector import ConnectError, Connector, let_go
from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.pool import Pool
from nova_sidecar.transport.race import STAGGER, race
from nova_sidecar.transport.seat import CloseReason, Seat

MOST_ADDRESSES: Final = 3
"""Endpoints tried for one connection."""


class Openable(Protocol):
    """What an opening needs of a connection: it is an asyncio protocol, and knows its place in the pool."""

    name: str
    endpoint: Endpoint
    seat: Any
    transport: Any
    retire_at: float
    requests: int
    reusable: bool
    close_reason: CloseReason | None

    def close(self, reason: CloseReason) -> None:
        """Close at once."""


C = TypeVar("C", bound=Openable)


class Opener(Protocol[C]):
    """What an opening needs of the dispatcher it belongs to."""

    connector: Connector
    pool: Pool[C, Any]

    def fresh(self, seat: Seat[C]) -> C:
        """A connection that is not open yet, in a seat that counts it already."""

    def connect_failed(self, seat: Seat[C], *, blame: bool) -> None:
        """An endpoint did not take a connection, or others were faster by far; called for each. `blame` is False where
        this machine could not even try."""

    def settled(self, opening: "Opening[C]", connection: C | None, why: str) -> None:
        """It is over: a connection that is open, or None and why there is none. Called once."""


class Opening(Generic[C]):
    """See the module. `wanted` is whoever asked, None once it has left; `ahead` when nobody did. `replaces` is the
    connection that goes when this one is there, and why."""

    __slots__ = ("_first", "_opener", "_running", "_task", "_tried", "ahead", "replaces", "wanted")

    def __init__(
        self,
        opener: Opener[C],
        seat: Seat[C],
        wanted: Any | None = None,
        replaces: tuple[C, CloseReason] | None = None,
    ) -> None:
        self._opener = opener
        self.wanted = wanted
        self.ahead = wanted is None
        self.replaces = replaces
        self._first: C | None = opener.fresh(seat)
        self._tried = [seat]
        self._running = {self._first}
        self._task: asyncio.Task[C] | None = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """Give it up; it settles without a connection."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> C:
        loop, timeout = asyncio.get_running_loop(), self._opener.connector.timeout
        ends = loop.time() + timeout

        async def attempt(connection: C) -> None:
            protocol = cast(asyncio.Protocol, connection)
            await self._opener.connector.open(lambda: protocol, connection.endpoint, ends)

        if len(self._opener.pool.endpoints) > 1:
            return await race(attempt, self._next, lost=self._lost, stagger=min(STAGGER, timeout / 4))
        only = self._next()
        assert only is not None  # noqa: S101 - the first one
        try:
            await attempt(only)
        except ConnectError as error:
            self._lost(only, error)
            raise
        return only

    def _next(self) -> C | None:
        connection, self._first = self._first, None
        if connection is None and len(self._tried) < MOST_ADDRESSES:
            seat = self._opener.pool.another(self._tried)
            if seat is not None:
                self._tried.append(seat)
                connection = self._opener.fresh(seat)
                self._running.add(connection)
        return connection

    def _lost(self, connection: C, error: BaseException | None) -> None:
        self._drop(connection)
        self._opener.connect_failed(connection.seat, blame=not (isinstance(error, ConnectError) and error.own))

    def _drop(self, connection: C) -> None:
        self._running.remove(connection)
        if connection.transport is not None:  # made in the very moment it was no longer wanted, or lost at once
            connection.close("aborted")
        self._opener.pool.drop(connection.seat)

    def _settle(self, task: asyncio.Task[C]) -> None:
        """A callback and not the end of the task, because a task that is cancelled before its first step never runs."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ConnectError):
            let_go(error)
        made = None if task.cancelled() or error is not None else task.result()
        if made is not None and made.close_reason:
            self._lost(made, None)
            made = None
        for connection in [other for other in self._running if other is not made]:
            self._drop(connection)
        why = str(error) if error is not None else "the connection was closed as soon as it was made"
        self._opener.settled(self, made, why)

    def __repr__(self) -> str:
        return f"<Opening {' '.join(connection.name for connection in self._running)}>"
