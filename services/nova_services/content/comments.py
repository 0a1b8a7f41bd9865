"""Comments in PostgreSQL. Each method that writes is one transaction, its event included.

Comments go out of sight with their post, since they are only found through it; they are not deleted with it, so that a
post which is restored has them again. The post's row is held while a comment is written: nobody deletes it meanwhile.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from nova_data.outbox.writer import outbox
from nova_data.split.database import SplitDatabase
from nova_services.bodies import Place
from nova_services.content.accounts import require_open
from nova_services.content.forms import Comment, comment_created, comment_deleted
from nova_services.content.posts import deleting_by

OLDEST: Final = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
"""Where the first page of what is ordered from old to new begins."""
_POST: Final = "SELECT user_id FROM active_posts WHERE id = $1 FOR SHARE"
_INSERT: Final = "INSERT INTO comments (id, post_id, user_id, text) VALUES ($1, $2, $3, $4) RETURNING created_at"
_OURS: Final = """
SELECT comment.post_id, comment.user_id FROM active_comments comment
WHERE comment.id = $1 AND ($2 = comment.user_id
    OR EXISTS (SELECT FROM active_posts post WHERE post.id = comment.post_id AND post.user_id = $2))
FOR UPDATE OF comment
"""
_OF_A_POST: Final = """
SELECT id, post_id, user_id, text, created_at FROM active_comments
WHERE post_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4
"""


class Comments:
    """See the module. Raises what `SplitDatabase` does."""

    def __init__(self, database: SplitDatabase) -> None:
        self._database = database

    async def create(self, post: UUID, author: UUID, text: str) -> Comment | None:
        """A comment and its event comment-created; None where the post is gone. Raises ForbiddenError where the account
        is closed."""
        comment = uuid4()
        async with self._database.write() as connection:
            await require_open(connection, author)
            post_author = await connection.fetchval(_POST, post)
            if post_author is None:
                return None
            made = Comment(comment, post, author, text, await connection.fetchval(_INSERT, comment, post, author, text))
            async with outbox(connection) as events:
                await events.append("comment", comment, "comment-created", comment_created(made, post_author))
        return made

    async def delete(self, comment: UUID, actor: UUID) -> bool:
        """Delete a comment of the actor's, or one under a post of the actor's; False where there is none."""
        async with self._database.write() as connection:
            row = await connection.fetchrow(_OURS, comment, actor)
            if row is None:
                return False
            await deleting_by(connection, actor)
            await connection.execute("DELETE FROM comments WHERE id = $1", comment)
            async with outbox(connection) as events:
                payload = comment_deleted(comment, row["post_id"], row["user_id"])
                await events.append("comment", comment, "comment-deleted", payload)
        return True

    async def of_a_post(self, post: UUID, after: Place, size: int) -> list[Comment]:
        """Comments under a post, oldest first, after a position."""
        rows = await self._database.run(lambda connection: connection.fetch(_OF_A_POST, post, *after, size))
        return [Comment(*row) for row in rows]
