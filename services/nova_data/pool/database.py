"""A service's database: asyncpg's pool, guarded, watched and bounded.

    async with Database(url, settings=PoolSettings(size=20), metrics=DatabaseMetrics()) as database:
        async with database.acquire(tenant="acme") as connection: ...       # asyncpg's connection
        async with database.transaction(tenant="acme") as connection: ...   # in a transaction

The order in which a request is looked at, each step with its reason:

1. its tenant's share (`quota`): who has it is refused at once, whatever room there is, and answered 429;
2. the pool guard (`pool_guard`): above the threshold refused at once, else it waits, within a deadline; answered 503;
3. the connection is noted with the place that took it (`leaks`), and told when it does not come back;
4. each statement is timed (`slow`) and bounded, by the server and, where that says nothing, by the client.

Rules:

* Errors of the driver pass through as they are.
* Values never leave: not those of statements, variables or the database's URL.
* Whatever happens in the block, cancellation included, the connection goes back and everything is counted out.
* One database belongs to one event loop.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from nova_data.database import KEPT_ALIVE, LOST
from nova_data.errors import PoolExhaustedError, TenantQuotaError
from nova_data.pool.connection import JoiningConnection
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.observer import Observer, OnLeak, OnSlow
from nova_data.pool.quota import TenantQuota
from nova_data.pool.settings import PoolSettings
from nova_data.pool_guard import RETRY_AFTER, PoolGuard

Connection = Any
"""asyncpg's, which ships no types."""
RELEASE_TIMEOUT: Final = 2.0
"""Seconds for a connection to be made fit for the next one; then it is thrown away."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that the end waits for connections in use; then they are ended."""
GRACE: Final = 1.0
"""Seconds beyond the server's own timeout after which the client gives a statement up."""


class Database:
    """See the module. `name` is that of `PoolGuard`, and what pg_stat_activity shows; `clock` gives seconds.

    `on_leak` and `on_slow` take what would else go to the logger `nova_data.pool`. Raises ValueError for a bad name.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "main",
        settings: PoolSettings | None = None,
        metrics: DatabaseMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_leak: OnLeak | None = None,
        on_slow: OnSlow | None = None,
    ) -> None:
        self.name = name
        self.settings = settings = settings or PoolSettings()
        self.url = url
        """It may hold a password: for connections, not for logs."""
        self._clock = clock
        self._pool: Any = None
        self._watching: asyncio.Task[None] | None = None
        self.guard: PoolGuard[Connection] = PoolGuard(
            name,
            size=settings.size,
            acquire=lambda: self._open().acquire(),
            release=self._release,
            threshold=settings.threshold,
            wait=settings.wait,
            metrics=metrics,
        )
        """What a `PoolReporter` tells the sidecar of."""
        self.quota = TenantQuota(settings.tenant_share)
        self.observer = Observer(
            name,
            settings.leak_after,
            settings.slow_after,
            clock=clock,
            metrics=metrics,
            on_leak=on_leak,
            on_slow=on_slow,
        )

    # --- its life

    async def __aenter__(self) -> Self:
        settings = self.settings
        self._pool = await asyncpg.create_pool(
            self.url,
            min_size=settings.warm,
            max_size=settings.size,
            max_inactive_connection_lifetime=settings.idle,
            timeout=settings.connect_timeout,
            command_timeout=settings.statement_timeout + GRACE,
            server_settings=session(self.name, settings),
            init=self._observe,
            connection_class=JoiningConnection,
        )
        self._watching = asyncio.get_running_loop().create_task(self.observer.watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        self.guard.close()
        if self._pool is not None:
            await _close(self._pool)
            self._pool = None

    async def _observe(self, connection: Connection) -> None:
        connection.add_query_logger(self.observer.ran)

    def _open(self) -> Any:
        if self._pool is None:
            raise RuntimeError(f"the database {self.name} is not open: use it within its block")
        return self._pool

    async def _release(self, connection: Connection) -> None:
        """Give a connection back. One that cannot be made fit is thrown away by the pool, and that is nobody's error:
        what was done with it is done, and what went wrong before is what the caller must hear."""
        if self._pool is not None:
            with suppress(*LOST):
                await self._pool.release(connection, timeout=RELEASE_TIMEOUT)

    # --- connections

    @asynccontextmanager
    async def acquire(
        self, *, tenant: str | None = None, within: float | None = None
    ) -> AsyncGenerator[Connection, None]:
        """A connection for the block. `tenant` is whose share it counts in, None for nobody's; `within`, in seconds, is
        what is left of the caller's own deadline.

        Raises TenantQuotaError, PoolExhaustedError and what asyncpg raises.
        """
        self._enter(tenant)
        taken, away, began = False, False, self._clock()
        try:
            async with self.guard.acquire(within=within) as connection:
                taken = True
                self.observer.waited(began)
                hold = self.observer.took()
                try:
                    yield connection
                finally:
                    self.observer.gave_back(hold)
        except PoolExhaustedError:
            away = not taken
            raise
        finally:
            if not taken:
                self.observer.waited(began)
            self._leave(tenant, away=away)

    @asynccontextmanager
    async def transaction(
        self, *, tenant: str | None = None, within: float | None = None, **options: Any
    ) -> AsyncGenerator[Connection, None]:
        """A connection in a transaction, which ends with the block; options are those of asyncpg's `transaction`."""
        async with self.acquire(tenant=tenant, within=within) as connection, connection.transaction(**options):
            yield connection

    @property
    def places(self) -> int:
        """Connections that are given out before requests are refused."""
        gate = self.guard.gate
        return gate.size if gate.threshold == 1 else min(gate.size, int(gate.size * gate.threshold) + 1)

    def _enter(self, tenant: str | None) -> None:
        if tenant is not None and not self.quota.enter(tenant, places=self.places, now=self._clock()):
            self.observer.refused()
            raise TenantQuotaError(self.name, RETRY_AFTER)

    def _leave(self, tenant: str | None, *, away: bool) -> None:
        if tenant is None:
            return
        if away:
            self.quota.turned_away(tenant, self._clock())
        else:
            self.quota.leave(tenant)

    def __repr__(self) -> str:
        return f"<Database {self.name} {self.guard.gate!r} {self.observer.leaks!r}>"


def session(name: str, settings: PoolSettings) -> dict[str, str]:
    """What the server is told at the start of each connection."""
    return {
        "application_name": name,
        "statement_timeout": str(_milliseconds(settings.statement_timeout)),
        "idle_in_transaction_session_timeout": str(_milliseconds(settings.idle_in_transaction)),
        **KEPT_ALIVE,
    }


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


async def _close(pool: Any) -> None:
    """In order, or at once where somebody keeps a connection."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await pool.close()
    except TimeoutError:
        pool.terminate()
