"""Who has blocked whom. Each method is one transaction.

A block that is lifted stays as a deleted row (docs/soft-delete.md), so the audit knows that there was one, until one of
the two leaves.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from nova_data.pool.database import Database
from nova_services.bodies import Page, Place
from nova_services.errors import NotFoundError
from nova_services.users.profiles import made

_PUT: Final = """
INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)
ON CONFLICT (blocker_id, blocked_id) WHERE deleted_at IS NULL DO NOTHING RETURNING id
"""
_HELD: Final = "SELECT id FROM active_blocks WHERE blocker_id = $1 AND blocked_id = $2"
_PAGE: Final = """
SELECT blocked_id, created_at, id FROM active_blocks
WHERE blocker_id = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
ORDER BY created_at DESC, id DESC LIMIT $4
"""
_BETWEEN: Final = """
SELECT EXISTS (SELECT FROM active_blocks WHERE blocker_id = $1 AND blocked_id = $2)
    OR EXISTS (SELECT FROM active_blocks WHERE blocker_id = $2 AND blocked_id = $1)
"""
_AMONG: Final = """
SELECT blocked_id FROM active_blocks WHERE blocker_id = $1 AND blocked_id = ANY ($2::uuid[]) UNION
SELECT blocker_id FROM active_blocks WHERE blocked_id = $1 AND blocker_id = ANY ($2::uuid[])
"""


class Block(msgspec.Struct, frozen=True, rename="camel"):
    """Somebody who is blocked."""

    user_id: UUID
    created_at: datetime


class BlockList(msgspec.Struct, frozen=True, rename="camel"):
    """A part of whom somebody has blocked, the latest first; `nextPageToken` is empty at the end."""

    blocks: list[Block]
    next_page_token: str


class Blocks:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, blocker: UUID, blocked: UUID) -> bool:
        """Block somebody; whether that is new. Raises NotFoundError where either is not there."""
        try:
            async with self._database.transaction() as connection:
                await made(connection, blocker)
                return await connection.fetchval(_PUT, blocker, blocked) is not None
        except asyncpg.ForeignKeyViolationError:
            raise NotFoundError("there is no such user") from None

    async def lift(self, blocker: UUID, blocked: UUID) -> bool:
        """Take a block back; whether there was one."""
        async with self._database.transaction() as connection:
            held = await connection.fetchval(f"{_HELD} FOR UPDATE", blocker, blocked)
            if held is None:
                return False
            await connection.execute("SELECT set_config('nova.actor', $1, true)", str(blocker))
            await connection.execute("DELETE FROM blocks WHERE id = $1", held)  # becomes a soft deletion
            return True

    async def of(self, blocker: UUID, page: Page) -> BlockList:
        """Whom somebody has blocked."""
        after = page.after(Place) or (None, None)
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_PAGE, blocker, *after, page.size + 1)
        kept, following = page.cut(rows, lambda row: Place(row["created_at"], row["id"]))
        return BlockList([Block(row["blocked_id"], row["created_at"]) for row in kept], following)

    async def between(self, one: UUID, other: UUID) -> bool:
        """Whether either has blocked the other."""
        async with self._database.acquire() as connection:
            return await connection.fetchval(_BETWEEN, one, other) is True

    async def among(self, one: UUID, others: Sequence[UUID]) -> list[UUID]:
        """Those of the others who have blocked the one, or whom the one has blocked."""
        async with self._database.acquire() as connection:
            return [row[0] for row in await connection.fetch(_AMONG, one, list(others))]
