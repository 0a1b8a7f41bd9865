"""The tier behind a process's own memory: a Redis that all processes share, and that nobody depends on.

The client is the app's: a `redis.asyncio.Redis`, one that a Sentinel gave, or a `RedisCluster`. Rules:

* A Redis that fails, or takes longer than `timeout`, is a miss, and is left alone for `PAUSE` seconds: an answer then
  costs a load, and no wait for Redis but the first one's.
* How old an answer is comes from the time it has left in Redis, so the clocks of the processes do not count.
* Keys are hashes: what an app asks for may be a name or an address.
* A value that cannot be decoded (another version wrote it) is a miss.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgspec
from redis.exceptions import RedisClusterException, RedisError  # the two are not each other's

from nova_data.cache.freshness import Entry, Freshness

PAUSE: Final = 2.0
TIMEOUT: Final = 0.05
_FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError, asyncio.IncompleteReadError)
_ABSENT: Final = b""


class RedisTier:
    """See the module. `name` separates caches in one Redis; `kind` is the type that values are decoded to, by msgspec.

    `timeout` in seconds, above 0.
    """

    def __init__(self, client: Any, name: str, kind: Any, *, timeout: float = TIMEOUT) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout: expected seconds above 0, got {timeout}")
        self._client = client
        self._prefix = f"nova:cache:{name}:"
        self._timeout = timeout
        self._encode = msgspec.json.Encoder().encode
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self._silent_until = 0.0
        self.failures = 0
        """Calls that Redis did not answer in time."""

    def key(self, key: Any) -> str:
        """What a key is called in Redis."""
        return self._prefix + blake2b(repr(key).encode(), digest_size=16).hexdigest()

    async def get(self, key: Any, freshness: Freshness, now: float) -> Entry | None:
        """The answer that is there; `now` in seconds on the caller's clock."""
        found = await self._call(self._get(self.key(key)), now)
        if found is None or found[0] is None or found[1] <= 0:
            return None
        data, left = found[0], found[1] / 1000
        try:
            value = None if data == _ABSENT else self._decode(data)
        except (msgspec.DecodeError, ValueError):
            return None
        return Entry(value, now - max(0.0, freshness.lifetime(absent=value is None) - left))

    async def put(self, key: Any, value: Any, freshness: Freshness, now: float) -> bool:
        """Keep an answer, as long as it may be served; whether Redis has it. Never raises for Redis."""
        lifetime = round(freshness.lifetime(absent=value is None) * 1000)
        if lifetime <= 0:
            return await self.drop(key, now)
        data = _ABSENT if value is None else self._encode(value)
        return await self._call(self._client.set(self.key(key), data, px=lifetime), now) is not None

    async def drop(self, key: Any, now: float) -> bool:
        """Whether the answer is gone there, too: else it goes with its time, in `Freshness.lifetime` seconds."""
        return await self._call(self._client.delete(self.key(key)), now, insist=True) is not None

    async def _get(self, name: str) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(name)
        pipeline.pttl(name)
        return await pipeline.execute()

    async def _call(self, call: Any, now: float, *, insist: bool = False) -> Any:
        """What Redis says, or None. `insist` asks it even while it is left alone."""
        if now < self._silent_until and not insist:
            call.close()
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except _FAILURES:
            self.failures += 1
            self._silent_until = now + PAUSE
            return None

    def __repr__(self) -> str:
        return f"<RedisTier {self._prefix} failures={self.failures}>"
