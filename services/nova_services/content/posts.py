"""Posts and feeds in PostgreSQL. Each method that writes is one transaction, its event included.

Deleting is `DELETE`: the trigger of soft delete makes an UPDATE of it, and `nova.actor` says who did it. Reads go
through `active_posts` and `active_follows`, which have what is not deleted, and to a replica where there is one:
whoever has written reads what it wrote (`nova_data.split`).

A feed is put together when it is read: of each followed author as many posts as the page has, by the index on author
and time, and of these the newest. So it costs as much as somebody follows authors, however much those have written.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from nova_data.outbox.writer import outbox
from nova_data.pool.database import Connection
from nova_data.split.database import SplitDatabase
from nova_services.bodies import Place
from nova_services.content.accounts import require_open
from nova_services.content.forms import FOLLOWERS, KEPT, PUBLIC, SHOWN, Post, Visibility, post_created, post_deleted

_COLUMNS: Final = "post.id, post.user_id, post.text, post.visibility, post.created_at"
_INSERT: Final = """
INSERT INTO posts AS post (id, user_id, text, visibility) VALUES ($1, $2, $3, $4) RETURNING created_at
"""
_MINE: Final = "SELECT true FROM active_posts WHERE id = $1 AND user_id = $2 FOR UPDATE"
_SOME: Final = f"SELECT {_COLUMNS} FROM active_posts post WHERE id = ANY ($1::uuid[])"  # noqa: S608 - names of ours
_OF_A_USER: Final = f"""
SELECT {_COLUMNS} FROM active_posts post
WHERE user_id = $1 AND visibility = ANY ($2::text[]) AND (created_at, id) < ($3, $4)
ORDER BY created_at DESC, id DESC LIMIT $5
"""  # noqa: S608 - names of ours
_FEED: Final = f"""
SELECT {_COLUMNS} FROM active_follows follow CROSS JOIN LATERAL (
    SELECT * FROM active_posts WHERE user_id = follow.followee_id AND (created_at, id) < ($2, $3)
    ORDER BY created_at DESC, id DESC LIMIT $4
) post
WHERE follow.follower_id = $1 ORDER BY post.created_at DESC, post.id DESC LIMIT $4
"""  # noqa: S608 - names of ours
_FOLLOWS: Final = "SELECT EXISTS (SELECT FROM active_follows WHERE follower_id = $1 AND followee_id = $2)"
_FOLLOWED: Final = "SELECT followee_id FROM active_follows WHERE follower_id = $1 AND followee_id = ANY ($2::uuid[])"


NEWEST: Final = Place(datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
"""Where the first page of what is ordered from new to old begins."""


class Posts:
    """See the module. Raises what `SplitDatabase` does."""

    def __init__(self, database: SplitDatabase) -> None:
        self._database = database

    # --- writing

    async def create(self, author: UUID, text: str, visibility: Visibility) -> Post:
        """A post and its event post-created. Raises ForbiddenError where the account is closed."""
        post = uuid4()
        async with self._database.write() as connection:
            await require_open(connection, author)
            created = await connection.fetchval(_INSERT, post, author, text, KEPT[visibility])
            made = Post(post, author, text, visibility, created)
            async with outbox(connection) as events:
                await events.append("post", post, "post-created", post_created(made))
        return made

    async def delete(self, post: UUID, author: UUID) -> bool:
        """Delete a post of the author's, and tell it (post-deleted); False where there is none."""
        async with self._database.write() as connection:
            if not await connection.fetchval(_MINE, post, author):
                return False
            await deleting_by(connection, author)
            await connection.execute("DELETE FROM posts WHERE id = $1", post)
            async with outbox(connection) as events:
                await events.append("post", post, "post-deleted", post_deleted(post, author))
        return True

    # --- reading

    async def find(self, posts: Sequence[UUID]) -> dict[UUID, Post]:
        """Those that are there, whoever may see them. What a replica does not have is looked for on the primary: who
        asks may have heard of it by an event, which was quicker."""
        found = await self._database.run(lambda connection: connection.fetch(_SOME, posts))
        missing = list(set(posts) - {row["id"] for row in found})
        if missing and self._database.choice.replicas:
            async with self._database.primary.acquire() as connection:
                found += await connection.fetch(_SOME, missing)
        return {row["id"]: _post(row) for row in found}

    async def followed(self, viewer: UUID, authors: Collection[UUID]) -> set[UUID]:
        """Those of the authors whom the viewer follows."""
        rows = await self._database.run(lambda connection: connection.fetch(_FOLLOWED, viewer, list(authors)))
        return {row["followee_id"] for row in rows}

    async def of_a_user(self, author: UUID, viewer: UUID, after: Place, size: int) -> list[Post]:
        """Posts of an author that the viewer may see, newest first, after a position."""

        async def read(connection: Connection) -> list[Post]:
            close = viewer == author or await connection.fetchval(_FOLLOWS, viewer, author)
            seen = [PUBLIC, FOLLOWERS] if close else [PUBLIC]
            return list(map(_post, await connection.fetch(_OF_A_USER, author, seen, *after, size)))

        return await self._database.run(read)

    async def feed(self, user: UUID, after: Place, size: int) -> list[Post]:
        """Posts of whom the user follows, newest first, after a position."""
        rows = await self._database.run(lambda connection: connection.fetch(_FEED, user, *after, size))
        return list(map(_post, rows))


async def deleting_by(connection: Connection, actor: UUID) -> None:
    """Who deletes in this transaction, for soft delete's `deleted_by`."""
    await connection.execute("SELECT set_config('nova.actor', $1, true)", str(actor))


def _post(row: Any) -> Post:
    post, author, text, visibility, created = row
    return Post(post, author, text, SHOWN[visibility], created)
