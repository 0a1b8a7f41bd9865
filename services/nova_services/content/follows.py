"""Who follows whom, in PostgreSQL. Each method is one transaction, its event included, and may be repeated.

A follow that ended keeps its row, as soft delete has it; who follows again brings it back. Events of one follower are
one aggregate, so whoever counts follows sees them in order.
"""

from typing import Final
from uuid import UUID

from nova_data.outbox.writer import outbox
from nova_data.split.database import SplitDatabase
from nova_services.content.accounts import require_open
from nova_services.content.forms import followed
from nova_services.content.posts import deleting_by

_FOLLOW: Final = """
INSERT INTO follows (follower_id, followee_id) VALUES ($1, $2) ON CONFLICT (follower_id, followee_id)
DO UPDATE SET deleted_at = NULL, deleted_by = NULL, created_at = clock_timestamp() WHERE follows.deleted_at IS NOT NULL
RETURNING true
"""
_THERE: Final = "SELECT true FROM active_follows WHERE follower_id = $1 AND followee_id = $2 FOR UPDATE"
_UNFOLLOW: Final = "DELETE FROM follows WHERE follower_id = $1 AND followee_id = $2"


class Follows:
    """See the module. Raises what `SplitDatabase` does."""

    def __init__(self, database: SplitDatabase) -> None:
        self._database = database

    async def add(self, follower: UUID, followee: UUID) -> bool:
        """Whether it is new, which user-followed tells. Raises ForbiddenError where one of the accounts is closed."""
        async with self._database.write() as connection:
            await require_open(connection, follower, followee)
            if not await connection.fetchval(_FOLLOW, follower, followee):
                return False
            async with outbox(connection) as events:
                await events.append("follow", follower, "user-followed", followed(follower, followee))
        return True

    async def remove(self, follower: UUID, followee: UUID) -> bool:
        """Whether there was one, whose end user-unfollowed tells."""
        async with self._database.write() as connection:
            if not await connection.fetchval(_THERE, follower, followee):
                return False
            await deleting_by(connection, follower)
            await connection.execute(_UNFOLLOW, follower, followee)
            async with outbox(connection) as events:
                await events.append("follow", follower, "user-unfollowed", followed(follower, followee))
        return True
