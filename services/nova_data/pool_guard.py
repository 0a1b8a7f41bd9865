"""A guard in front of any asynchronous pool: refuse at once while it is nearly full, else wait, but not for long.

    guard = PoolGuard("main", size=20, acquire=pool.acquire, release=pool.release)      # asyncpg
    guard = PoolGuard("main", size=20, acquire=pool.getconn, release=pool.putconn)      # psycopg_pool
    guard = PoolGuard("main", size=20, connect=pool.connection)                         # the same, with its transaction
    guard = PoolGuard("search", size=100)                                               # places alone: aiohttp's limit

    async with guard.acquire() as connection: ...      # raises PoolExhaustedError, which the app answers with 503

Rules:

* The driver is not imported: a pool is what can be acquired and released.
* Whatever happens, cancellation included, what was counted in is counted out.
* A wait is bounded by cancelling the pool's own wait. Pools stand that, since requests are cancelled all the time.
* Errors of the pool pass through as they are, and are no exhaustion.
* One guard belongs to one event loop, as its pool does.

docs/pool-guard.md says how it works together with the sidecar.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from inspect import isawaitable
from typing import Any, Final, Generic, TypeVar

from nova_data.errors import Cause, PoolExhaustedError
from nova_data.pool_gate import THRESHOLD, PoolGate, checked
from nova_data.pool_metrics import PoolMetrics

R = TypeVar("R")

WAIT: Final = 2.0
RETRY_AFTER: Final = 1.0
"""Seconds that a caller is asked to stay away; connections come free within a query's duration."""
NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,32}")
"""What pools may be called: the name is a label of metrics, here and in the sidecar."""


class PoolGuard(Generic[R]):
    """See the module.

    `name` tells pools apart in metrics: 1 to 32 letters, digits, hyphens, underscores and dots. `size`, `in_use` and
    `threshold` are those of `PoolGate`; without a threshold it is 0.85 until a sidecar says another one
    (`spec.poolGuard.threshold`), and 1.0 switches early rejection off. `wait` bounds the time for a connection, in
    seconds from 0. Raises ValueError for others.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int | Callable[[], int],
        acquire: Callable[[], Awaitable[R]] | None = None,
        release: Callable[[R], Awaitable[None] | None] | None = None,
        connect: Callable[[], AbstractAsyncContextManager[R]] | None = None,
        in_use: Callable[[], int] | None = None,
        threshold: float | None = None,
        wait: float = WAIT,
        metrics: PoolMetrics | None = None,
    ) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"expected a name of 1 to 32 letters, digits, hyphens, underscores and dots, got {name!r}")
        if (acquire is None) is not (release is None) or (acquire is not None and connect is not None):
            raise ValueError("expected acquire and release, or connect, or none of them")
        if not wait >= 0:
            raise ValueError(f"expected a wait from 0 s, got {wait}")
        self.name = name
        self.gate = PoolGate(size, threshold=THRESHOLD if threshold is None else threshold, in_use=in_use)
        """What is in use, and whether there is room."""
        self.follows = threshold is None
        """Whether its threshold is the sidecar's, where that has one."""
        self.on_turn: Callable[[], None] | None = None
        """Called when the pool becomes full or has room again."""
        self._wait = wait
        self._metrics = metrics
        self._was_full = False
        self._connect: Callable[[], AbstractAsyncContextManager[Any]] = connect or _by_calls(acquire, release)
        if metrics is not None:
            metrics.add(name, lambda: self.gate.utilization)

    @asynccontextmanager
    async def acquire(self, *, within: float | None = None) -> AsyncGenerator[R, None]:
        """A connection for the block; None where the guard has no pool. Raises PoolExhaustedError.

        `within`, in seconds, is what is left of the caller's own deadline, where that is shorter than the guard's wait.
        """
        gate, taken = self.gate, False
        cause = gate.admit()
        if cause is not None:
            raise self._exhausted(cause)
        try:
            self._look()
            async with AsyncExitStack() as stack:
                connection = await self._enter(stack, self._wait if within is None else min(self._wait, within))
                gate.took()
                taken = True
                yield connection
        finally:
            if taken:
                gate.gave_back()
            else:
                gate.gave_up()
            self._look()

    async def _enter(self, stack: AsyncExitStack, wait: float) -> R:
        try:
            async with asyncio.timeout(wait) as bound:
                connection: R = await stack.enter_async_context(self._connect())
                return connection
        except TimeoutError as error:
            if not bound.expired():
                raise  # the pool's own
            self.gate.late()
            raise self._exhausted("timeout") from error

    def follow(self, threshold: float) -> None:
        """Take over the sidecar's threshold, unless the guard has one of its own."""
        if self.follows:
            self.gate.threshold = checked(threshold)
            self._look()

    def close(self) -> None:
        """The pool is no longer there."""
        if self._metrics is not None:
            self._metrics.remove(self.name)

    def _look(self) -> None:
        full = self.gate.full
        if full is not self._was_full:
            self._was_full = full
            if self.on_turn is not None:
                self.on_turn()

    def _exhausted(self, cause: Cause) -> PoolExhaustedError:
        if self._metrics is not None:
            self._metrics.exhausted(self.name, cause)
        return PoolExhaustedError(self.name, cause, RETRY_AFTER)

    def __repr__(self) -> str:
        return f"<PoolGuard {self.name} {self.gate!r}>"


def _by_calls(
    acquire: Callable[[], Awaitable[R]] | None, release: Callable[[R], Awaitable[None] | None] | None
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Two calls as one context; without them, one that holds nothing."""
    if acquire is None or release is None:
        return nullcontext

    @asynccontextmanager
    async def connect() -> AsyncGenerator[R, None]:
        connection = await acquire()
        try:
            yield connection
        finally:
            given = release(connection)
            if isawaitable(given):
                await given

    return connect
