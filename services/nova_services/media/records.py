"""What media keeps in PostgreSQL. Each method is one transaction, its event included.

A deletion is soft (docs/soft-delete.md): DELETE is turned into one, `active_media` has what is not deleted, and the
content stays until the row is removed for good.

A file is its owner's alone unless the owner has chosen otherwise. Who may not see it is answered as where there is
none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from nova_data.outbox.writer import outbox
from nova_data.pool.database import Connection, Database
from nova_services.closing import held
from nova_services.errors import ForbiddenError

Visibility = Literal["VISIBILITY_PRIVATE", "VISIBILITY_PUBLIC"]
KEPT: Final[dict[Visibility, str]] = {"VISIBILITY_PRIVATE": "private", "VISIBILITY_PUBLIC": "public"}
"""As a row has it."""
_SHOWN: Final = {kept: shown for shown, kept in KEPT.items()}
_COLUMNS: Final = "id, user_id, kind, size, sha256, visibility, created_at"
_ADD: Final = f"""
INSERT INTO media (id, user_id, kind, size, sha256, visibility) VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_COLUMNS}
"""  # noqa: S608 - our own words
_FIND: Final = f"""
SELECT {_COLUMNS} FROM active_media WHERE id = $1 AND (user_id = $2 OR visibility = 'public')
"""  # noqa: S608 - our own words
_SHOW: Final = f"""
UPDATE media SET visibility = $3 WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL RETURNING {_COLUMNS}
"""  # noqa: S608 - our own words
_OURS: Final = "SELECT id, visibility FROM active_media WHERE id = $1 AND user_id = $2 FOR UPDATE"


class Record(NamedTuple):
    """What is known of a file."""

    media: UUID
    owner: UUID
    kind: str
    size: int
    sha256: bytes
    visibility: Visibility
    created_at: datetime


class Records:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        media: UUID,
        owner: UUID,
        kind: str,
        size: int,
        sha256: bytes,
        *,
        visibility: Visibility = "VISIBILITY_PRIVATE",
    ) -> Record:
        """A file whose content is there, and its event media-added. Raises ForbiddenError where the owner is erased."""
        async with self._database.transaction() as connection:
            if await held(connection, [owner]):
                raise ForbiddenError("the account is closed")
            row = await connection.fetchrow(_ADD, media, owner, kind, size, sha256, KEPT[visibility])
            record = _record(row)
            async with outbox(connection) as events:
                await events.append("media", media, "media-added", _told(record))
        return record

    async def find(self, media: UUID, viewer: UUID) -> Record | None:
        """A file that is not deleted, and that the viewer may see."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_FIND, media, viewer)
        return None if row is None else _record(row)

    async def show(self, media: UUID, owner: UUID, visibility: Visibility) -> Record | None:
        """Have a file of the owner's seen by everybody, or by nobody else, and tell it (media-changed) where that is
        new; None where there is none."""
        async with self._database.transaction() as connection:
            before = await connection.fetchrow(_OURS, media, owner)
            if before is None:
                return None
            record = _record(await connection.fetchrow(_SHOW, media, owner, KEPT[visibility]))
            if before["visibility"] != KEPT[visibility]:
                async with outbox(connection) as events:
                    await events.append("media", media, "media-changed", _told(record))
        return record

    async def delete(self, media: UUID, owner: UUID) -> bool:
        """Delete a file of the owner's, and tell it (media-deleted); False where there is none."""
        async with self._database.transaction() as connection:
            if await connection.fetchval(_OURS, media, owner) is None:
                return False
            await delete(connection, [media], owner)
        return True

    async def known(self, some: Sequence[UUID]) -> set[UUID]:
        """Those of which there is a row, deleted or not."""
        async with self._database.acquire() as connection:
            return {row["id"] for row in await connection.fetch("SELECT id FROM media WHERE id = ANY ($1)", some)}


async def delete(connection: Connection, some: Sequence[UUID], owner: UUID) -> None:
    """Delete files of the owner's that are locked in the caller's transaction, and tell it."""
    await connection.execute("SELECT set_config('nova.actor', $1, true)", str(owner))
    await connection.execute("DELETE FROM media WHERE id = ANY ($1)", some)
    async with outbox(connection) as events:
        for media in some:
            payload: dict[str, Any] = {"mediaId": str(media), "ownerId": str(owner)}
            await events.append("media", media, "media-deleted", payload)


def _record(row: Sequence[Any]) -> Record:
    media, owner, kind, size, sha256, visibility, created = row
    return Record(media, owner, kind, size, sha256, _SHOWN[visibility], created)


def _told(record: Record) -> dict[str, Any]:
    """The payload of an event: of what nobody else may see it says no more than that it is there."""
    payload: dict[str, Any] = {
        "mediaId": str(record.media),
        "ownerId": str(record.owner),
        "visibility": record.visibility,
    }
    if record.visibility == "VISIBILITY_PUBLIC":
        payload |= {"kind": record.kind, "size": record.size, "createdAt": record.created_at.isoformat()}
    return payload
