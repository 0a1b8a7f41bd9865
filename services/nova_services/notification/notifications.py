"""What notification keeps in PostgreSQL.

Who is erased is told of nothing any more, and nobody is told of them, in whatever order events arrive: topics have no
order between them, so those who were erased are remembered (`nova_services.closing`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from nova_data.pool.database import Connection, Database
from nova_services.closing import held
from nova_services.errors import NotFoundError
from nova_services.notification.notices import Kind, Notice

_ADD: Final = """
INSERT INTO notifications (id, user_id, kind, actor_id, subject_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true
"""
_LIST: Final = """
SELECT id, position, kind, actor_id, subject_id, created_at, read_at IS NOT NULL AS read FROM notifications
WHERE user_id = $1 AND ($2::bigint IS NULL OR position < $2) ORDER BY position DESC LIMIT $3
"""
_READ: Final = """
UPDATE notifications SET read_at = now() WHERE user_id = $1 AND read_at IS NULL
AND ($2::bigint IS NULL OR position <= $2) RETURNING true
"""
_UNREAD: Final = "SELECT count(*) FROM notifications WHERE user_id = $1 AND read_at IS NULL"


class Notification(NamedTuple):
    """A notification as it is stored."""

    identity: UUID
    position: int
    kind: Kind
    actor: UUID | None
    subject: UUID | None
    created_at: datetime
    read: bool


class Notifications:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user: UUID, *, before: int | None, limit: int) -> tuple[Sequence[Notification], int]:
        """Notifications of a user, newest first, only those before a position; and how many of all are unread."""
        async with self._database.transaction(readonly=True, isolation="repeatable_read") as connection:
            rows = await connection.fetch(_LIST, user, before, limit)
            unread = await connection.fetchval(_UNREAD, user)
        return [Notification(*row) for row in rows], unread

    async def read(self, user: UUID, identity: UUID | None) -> tuple[int, int]:
        """One and all older ones are read, or all there are; how many were not yet, and how many still are not. Raises
        NotFoundError."""
        position = None
        async with self._database.transaction() as connection:
            if identity is not None:
                query = "SELECT position FROM notifications WHERE id = $1 AND user_id = $2"
                position = await connection.fetchval(query, identity, user)
                if position is None:
                    raise NotFoundError("there is no such notification of yours")
            read = len(await connection.fetch(_READ, user, position))
            return read, await connection.fetchval(_UNREAD, user)


async def add(connection: Connection, event: str, at: datetime, notices: Sequence[Notice]) -> list[Notice]:
    """Add what an event tells, in a transaction of the caller's; those that are new."""
    named = {one for notice in notices for one in (notice.user, notice.actor) if one is not None}
    closed = await held(connection, named)
    open_ones = [one for one in notices if not closed & {one.user, one.actor}]
    return [one for one in open_ones if await connection.fetchval(_ADD, one.identity(event), *one, at)]
