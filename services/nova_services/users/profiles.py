"""Profiles in PostgreSQL. Each method is one transaction, in which the event `profile-changed` is, too.

A profile is made when auth tells of an account, or when its user comes here first, whichever is earlier: nobody is told
to wait for an event. Who has left is not made again, although a token of theirs goes on for some minutes: `departed`
knows them for an hour. A lock on the user keeps making and removing apart, so that neither overlooks the other.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from nova_data.outbox.writer import outbox
from nova_data.pool.database import Database

_FIND: Final = "SELECT user_id, display_name, biography, created_at FROM profiles WHERE user_id = $1"
_MAKE: Final = """
INSERT INTO profiles (user_id, display_name, created_at)
SELECT $1, $2, coalesce($3, now()) WHERE NOT EXISTS (SELECT FROM departed WHERE user_id = $1)
ON CONFLICT (user_id) DO NOTHING RETURNING user_id, display_name, biography, created_at
"""
_CHANGE: Final = """
UPDATE profiles SET display_name = coalesce($2, display_name), biography = coalesce($3, biography)
WHERE user_id = $1 RETURNING user_id, display_name, biography, created_at
"""
_SEEN: Final = """
SELECT user_id, display_name, biography, created_at FROM profiles profile
WHERE user_id = ANY($1) AND NOT EXISTS (
    SELECT FROM active_blocks WHERE blocker_id = profile.user_id AND blocked_id = $2
)
"""


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """What others see of a user."""

    user_id: UUID
    display_name: str
    biography: str
    created_at: datetime


class Profiles:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def own(self, user: UUID) -> Profile | None:
        """Somebody's own, which is made if it is not there; None where they have left."""
        async with self._database.acquire() as connection:
            found = await _found(connection, user)
        if found is not None:
            return found
        async with self._database.transaction() as connection:
            return await made(connection, user) or await _found(connection, user)

    async def seen(self, users: Sequence[UUID], viewer: UUID | None) -> list[Profile]:
        """Those that are there, and have not blocked the viewer."""
        async with self._database.acquire() as connection:
            return [Profile(*row) for row in await connection.fetch(_SEEN, list(users), viewer)]

    async def change(self, user: UUID, *, display_name: str | None, biography: str | None) -> Profile | None:
        """Change what is given; None where they have left."""
        async with self._database.transaction() as connection:
            await made(connection, user)
            row = await connection.fetchrow(_CHANGE, user, display_name, biography)
            if row is None:
                return None
            changed = Profile(*row)
            await _tell(connection, changed)
            return changed


async def made(connection: Any, user: UUID, since: datetime | None = None) -> Profile | None:
    """Make a profile in the caller's transaction, with a name that says nothing; None where it is there already, or the
    user has left."""
    if await _found(connection, user) is not None:
        return None
    await lock(connection, user)
    row = await connection.fetchrow(_MAKE, user, f"user-{user.hex[:8]}", since)
    if row is None:
        return None
    await _tell(connection, profile := Profile(*row))
    return profile


async def lock(connection: Any, user: UUID) -> None:
    """Until the end of the transaction nobody else makes or removes this user."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", str(user))


async def _found(connection: Any, user: UUID) -> Profile | None:
    row = await connection.fetchrow(_FIND, user)
    return None if row is None else Profile(*row)


async def _tell(connection: Any, profile: Profile) -> None:
    async with outbox(connection) as events:
        await events.append("profile", profile.user_id, "profile-changed", msgspec.to_builtins(profile))
