"""What somebody who is erased leaves in media: files are deleted and told of, their rows are removed with a record, and
then their contents. What dies in between leaves contents that the sweep finds."""

from typing import Final
from uuid import UUID

from nova_data.pool.database import Connection
from nova_data.schema.soft_delete.erasure import Place
from nova_services.closing import close
from nova_services.consuming import Afterwards
from nova_services.media.records import delete
from nova_services.media.shelf import Shelf

TABLES: Final = ("media",)
PLACES: Final = (Place("media", "user_id"),)
BATCH: Final = 200
"""Rows of one transaction."""
_ACTIVE: Final = "SELECT id FROM active_media WHERE user_id = $1 LIMIT $2 FOR UPDATE"


class Leaving:
    """`before` of `nova_services.removal`."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def __call__(self, connection: Connection, user: UUID) -> Afterwards:
        """Close the user and delete what is there; returns what removes the contents."""
        async with connection.transaction():
            await close(connection, user)
        while await _delete_some(connection, user):
            pass
        rows = await connection.fetch("SELECT id FROM media WHERE user_id = $1", user)

        async def remove() -> None:
            for row in rows:
                await self._shelf.remove(row["id"])

        return remove


async def _delete_some(connection: Connection, user: UUID) -> bool:
    """Whether there may be more."""
    async with connection.transaction():
        some = [row["id"] for row in await connection.fetch(_ACTIVE, user, BATCH)]
        await delete(connection, some, user)
    return len(some) == BATCH
