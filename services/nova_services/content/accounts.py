"""Whose account is closed, and the locks that keep writes, closing and erasing apart.

Who is erased may hold an access token for minutes more (docs/auth.md), and an event may come in the same moment as a
request. So each write holds its user's lock together with others, and closing holds it alone: what was written before
is there when it is erased, and after that nothing is written any more.

A closed account is remembered until a day after it was erased, which is longer than any token holds, and then not even
its id is left.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from nova_data.pool.database import Connection
from nova_services.errors import ForbiddenError

_WRITERS: Final = 0x436F6E74
"""Of the advisory locks: `Cont`. The second key is a hash of the user's id; two users who share it only wait."""
_ERASERS: Final = 0x436F6E75
_SHARED: Final = "SELECT pg_advisory_xact_lock_shared($1, hashtext(id::text)) FROM unnest($2::uuid[]) AS asked (id)"
_ALONE: Final = "SELECT pg_advisory_xact_lock($1, hashtext($2::uuid::text))"
_CLOSE: Final = "INSERT INTO closed_accounts (user_id, reference) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def require_open(connection: Connection, *users: UUID) -> None:
    """Until the end of the transaction nobody closes these accounts. Raises ForbiddenError where one is closed.

    The second statement sees what was committed while the first one waited (READ COMMITTED).
    """
    await connection.execute(_SHARED, _WRITERS, sorted(users))
    if await connection.fetchval("SELECT EXISTS (SELECT FROM closed_accounts WHERE user_id = ANY ($1))", users):
        raise ForbiddenError("the account is closed")


async def close(connection: Connection, user: UUID, reference: str) -> None:
    """From the commit on the user writes nothing, and is to be erased; `reference` is for the record."""
    await connection.execute(_ALONE, _WRITERS, user)
    await connection.execute(_CLOSE, user, reference)


async def closed(connection: Connection) -> list[tuple[UUID, str]]:
    """Who is to be erased, with the reference; accounts that were erased long ago are forgotten."""
    await connection.execute("DELETE FROM closed_accounts WHERE erased_at < now() - interval '1 day'")
    rows = await connection.fetch(
        "SELECT user_id, reference FROM closed_accounts WHERE erased_at IS NULL ORDER BY closed_at"
    )
    return [(row["user_id"], row["reference"]) for row in rows]


async def erased(connection: Connection, user: UUID) -> None:
    """Nothing of the user's is left."""
    await connection.execute("UPDATE closed_accounts SET erased_at = now() WHERE user_id = $1", user)


@asynccontextmanager
async def alone(connection: Connection, user: UUID) -> AsyncIterator[bool]:
    """Whether nobody else erases the user, or has done so; the lock goes with the session of who dies."""
    mine = await connection.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2::uuid::text))", _ERASERS, user)
    if not mine:
        yield False
        return
    try:
        yield await connection.fetchval("SELECT erased_at IS NULL FROM closed_accounts WHERE user_id = $1", user)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1, hashtext($2::uuid::text))", _ERASERS, user)
