"""Removal for good of what somebody who is erased has left here.

    user-erased  →  the account is closed, and its erasing is due          one transaction, by the consumer
    what is due  →  deleted, some rows at a time, each with its event      many transactions, by the worker
                 →  removed from the tables, with a record                 `nova_data.schema.soft_delete.erasure`

It takes as long as somebody wrote much, so it is no part of the consumer's transaction, which others wait behind. Who
dies in between leaves it due, and the next one goes on where it ended: each step finds only what is still there.

Others hear of it as of every deletion, in the order of each post: who keeps posts elsewhere drops them by post-deleted,
whether or not it knows of erasures. The record in `nova_erasures` has the event's id and counts, not who it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from nova_data.consumer.message import Message
from nova_data.database import GONE, connected
from nova_data.errors import DataError
from nova_data.outbox.writer import Events, outbox
from nova_data.pool.database import Connection
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete.erasure import Erasure, Place
from nova_services.consuming import Afterwards, subject
from nova_services.content import accounts
from nova_services.content.forms import comment_deleted, followed, post_deleted
from nova_services.content.metrics import ContentMetrics
from nova_services.content.posts import deleting_by
from nova_services.logs import get_logger
from nova_services.removal import reference

BATCH: Final = 200
"""Rows of one transaction."""
PAUSE: Final = 10.0
"""Seconds between looks for what another process has left due, and after a failure."""
TABLES: Final = ("posts", "comments", "follows")
PLACES: Final = (
    Place("follows", "follower_id"),
    Place("follows", "followee_id"),
    Place("comments", "user_id"),
    Place("posts", "user_id"),
)
"""Columns that say whose a row is."""
_COMMENTS: Final = """
SELECT id, post_id, user_id FROM active_comments
WHERE user_id = $1 OR post_id IN (SELECT id FROM posts WHERE user_id = $1) LIMIT $2 FOR UPDATE
"""
_POSTS: Final = "SELECT id FROM active_posts WHERE user_id = $1 LIMIT $2 FOR UPDATE"
_FOLLOWS: Final = """
SELECT follower_id, followee_id FROM active_follows WHERE follower_id = $1 OR followee_id = $1 LIMIT $2 FOR UPDATE
"""
Step = Callable[[Connection, Events, UUID], Awaitable[int]]
"""Deletes some rows of a user, tells it, and returns how many there were."""


class Erasing:
    """The consumer's effect for user-erased, and the worker. `url` is of the primary."""

    def __init__(self, url: str, metrics: ContentMetrics) -> None:
        self._url = url
        self._metrics = metrics
        self._awake = asyncio.Event()

    async def due(self, connection: Connection, message: Message) -> Afterwards:
        """In the consumer's transaction: from its commit on the user writes nothing, and the erasing is due."""
        await accounts.close(connection, subject(message), reference(message, "user-erased/"))
        return self._wake

    async def run(self) -> None:
        """The worker, until it is cancelled; what goes wrong is told and tried again."""
        while True:
            self._awake.clear()
            try:
                await self._all()
            except (DataError, *GONE) as error:
                get_logger().warning("erasing goes on later", error=type(error).__name__)
            try:
                async with asyncio.timeout(PAUSE):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _wake(self) -> None:
        self._awake.set()

    async def _all(self) -> None:
        async with connected(self._url, name="content-erasing") as connection:
            due = await accounts.closed(connection)
            left = len(due)
            self._metrics.erasing(left)
            for user, named in due:
                try:
                    await self._one(connection, user, named)
                except (DataError, asyncpg.PostgresError, TimeoutError) as error:  # the others do not wait for it
                    get_logger().warning("erasing goes on later", reference=named, error=type(error).__name__)
                else:
                    left -= 1
            self._metrics.erasing(left)

    async def _one(self, connection: Connection, user: UUID, named: str) -> None:
        async with accounts.alone(connection, user) as mine:
            if mine:
                await _erase(connection, user, named)
                self._metrics.erased()
                get_logger().info("content erased", reference=named)


async def _erase(connection: Connection, user: UUID, reference: str) -> None:
    for step in (_delete_comments, _delete_posts, _delete_follows):
        while await _some(connection, step, user):
            pass
    await Erasure(connection, Patience()).run(user, PLACES, TABLES, reference)
    await accounts.erased(connection, user)


async def _some(connection: Connection, step: Step, user: UUID) -> bool:
    """Whether there may be more."""
    async with connection.transaction():
        await deleting_by(connection, user)
        async with outbox(connection) as events:
            return await step(connection, events, user) == BATCH


async def _delete_comments(connection: Connection, events: Events, user: UUID) -> int:
    rows = await connection.fetch(_COMMENTS, user, BATCH)
    await _delete(connection, "comments", rows)
    for row in rows:
        await events.append("comment", row["id"], "comment-deleted", comment_deleted(*row))
    return len(rows)


async def _delete_posts(connection: Connection, events: Events, user: UUID) -> int:
    rows = await connection.fetch(_POSTS, user, BATCH)
    await _delete(connection, "posts", rows)
    for row in rows:
        await events.append("post", row["id"], "post-deleted", post_deleted(row["id"], user))
    return len(rows)


async def _delete_follows(connection: Connection, events: Events, user: UUID) -> int:
    rows = await connection.fetch(_FOLLOWS, user, BATCH)
    for row in rows:
        await connection.execute("DELETE FROM follows WHERE follower_id = $1 AND followee_id = $2", *row)
        await events.append("follow", row["follower_id"], "user-unfollowed", followed(*row))
    return len(rows)


async def _delete(connection: Connection, table: str, rows: Sequence[Any]) -> None:
    ids = [row["id"] for row in rows]
    await connection.execute(f"DELETE FROM {table} WHERE id = ANY ($1)", ids)  # noqa: S608 - one of our two tables
