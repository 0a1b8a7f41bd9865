"""What changes of the schema ask of a connection: every call has a deadline, and one migrator works at a time.

It has to be a connection to PostgreSQL itself, or to a pooler that keeps a session together: the advisory lock and the
settings belong to the session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final, TypeAlias

import asyncpg

from nova_api.hygiene import clean
from nova_data.database import LOST
from nova_data.errors import DatabaseError
from nova_data.schema.patience import Patience

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ANSWER: Final = 10.0
"""Seconds for what takes PostgreSQL no time: settings, catalogs, the ledger."""
LATE: Final = 5.0
"""Seconds that an answer may come after the server's own bound: then the connection is taken for dead."""
_FIRST_KEY: Final = 0x4E6F7661
"""Of the advisory lock: `Nova`. The second key says what is locked."""

NO_LOCK: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
"""What is raised for a lock that was not had; the same statement may get it the next time."""


def said(error: BaseException) -> str:
    """What an error says, without the values that PostgreSQL puts into its details."""
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return clean(str(text))


async def bound(connection: Connection, *, lock: float, statement: float) -> None:
    """How long statements wait for a lock and run, in seconds; 0 for a lock means without end. In a transaction, until
    its end."""
    await connection.execute(
        "SELECT set_config('lock_timeout', $1, $3), set_config('statement_timeout', $2, $3)",
        f"{int(lock * 1000)}ms",
        f"{max(1, int(statement * 1000))}ms",
        connection.is_in_transaction(),
        timeout=ANSWER,
    )


@asynccontextmanager
async def alone(connection: Connection, what: int, patience: Patience, random: Random) -> AsyncGenerator[None, None]:
    """Hold the advisory lock `what` of this database. Raises DatabaseError when somebody else keeps it.

    It is asked for again and again instead of waited for: who waits in a statement has a snapshot, and CREATE INDEX
    CONCURRENTLY of the one that holds the lock would wait for that to go, for ever.
    """
    started, tries = time.monotonic(), 0
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _FIRST_KEY, what, timeout=ANSWER):
        tries += 1
        pause = patience.pause(tries, time.monotonic() - started, random)
        if pause is None:
            raise DatabaseError(
                f"another one is changing this database for {patience.timeout:g} s already; wait for it to end: "
                f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {_FIRST_KEY}"
            )
        await asyncio.sleep(pause)
    try:
        yield
    finally:
        with suppress(*LOST):
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", _FIRST_KEY, what, timeout=ANSWER)


async def oldest_transaction(connection: Connection) -> str:
    """Who may be in the way, for people; nothing of what they do is told."""
    row = await connection.fetchrow(
        "SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::int AS age FROM pg_stat_activity"
        " WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()"
        " AND backend_type = 'client backend' ORDER BY xact_start LIMIT 1",
        timeout=ANSWER,
    )
    if row is None:
        return "no other transaction is open now"
    return f"the oldest open transaction is that of pid {row['pid']}, {row['age']} s old"
