"""A connection to PostgreSQL in which nothing waits without end, and whose errors name the server but no password."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from nova_data.errors import DatabaseError

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to connect and log in."""
CLOSE_TIMEOUT: Final = 2.0
"""Seconds to take leave."""
COMMAND_TIMEOUT: Final = 30.0
"""Seconds for a statement and its answer."""
LOST: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What asyncpg raises when a server is not there, leaves, refuses, or says nothing."""
GONE: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""The same without what a server refuses: it is gone, goes, or starts."""
KEPT_ALIVE: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""After 25 s the server ends the session of a client whose machine is gone, and with it its locks. Else it takes hours.
https://www.postgresql.org/docs/current/runtime-config-connection.html"""


async def connect(
    url: str, *, name: str, command_timeout: float = COMMAND_TIMEOUT, settings: Mapping[str, str] | None = None
) -> asyncpg.Connection:
    """Open a connection; `name` is what pg_stat_activity shows, `command_timeout` bounds each statement, in
    seconds.

    `settings` are of postgresql.conf, for this session. Raises DatabaseError.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await asyncpg.connect(
                url,
                timeout=CONNECT_TIMEOUT,
                command_timeout=command_timeout,
                server_settings={"application_name": name, **KEPT_ALIVE, **(settings or {})},
            )
    except (*LOST, ValueError) as error:
        raise DatabaseError(f"the database at {place(url)} cannot be reached: {_reason(error)}") from error


@asynccontextmanager
async def connected(url: str, *, name: str, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    """A connection for the block. What goes wrong with the server in it is raised as DatabaseError."""
    connection = await connect(url, name=name, **options)
    try:
        yield connection
        await connection.close(timeout=CLOSE_TIMEOUT)
    except LOST as error:
        raise DatabaseError(f"the database at {place(url)}: {_reason(error)}") from error
    finally:
        connection.terminate()


async def bound_locks(connection: asyncpg.Connection, lock_timeout: float) -> None:
    """Until the end of the transaction, wait for no lock longer than this, in seconds, and hear of no notices."""
    await connection.execute(
        "SELECT set_config('lock_timeout', $1, true), set_config('client_min_messages', 'warning', true)",
        f"{lock_timeout * 1000:.0f}ms",
    )


def place(url: str) -> str:
    """Where a URL leads, without who asks: host:port/name."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        return "an address that is no URL"
    if "@" in parts.path + parts.query + parts.fragment:  # a password with / ? or # in it: what comes before is its own
        return "an address that is no URL"
    if parts.path and not parts.path.startswith("/"):
        return "an address that is no URL"
    return f"{parts.hostname or 'localhost'}:{port}{parts.path}"


def _reason(error: BaseException) -> str:
    """In words; asyncpg's ValueError quotes parts of a URL, so it is not."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncpg.LockNotAvailableError):
        return "a lock was not to be had within the lock timeout; nothing was changed, try again"
    if isinstance(error, ValueError):
        return "expected a URL such as postgresql://user@host:5432/name"
    return str(error).partition("\n")[0] or type(error).__name__
