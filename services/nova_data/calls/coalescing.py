"""Identical calls that are under way at once are one.

    totals = Coalescer()
    rows = await totals.call(("revenue", day), lambda: warehouse.query(REVENUE, day))

The first call of its key leads: its work runs in a task of its own. Who comes while it runs follows, and gets the same
answer. Nothing is kept: once the work is done, the next call begins anew. So nobody gets an answer that was begun
before it asked by more than one call.

What happens to one must not happen to the others:

* Who leaves (is cancelled, runs out of time) leaves alone, the leader too; the work ends when nobody is left who wants
  it.
* An error is everybody's: work that has just failed is not repeated by all who waited for it.
* Work that hangs ends after `timeout`, for all of them.

The answer is one object for all: who changes it changes the others'. A key says all that the answer depends on, **whose
rights it was read with included**. Context variables (a correlation id) are the leader's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import wraps
from typing import Final, Generic, ParamSpec, TypeVar

from nova_data.errors import CallTimeoutError

V = TypeVar("V")
P = ParamSpec("P")

TIMEOUT: Final = 30.0


class _Flight(Generic[V]):
    """Work under way, and who waits for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: "asyncio.Task[V]") -> None:
        self.task = task
        self.waiters: dict[asyncio.Future[V], None] = {}


class Coalescer(Generic[V]):
    """See the module. `timeout` bounds the work, in seconds above 0. Raises ValueError for others."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout: expected seconds above 0, got {timeout}")
        self._timeout = timeout
        self._flights: dict[Hashable, _Flight[V]] = {}
        self.led = 0
        """Calls that did the work."""
        self.followed = 0
        """Calls that got another one's answer."""

    async def call(self, key: Hashable, work: Callable[[], Awaitable[V]]) -> V:
        """What `work` gives, run now or under way already. Raises what it raises, and CallTimeoutError."""
        loop = asyncio.get_running_loop()
        flight = self._flights.get(key)
        if flight is None:
            self.led += 1
            flight = self._flights[key] = _Flight(loop.create_task(self._run(work)))
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        else:
            self.followed += 1
        waiter: asyncio.Future[V] = loop.create_future()
        flight.waiters[waiter] = None
        try:
            return await waiter
        finally:
            flight.waiters.pop(waiter, None)
            if not flight.waiters and not flight.task.done():
                self._gone(key, flight)  # before its end, so that nobody follows who then gets nothing
                flight.task.cancel()

    def forget(self, key: Hashable) -> None:
        """What the work under way reads has changed: who comes from now on begins anew, who waits gets what it has."""
        self._flights.pop(key, None)

    async def _run(self, work: Callable[[], Awaitable[V]]) -> V:
        try:
            async with asyncio.timeout(self._timeout) as bound:
                return await work()
        except TimeoutError as error:
            if not bound.expired():
                raise  # the work's own
            raise CallTimeoutError(self._timeout) from error

    def _landed(self, key: Hashable, flight: _Flight[V]) -> None:
        self._gone(key, flight)
        task, waiters = flight.task, [waiter for waiter in flight.waiters if not waiter.done()]
        flight.waiters = {}
        error = CallTimeoutError(None) if task.cancelled() else task.exception()
        for waiter in waiters:
            if error is None:
                waiter.set_result(task.result())
            else:
                waiter.set_exception(error)

    def _gone(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def __len__(self) -> int:
        """Calls that do work now."""
        return len(self._flights)

    def __repr__(self) -> str:
        return f"<Coalescer flights={len(self)} led={self.led} followed={self.followed}>"


def coalesced(
    key: Callable[P, Hashable], *, timeout: float = TIMEOUT
) -> Callable[[Callable[P, Awaitable[V]]], Callable[P, Awaitable[V]]]:
    """Make an async function share its calls by `key`, which gets the same arguments.

    Where the event loop changes, as between tests, its calls are those of the loop that runs.
    """

    def decorate(function: Callable[P, Awaitable[V]]) -> Callable[P, Awaitable[V]]:
        shared: Coalescer[V] = Coalescer(timeout=timeout)

        @wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> V:
            return await shared.call(key(*args, **kwargs), lambda: function(*args, **kwargs))

        call.calls = shared  # type: ignore[attr-defined]  # a function takes attributes, its type does not know them
        return call

    return decorate
