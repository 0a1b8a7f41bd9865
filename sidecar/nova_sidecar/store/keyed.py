"""What requests with a key have left, where it is kept: in a store that sidecars share, or in this one alone.

Both know a lease, which is held, renewed, and given up or turned into what is kept; each step is one for all who take
it at once. Values are those of `policy.idempotency`.
"""

from collections.abc import Callable
from typing import Final, Protocol

from nova_sidecar.policy.idempotency import LEASE, LONGEST_VALUE, LocalRecords
from nova_sidecar.store.port import Store, StoreError

_MILLISECONDS: Final = 1000

_HELD: Final = f"""
local held = 'oversized'
if redis.call('STRLEN', KEYS[1]) <= {LONGEST_VALUE} then
  held = redis.call('GET', KEYS[1])
end
"""
"""What stands there. A value longer than any of Nova's stays in the store: the word in its place is none either."""
_HOLD: Final = f"""{_HELD}if held and held ~= ARGV[1] then
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
"""
_RENEW: Final = f"""{_HELD}if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_FINISH: Final = f"""{_HELD}if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_FREE: Final = f"""{_HELD}if held == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""
"""A lease that is no longer there (it ran out, or the server has lost it) is nobody's, and so still its owner's."""


class Keeper(Protocol):
    """Where it is kept. All but `LocalKeeper`'s raise StoreError."""

    async def hold(self, name: str, lease: bytes) -> bytes:
        """Take a lease: b"" where it is ours now, else what stands there."""
        ...

    async def renew(self, name: str, lease: bytes) -> bool:
        """Keep it for another `LEASE` seconds; False where somebody else has it."""
        ...

    async def finish(self, name: str, lease: bytes, value: bytes, seconds: float) -> bool:
        """Put what is kept in its place, for so long; False where somebody else has it."""
        ...

    async def free(self, name: str, lease: bytes) -> None:
        """Give it up."""
        ...


class StoredKeeper:
    """In a store."""

    __slots__ = ("_prefix", "_store")

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def hold(self, name: str, lease: bytes) -> bytes:
        """See `Keeper`."""
        found = await self._store.run(_HOLD, (self._prefix + name,), (lease, round(LEASE * _MILLISECONDS)))
        if not isinstance(found, bytes):
            raise StoreError("expected a value")
        return found

    async def renew(self, name: str, lease: bytes) -> bool:
        """See `Keeper`."""
        return bool(await self._store.run(_RENEW, (self._prefix + name,), (lease, round(LEASE * _MILLISECONDS))))

    async def finish(self, name: str, lease: bytes, value: bytes, seconds: float) -> bool:
        """See `Keeper`."""
        arguments = (lease, value, round(seconds * _MILLISECONDS))
        return bool(await self._store.run(_FINISH, (self._prefix + name,), arguments))

    async def free(self, name: str, lease: bytes) -> None:
        """See `Keeper`."""
        await self._store.run(_FREE, (self._prefix + name,), (lease,))


class LocalKeeper:
    """In this sidecar alone."""

    __slots__ = ("_clock", "records")

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.records = LocalRecords(most)
        self._clock = clock

    async def hold(self, name: str, lease: bytes) -> bytes:
        """See `Keeper`."""
        held = self.records.get(name, self._clock())
        if held is not None and held != lease:
            return held
        self.records.put(name, lease, LEASE, self._clock())
        return b""

    async def renew(self, name: str, lease: bytes) -> bool:
        """See `Keeper`."""
        return await self.hold(name, lease) == b""

    async def finish(self, name: str, lease: bytes, value: bytes, seconds: float) -> bool:
        """See `Keeper`."""
        held = self.records.get(name, self._clock())
        if held is not None and held != lease:
            return False
        self.records.put(name, value, seconds, self._clock())
        return True

    async def free(self, name: str, lease: bytes) -> None:
        """See `Keeper`."""
        if self.records.get(name, self._clock()) == lease:
            self.records.drop(name)
