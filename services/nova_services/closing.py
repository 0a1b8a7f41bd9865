"""Who was erased, and the lock that keeps erasing and writing apart.

Who is erased may hold an access token for minutes more, and events of different topics come in any order. So each write
that names a user holds the user's lock together with other writes, and closing holds it alone: what was written before
is there when it is removed, and after that nothing is written.

    CREATE TABLE closed_users (user_id uuid PRIMARY KEY, closed_at timestamptz NOT NULL DEFAULT now());

A user is remembered for a week, which is longer than a token holds and as long as topics keep events; then not even the
id is left. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from nova_data.pool.database import Connection

_LOCKS: Final = 0x436C6F73
"""Of the advisory locks: `Clos`. The second key is a hash of the user's id; two users who share it only wait."""
_SHARED: Final = "SELECT pg_advisory_xact_lock_shared($1, hashtext(id::text)) FROM unnest($2::uuid[]) AS named (id)"
_ALONE: Final = "SELECT pg_advisory_xact_lock($1, hashtext($2::uuid::text))"
_CLOSED: Final = "SELECT user_id FROM closed_users WHERE user_id = ANY ($1)"


async def held(connection: Connection, users: Collection[UUID]) -> set[UUID]:
    """Until the end of the transaction nobody closes these users; those of them who are closed.

    The second statement sees what was committed while the first one waited (READ COMMITTED).
    """
    await connection.execute(_SHARED, _LOCKS, sorted(set(users)))
    return {row["user_id"] for row in await connection.fetch(_CLOSED, users)}


async def close(connection: Connection, user: UUID) -> None:
    """From the commit of the transaction on nothing is written that names the user; forgets who was closed long ago."""
    await connection.execute(_ALONE, _LOCKS, user)
    await connection.execute("INSERT INTO closed_users (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user)
    await connection.execute("DELETE FROM closed_users WHERE closed_at < now() - interval '7 days'")
