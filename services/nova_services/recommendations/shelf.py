"""What is ready, in Redis, for half an hour. All replicas of the service share it.

    nova:recommendations:for:<user>       the recommendations
    nova:recommendations:asked            who asked, and when: for them it is computed again
    nova:recommendations:gone             posts that were deleted, and when: they are on no list any more
    nova:recommendations:claim:<user>     somebody computes them

Redis is asked with a deadline, and after it has failed it is left alone for a moment, so that people wait for it no
longer than once.
"""

import time
from asyncio import timeout
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from redis.exceptions import RedisClusterException, RedisError  # the two are not each other's

from nova_data.errors import DownstreamError
from nova_services.recommendations.ranking import Recommended

T = TypeVar("T")
READY: Final = 1800.0
"""Seconds for which recommendations are ready."""
REMEMBERED: Final = 86400.0
"""Seconds for which who asked is computed for."""
GONE: Final = 2 * READY
"""Seconds: longer than any list that was begun before the post was deleted."""
TIMEOUT: Final = 0.1
PAUSE: Final = 2.0
_PREFIX: Final = "nova:recommendations:"
_ASKED: Final = f"{_PREFIX}asked"
_GONE: Final = f"{_PREFIX}gone"
_FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
_decode: Final = msgspec.json.Decoder(list[Recommended]).decode
_encode: Final = msgspec.json.Encoder().encode


class ShelfAwayError(DownstreamError):
    """Redis does not answer."""


class Shelf:
    """See the module. `client` is of redis.asyncio; `clock` gives seconds, `now` those since 1970. Everything raises
    ShelfAwayError."""

    def __init__(
        self,
        client: Any,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._clock = clock
        self._now = now
        self._silent_until = 0.0

    async def take(self, user: UUID) -> list[Recommended] | None:
        """What is ready for a user who asks, None where nothing is; posts that were deleted are left out."""
        found = await self._ask(lambda: self._looked_up(user))
        if found is None:
            return None
        try:
            ready = _decode(found)
        except msgspec.DecodeError:  # another version wrote it
            return None
        if not ready:
            return ready
        gone = await self._ask(lambda: self._client.zmscore(_GONE, [str(one.post_id) for one in ready]))
        return [one for one, when in zip(ready, gone, strict=True) if when is None]

    async def put(self, user: UUID, ready: list[Recommended]) -> None:
        """These are ready from now on."""
        await self._ask(lambda: self._client.set(f"{_PREFIX}for:{user}", _encode(ready), px=int(READY * 1000)))

    async def drop(self, user: UUID) -> None:
        """Nothing is left of a user."""
        await self._ask(lambda: self._client.delete(f"{_PREFIX}for:{user}"))
        await self._ask(lambda: self._client.zrem(_ASKED, str(user)))

    async def gone(self, post: UUID) -> None:
        """A post was deleted."""
        await self._ask(lambda: self._client.zadd(_GONE, {str(post): self._now()}))
        await self._ask(lambda: self._client.zremrangebyscore(_GONE, 0, self._now() - GONE))

    async def who_asked(self) -> list[UUID]:
        """Within a day, the last one first."""
        await self._ask(lambda: self._client.zremrangebyscore(_ASKED, 0, self._now() - REMEMBERED))
        return [UUID(name.decode()) for name in await self._ask(lambda: self._client.zrevrange(_ASKED, 0, -1))]

    async def claim(self, user: UUID, seconds: float) -> bool:
        """Whether nobody else has claimed to compute for a user within these seconds."""
        name = f"{_PREFIX}claim:{user}"
        return await self._ask(lambda: self._client.set(name, 1, nx=True, px=int(seconds * 1000))) is not None

    async def _looked_up(self, user: UUID) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(f"{_PREFIX}for:{user}")
        pipeline.zadd(_ASKED, {str(user): self._now()})
        return (await pipeline.execute())[0]

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._silent_until:
            raise ShelfAwayError("Redis did not answer a moment ago")
        try:
            async with timeout(TIMEOUT):
                return await call()
        except _FAILURES as error:
            self._silent_until = self._clock() + PAUSE
            raise ShelfAwayError(f"Redis does not answer: {type(error).__name__}") from error
