"""Preferences: read with every page that somebody opens, changed now and then, and then several times in a row.

So they are read through a cache and written back (docs/data-cache.md). What somebody has chosen is there for their next
request at this process at once, is saved within `FLUSH_AFTER` seconds, and is seen by other processes when their own
copy is `FRESH` seconds old at the latest. A process that is killed loses choices of its last `FLUSH_AFTER` seconds; one
that is asked to end loses none.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

import msgspec
from msgspec import Meta

from nova_data.cache.freshness import Freshness
from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.read_through import ReadThrough
from nova_data.cache.tier import TIMEOUT, RedisTier
from nova_data.cache.write_back import WriteBack
from nova_data.pool.database import Database
from nova_services.errors import NotFoundError
from nova_services.logs import get_logger
from nova_services.users.profiles import made

FLUSH_AFTER: Final = 1.0
FRESH: Final = 60.0
_SAVE: Final = """
INSERT INTO preferences (user_id, chosen)
SELECT profile.user_id, given.chosen::jsonb
FROM unnest($1::uuid[], $2::text[]) AS given (user_id, chosen) JOIN profiles profile USING (user_id)
ORDER BY user_id FOR KEY SHARE OF profile
ON CONFLICT (user_id) DO UPDATE SET chosen = excluded.chosen, changed_at = now()
RETURNING user_id
"""
"""In the order of their ids, so that two processes that save the same users do not wait for each other in a circle."""
_MISSING: Final = "SELECT * FROM unnest($1::uuid[]) AS given EXCEPT SELECT user_id FROM profiles ORDER BY 1"


class Preferences(msgspec.Struct, frozen=True, rename="camel"):
    """What somebody has chosen; what they have not is as it stands here."""

    theme: Literal["system", "light", "dark"] = "system"
    language: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$(?!\n)", max_length=35)] = "en"
    """A language tag (RFC 5646)."""
    digest: Literal["never", "daily", "weekly"] = "weekly"
    """How often to be told of what one missed."""
    autoplay: bool = True


class PreferenceStore:
    """See the module; a block, at whose end what was chosen is saved. `flush_after` and `redis_timeout` in seconds.

    Raises what `Database` does, and WriteBackFullError while too much waits to be saved.
    """

    def __init__(
        self,
        database: Database,
        *,
        redis: Any = None,
        redis_timeout: float = TIMEOUT,
        metrics: CacheMetrics | None = None,
        flush_after: float = FLUSH_AFTER,
    ) -> None:
        self._database = database
        tier = None if redis is None else RedisTier(redis, "preferences", Preferences, timeout=redis_timeout)
        self._cache: ReadThrough[UUID, Preferences] = ReadThrough(
            "preferences", self._load, Freshness(ttl=FRESH), redis=tier, metrics=metrics
        )
        self._writing = WriteBack(self._cache, self._save, flush_after=flush_after, on_unsaved=_left, metrics=metrics)

    async def __aenter__(self) -> Self:
        await self._writing.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._writing.__aexit__(kind, error, trace)
        finally:
            await self._cache.close()

    async def of(self, user: UUID) -> Preferences:
        """What somebody prefers."""
        return await self._writing.get(user) or Preferences()

    def choose(self, user: UUID, chosen: Preferences) -> None:
        """From now on that."""
        self._writing.set(user, chosen)

    async def forget(self, user: UUID) -> None:
        """Who has left: nothing of theirs is kept here or in Redis."""
        await self._cache.drop(user)

    # ---

    async def _load(self, user: UUID) -> Preferences:
        async with self._database.acquire() as connection:
            found = await connection.fetchval("SELECT chosen::text FROM preferences WHERE user_id = $1", user)
        return Preferences() if found is None else msgspec.json.decode(found, type=Preferences)

    async def _save(self, chosen: Mapping[UUID, Preferences]) -> Mapping[UUID, Exception]:
        """All of them; those who have left are refused for good."""
        users, texts = list(chosen), [msgspec.json.encode(one).decode() for one in chosen.values()]
        async with self._database.transaction() as connection:
            for row in await connection.fetch(_MISSING, users):  # whose first visit it is, before auth's word came
                await made(connection, row[0])
            saved = {row["user_id"] for row in await connection.fetch(_SAVE, users, texts)}
        return {user: NotFoundError("there is no such user") for user in users if user not in saved}


def _left(values: Mapping[UUID, Preferences]) -> None:
    for _ in values:
        get_logger().warning("preferences not saved")
