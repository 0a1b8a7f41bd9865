"""What search keeps in PostgreSQL.

Events of one post or person come in their order, those of different topics in any, and while the index is made anew an
old one may come after a younger. So each change comes to the same whenever it comes:

* A post that is deleted leaves its id, and one that has its id is not added again.
* Of two profiles of one person the younger one stays, by the time of their change.
* Who was erased is known by a hash, and nothing of theirs is added again. Both sides take the person's lock first, so
  that of a post and an erasure at the same time one sees the other.
"""

from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Meta

from nova_data.pool.database import Database
from nova_services import erasing
from nova_services.errors import InvalidError
from nova_services.search.documents import Change, Erased, GonePost, Person, Post

CANDIDATES: Final = 1000
"""A word may be in millions of posts; the newest of them are ranked, as many as this."""
_SHARED: Final = "SELECT pg_advisory_xact_lock_shared($1)"
_ALONE: Final = "SELECT pg_advisory_xact_lock($1)"
_ADD_POST: Final = """
INSERT INTO posts (id, author_id, text, created_at)
SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM erased WHERE digest = $5)
ON CONFLICT (id) DO NOTHING
"""
_REMOVE_POST: Final = """
INSERT INTO posts (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET author_id = NULL, text = NULL, created_at = NULL
"""
_ADD_PERSON: Final = """
INSERT INTO people (id, display_name, biography, changed_at)
SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM erased WHERE digest = $5)
ON CONFLICT (id) DO UPDATE SET
    display_name = excluded.display_name, biography = excluded.biography, changed_at = excluded.changed_at
WHERE people.changed_at <= excluded.changed_at
"""
_ERASED: Final = "INSERT INTO erased (digest) VALUES ($1) ON CONFLICT DO NOTHING RETURNING digest"
_THEIRS: Final = (erasing.Place("posts", "author_id"), erasing.Place("people", "id"))
# The rank depends on the row and the question alone, so a page goes on where the one before ended.
_FIND_POSTS: Final = """
SELECT * FROM (
    SELECT id, author_id, text, at, ts_rank(words, websearch_to_tsquery('simple', $1)) AS rank FROM (
        SELECT id, author_id, text, created_at AS at, words FROM posts
        WHERE words @@ websearch_to_tsquery('simple', $1) AND text IS NOT NULL
        ORDER BY created_at DESC LIMIT $2
    ) AS newest
) AS ranked
WHERE $3::real IS NULL OR (rank, at, id) < ($3::real, $4::timestamptz, $5::uuid)
ORDER BY rank DESC, at DESC, id DESC LIMIT $6
"""
_FIND_PEOPLE: Final = """
SELECT * FROM (
    SELECT id, display_name, biography, at, ts_rank(words, websearch_to_tsquery('simple', $1)) AS rank FROM (
        SELECT id, display_name, biography, changed_at AS at, words FROM people
        WHERE words @@ websearch_to_tsquery('simple', $1)
        ORDER BY changed_at DESC LIMIT $2
    ) AS newest
) AS ranked
WHERE $3::real IS NULL OR (rank, at, id) < ($3::real, $4::timestamptz, $5::uuid)
ORDER BY rank DESC, at DESC, id DESC LIMIT $6
"""


class Place(NamedTuple):
    """Where a page ended, in the order of what comes first."""

    rank: Annotated[float, Meta(ge=0, le=1)]
    at: Annotated[datetime, Meta(tz=True)]
    identity: UUID


class Index:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, connection: Any, change: Change, *, reference: str) -> None:
        """Make a change in the transaction that the connection is in. `reference` is the event's id, under which it is
        noted what an erasure has removed."""
        match change:
            case Post():
                digest = await _lock(connection, _SHARED, change.author_id)
                post = (change.post_id, change.author_id, change.text, change.created_at)
                await connection.execute(_ADD_POST, *post, digest)
            case GonePost():
                await connection.execute(_REMOVE_POST, change.post_id)
            case Person():
                digest = await _lock(connection, _SHARED, change.user_id)
                person = (change.user_id, change.display_name, change.biography, change.changed_at)
                await connection.execute(_ADD_PERSON, *person, digest)
            case Erased():
                digest = await _lock(connection, _ALONE, change.user_id)
                if await connection.fetchval(_ERASED, digest) is not None:
                    await erasing.erase(connection, change.user_id, _THEIRS, reference)

    async def posts(self, text: str, count: int, after: Place | None) -> list[Any]:
        """Rows id, author_id, text, at and rank of posts with these words, the best first, `count` at most."""
        return await self._find(_FIND_POSTS, text, count, after)

    async def people(self, text: str, count: int, after: Place | None) -> list[Any]:
        """Rows id, display_name, biography, at and rank of people; a name weighs more than a biography."""
        return await self._find(_FIND_PEOPLE, text, count, after)

    async def _find(self, query: str, text: str, count: int, after: Place | None) -> list[Any]:
        async with self._database.acquire() as connection:
            try:
                found: list[Any] = await connection.fetch(query, text, CANDIDATES, *after or (None,) * 3, count)
            except asyncpg.DataError:  # a time that PostgreSQL has not, and nobody gave out
                raise InvalidError("pageToken", "what the page before gave") from None
        return found

    async def generation(self) -> int:
        """How often the index was begun, from 1."""
        async with self._database.acquire() as connection:
            number: int = await connection.fetchval("SELECT number FROM generation")
        return number

    async def begin_anew(self) -> int:
        """Empty the index, and return its generation. Who was erased stays erased: the event may be gone by now."""
        async with self._database.transaction() as connection:
            await connection.execute("TRUNCATE posts, people")
            number: int = await connection.fetchval("UPDATE generation SET number = number + 1 RETURNING number")
        return number


async def _lock(connection: Any, statement: str, user: UUID) -> bytes:
    """Take the lock of somebody until the transaction ends; returns their hash."""
    digest = sha256(user.bytes).digest()
    await connection.execute(statement, int.from_bytes(digest[:8], "big", signed=True))
    return digest
