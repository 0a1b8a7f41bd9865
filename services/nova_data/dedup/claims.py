"""How keys are asked for in a transaction of PostgreSQL, in as few round trips as a connection allows.

A transaction that had an error and goes on as if there was none is rolled back by COMMIT, and nobody is told: the
effect that is undone then would count as done. So a commit is sent behind a statement that fails in such a
transaction (`STANDS`), and who wrote the effect hears of it.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from nova_data.pool.connection import STANDS

_FIRST: Final = "SELECT nova_dedup_first({}::uuid, {}::bigint)"
_FIRST_ROW: Final = "SELECT 1 WHERE nova_dedup_first('{}'::uuid, {}::bigint)"
_FIRST_OF: Final = """
SELECT place, nova_dedup_first(digest, key_lock) FROM (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[]) AS asked(place, digest, key_lock)
    ORDER BY key_lock, place OFFSET 0
) AS in_order
"""
"""In the order of their locks, whoever asks, so that no two who ask for many keys wait for each other in a circle."""
_SEEN: Final = "SELECT EXISTS (SELECT FROM dedup_keys WHERE digest = $1)"


async def seen(connection: Any, known: bytes) -> bool:
    """Whether a key's effect is committed; asyncpg's connection alone."""
    return bool(await connection.fetchval(_SEEN, uuid.UUID(bytes=known)))


async def first(connection: Any, known: bytes) -> bool:
    """Take a key, unless somebody has it; whether it was taken. In a transaction of asyncpg or psycopg 3."""
    identity, lock = uuid.UUID(bytes=known), _lock(known)
    if hasattr(connection, "pgconn"):  # psycopg's
        cursor = await connection.execute(_FIRST.format("%s", "%s"), (identity, lock))
        (answer,) = await cursor.fetchone()
    else:
        answer = await connection.fetchval(_FIRST.format("$1", "$2"), identity, lock)
    return answer is True


async def first_of(connection: Any, known: Sequence[bytes]) -> list[bool]:
    """The same for many in one round trip: of one that is there twice the earlier one is taken."""
    rows = await connection.fetch(
        _FIRST_OF, list(range(len(known))), [uuid.UUID(bytes=one) for one in known], [_lock(one) for one in known]
    )
    return [done for _place, done in sorted(tuple(row) for row in rows)]


@asynccontextmanager
async def claimed(connection: Any, known: bytes) -> AsyncIterator[bool]:
    """A transaction that begins with asking for a key; gives whether it was taken.

    With a connection of `nova_data.pool.connection` that takes no round trip of its own. Raises
    asyncpg.InFailedSQLTransactionError at the end of a block that went on after an error of the database.
    """
    joins = hasattr(connection, "join_begin")
    if joins:
        connection.join_begin(_FIRST_ROW.format(uuid.UUID(bytes=known), _lock(known)))
    async with standing(connection):
        if joins and connection.tag is not None:
            yield connection.tag == "SELECT 1"
        else:
            yield await first(connection, known)


@asynccontextmanager
async def standing(connection: Any) -> AsyncIterator[None]:
    """A transaction that is committed or raises, after which nothing more is done with the connection."""
    joins = hasattr(connection, "join_reset")
    if joins:
        connection.join_reset()
    async with connection.transaction():
        yield
        if not joins:
            await connection.execute(STANDS)


def _lock(known: bytes) -> int:
    """Half of the digest: two keys that share it wait for each other, and that is all."""
    return int.from_bytes(known[:8], "big", signed=True)
