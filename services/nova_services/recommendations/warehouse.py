"""Tables, inserts and queries of the analytics, whichever store has them.

* **Rows are inserted in batches**: what comes within 50 ms is one insert. ClickHouse writes a file for each insert, so
  row by row it would do little else.
* **A row may come again.** The tables keep the highest version of each key (ReplacingMergeTree), and queries see that
  one alone (FINAL), so no other deduplication is needed.
* **Identical queries in flight are one.** Whatever is computed for somebody asks who is popular; while one such query
  runs, who asks the same gets its answer. Nothing is kept beyond that.
* **A store has an id of its own**, and the consumer group is named after it. So one that is new, or was emptied, is
  filled from the beginning of the topics.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from nova_data.calls.batching import Batcher
from nova_data.calls.coalescing import Coalescer
from nova_services.recommendations.events import TABLES, Row
from nova_services.recommendations.port import TIMEOUT, Store, lines, literal, rows
from nova_services.recommendations.ranking import OLDEST, Author, Candidate

WINDOW: Final = 0.05
"""Seconds for which a row waits for others."""
BATCH: Final = 1000
_POPULAR: Final = 200
_NEAR: Final = 200
_RECENT: Final = 2000
_PER_AUTHOR: Final = 10
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS posts (post_id UUID, author_id UUID, created_at UInt32, version UInt64, gone UInt8)"
    " ENGINE = ReplacingMergeTree(version) ORDER BY post_id",
    "CREATE TABLE IF NOT EXISTS follows (follower_id UUID, followee_id UUID, version UInt64, gone UInt8)"
    " ENGINE = ReplacingMergeTree(version) ORDER BY (follower_id, followee_id)",
    "CREATE TABLE IF NOT EXISTS identity (id UUID) ENGINE = MergeTree ORDER BY id",
)
_IDENTITY: Final = "SELECT id FROM identity ORDER BY id LIMIT 1 FORMAT JSONEachRow"
_POPULAR_AUTHORS: Final = f"""
SELECT followee_id AS author, toUInt32(count()) AS followers FROM follows FINAL WHERE gone = 0
GROUP BY followee_id ORDER BY followers DESC, author LIMIT {_POPULAR} FORMAT JSONEachRow
"""  # noqa: S608 - a number of ours
_FOLLOWED: Final = "SELECT followee_id FROM follows FINAL WHERE gone = 0 AND follower_id = {user}"
_NEAR_AUTHORS: Final = f"""
SELECT followee_id AS author, toUInt32(count()) AS common FROM follows FINAL
WHERE gone = 0 AND follower_id IN ({_FOLLOWED})
GROUP BY followee_id ORDER BY common DESC, author LIMIT {_NEAR} FORMAT JSONEachRow
"""  # noqa: S608 - parts of ours
_RECENT_POSTS: Final = f"""
SELECT post_id AS post, author_id AS author, created_at AS created FROM posts FINAL
WHERE gone = 0 AND created_at >= {{oldest}} AND author_id IN ({{authors}})
ORDER BY created_at DESC, post_id LIMIT {_PER_AUTHOR} BY author_id LIMIT {_RECENT} FORMAT JSONEachRow
"""  # noqa: S608 - numbers of ours


class Warehouse:
    """See the module. Raises what the store does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._inserts: Batcher[Row, None] = Batcher(self._insert, window=WINDOW, most=BATCH, timeout=2 * TIMEOUT)
        self.queries: Coalescer[list[dict[str, Any]]] = Coalescer(timeout=2 * TIMEOUT)

    async def prepare(self) -> UUID:
        """Make the tables where they are not there; the store's id."""
        for statement in _TABLES:
            await self._store.run(statement)
        known = rows(await self._store.run(_IDENTITY))
        if not known:
            await self._store.run(f"INSERT INTO identity FORMAT JSONEachRow\n{lines([{'id': str(uuid4())}])}")
            known = rows(await self._store.run(_IDENTITY))  # of two who make one the same is taken
        return UUID(known[0]["id"])

    async def insert(self, row: Row) -> None:
        """Returns once the store has it."""
        await self._inserts.load(row)

    async def erase(self, user: UUID) -> None:
        """Remove the rows in which a user stands."""
        who = literal(user)
        await self._store.run(f"ALTER TABLE posts DELETE WHERE author_id = {who}")
        await self._store.run(f"ALTER TABLE follows DELETE WHERE follower_id = {who} OR followee_id = {who}")

    async def tidy(self) -> None:
        """Remove what is gone, once no older version of it is left that would come to light."""
        for table in TABLES.values():
            await self._store.run(f"OPTIMIZE TABLE {table} FINAL")
            await self._store.run(f"ALTER TABLE {table} DELETE WHERE gone = 1")

    # --- what recommendations are made of

    async def authors(self, user: UUID) -> dict[UUID, Author]:
        """Whom one could recommend to a user: followed by those the user follows, or by many; without the user, and
        whom the user follows already."""
        followers = {UUID(one["author"]): int(one["followers"]) for one in await self._query(_POPULAR_AUTHORS)}
        asked = literal(user)
        common = {
            UUID(one["author"]): int(one["common"]) for one in await self._query(_NEAR_AUTHORS.format(user=asked))
        }
        followed = await self._query(_FOLLOWED.format(user=asked) + " FORMAT JSONEachRow")
        without = {user, *(UUID(one["followee_id"]) for one in followed)}
        return {
            author: Author(common.get(author, 0), followers.get(author, 0))
            for author in followers.keys() | common.keys()
            if author not in without
        }

    async def posts(self, authors: Iterable[UUID], now: float) -> list[Candidate]:
        """Their latest posts; `now` in seconds since 1970."""
        named = ", ".join(literal(author) for author in sorted(authors))
        if not named:
            return []
        # by the minute, so that who asks for the same a moment later asks in the same words
        oldest = literal((int(now - OLDEST)) // 60 * 60)
        found = await self._query(_RECENT_POSTS.format(authors=named, oldest=oldest))
        return [Candidate(UUID(one["post"]), UUID(one["author"]), int(one["created"])) for one in found]

    async def _query(self, statement: str) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            return rows(await self._store.run(statement))

        return await self.queries.call(statement, ask)

    async def _insert(self, batch: Sequence[Row]) -> list[None]:
        for kind, table in TABLES.items():
            some = [msgspec.to_builtins(row) for row in batch if isinstance(row, kind)]
            if some:
                await self._store.run(f"INSERT INTO {table} FORMAT JSONEachRow\n{lines(some)}")
        return [None] * len(batch)
