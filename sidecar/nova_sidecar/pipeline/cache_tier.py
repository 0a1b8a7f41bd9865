"""The cache's second tier: what one sidecar has stored, those of other pods find in Redis.

    nova:{namespace/service:cache}:generation      counts purges by pattern
    nova:{namespace/service:cache}:target:<hash>   counts changes of one target
    nova:{namespace/service:cache}:entry:<hash>    both counts as they were when the app was asked, then the response

The tag in braces keeps all keys of a service in one slot of a Cluster, so that one script reads them together: an entry
counts only if both counts are still what they were. So an invalidation is one increment, whatever there is, and a
response that was under way meanwhile is not stored behind it (RFC 9111 section 4.4). Keys are hashes: of what clients
send nothing can be read in them.

The counts are remembered for each target as they were when Redis was last asked about it: older ones than those of now
do no harm, since nothing is written with them.

Nobody waits for a write; an invalidation is owed until Redis has it (`cache_owed`). What is read is taken for hostile:
see `wire.entries`. An invalidation is also published, and each sidecar forgets what it has in memory; one that was not
connected meanwhile cannot know what it missed, and forgets everything.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from nova_api.proxy import ProxyConfig
from nova_sidecar.pipeline.cache_owed import Change, Owed
from nova_sidecar.policy.caching import PatternError
from nova_sidecar.policy.freshness import Stored
from nova_sidecar.policy.keyspace import key_prefix
from nova_sidecar.store.port import StoreError
from nova_sidecar.store.subscriber import Subscriber
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.wire import entries
from nova_sidecar.wire.grammar import MAX_HEAD, MAX_TARGET
from nova_sidecar.wire.storing import variant

if TYPE_CHECKING:
    from nova_sidecar.pipeline.cache_desk import CacheDesk
    from nova_sidecar.store.guarded import GuardedStore
    from nova_sidecar.wire.request import RequestHead

MOST_WRITES: Final = 64
"""Writes under way at once; further ones are dropped."""
MOST_GENERATIONS: Final = 4096
"""Targets whose counts are remembered; a response to another one is not written."""
LONGEST: Final = 86_400.0
"""Seconds for which an entry is kept at most; the count of a target is kept for twice as long."""

_FIND: Final = """
local found = ''
if redis.call('STRLEN', KEYS[3]) <= tonumber(ARGV[1]) then
  found = redis.call('GET', KEYS[3]) or ''
end
return {redis.call('GET', KEYS[1]) or '0', redis.call('GET', KEYS[2]) or '0', found}
"""
_PUT: Final = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '0') ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return 1
"""
_CHANGE: Final = """
redis.call('INCR', KEYS[1])
if tonumber(ARGV[1]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
"""

Found = Callable[[Stored | None, tuple[bytes, ...]], None]


class Lookup(StrEnum):
    """How a look into Redis ended; the value is what people see in metrics."""

    HIT = "hit"
    MISS = "miss"
    REFUSED = "refused"  # what was there could not be used
    FAILED = "failed"
    WRITTEN = "written"
    DROPPED = "dropped"  # a write too many, or of what has changed meanwhile


class CacheTier:
    """See the module."""

    __slots__ = (
        "_channel", "_desk", "_generations", "_prefix", "_subscriber", "_tasks", "_writes", "counts", "owed", "store",
    )  # fmt: skip

    def __init__(self, store: "GuardedStore", config: ProxyConfig, desk: "CacheDesk") -> None:
        self.store = store
        self._desk = desk
        self._prefix = key_prefix(f"{config.namespace}/{config.service}", "cache", together=True)
        self._channel = f"{self._prefix}changes"
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes = 0
        self.counts: dict[Lookup, int] = dict.fromkeys(Lookup, 0)
        self._generations: dict[bytes, bytes] = {}
        """Both counts by target, as they were when it was last asked."""
        self.owed = Owed(self._share, self._purge(b"*"), desk.loop)
        """Invalidations that Redis has yet to be told of."""
        self._subscriber = Subscriber(store, self._channel, heard=self._heard, joined=self._joined)
        self._subscriber.start()

    def admits(self, now: float) -> bool:
        """Whether to ask it at all."""
        return self.store.admits(now)

    def end(self) -> None:
        """Hear nothing more. What is under way ends by itself, within the store's timeout: whoever looks for a response
        waits for the answer, and an invalidation must not be lost. One that fails then, or is owed, is."""
        self._subscriber.stop()
        self.owed.end()

    # --- reading

    def find(self, resource: bytes, target: bytes, head: "RequestHead", then: Found) -> None:
        """Look for the response to a request, and call `then`, in the loop, exactly once."""
        if self.owed.concerns(target):
            self.counts[Lookup.MISS] += 1
            self._desk.loop.call_soon(then, None, ())
            return
        self._run(self._find(resource, target, head, then))

    async def _find(self, resource: bytes, target: bytes, head: "RequestHead", then: Found) -> None:
        found: Stored | None = None
        names: tuple[bytes, ...] = ()
        how = Lookup.MISS
        try:
            data = await self._read(resource, target)
            if data:
                names = entries.decode_names(data) or ()
                if names:
                    data = await self._read(variant(resource, head, names), target)
            if data:
                desk = self._desk
                key = variant(resource, head, names)
                found = entries.decode(data, key, desk.clock(), desk.wall(), desk.allowed.largest)
                how = Lookup.HIT if found is not None else Lookup.REFUSED
        except (StoreError, ValueError, TypeError, AttributeError):  # the last ones: an answer of another form
            how = Lookup.FAILED
        self.counts[how] += 1
        then(found, names)

    def generation(self, target: bytes) -> bytes:
        """Both counts of a target, as they were when it was last asked about it; b"" where that is not known."""
        return b"" if self.owed.concerns(target) else self._generations.get(target, b"")

    async def _read(self, key: bytes, target: bytes) -> bytes:
        """What is stored, b"" where there is nothing that still counts."""
        most = self._desk.allowed.largest + MAX_HEAD + 4 * entries.LONGEST_KEY
        generation, changes, data = await self.store.run(_FIND, self._keys(key, target), (most,))
        stamp = b"%b.%b" % (bytes(generation)[:20], bytes(changes)[:20])
        if target not in self._generations and len(self._generations) >= MOST_GENERATIONS:
            del self._generations[next(iter(self._generations))]
        self._generations[target] = stamp
        if not data.startswith(stamp + b"\n"):
            return b""
        return bytes(data[len(stamp) + 1 :])

    # --- writing

    def put(self, resource: bytes, names: tuple[bytes, ...], stored: Stored, generation: bytes, now: float) -> None:
        """Write a response, if nothing has changed since the app was asked; `generation` is that of then."""
        seconds = min(LONGEST, stored.useful_until() - now)
        if not generation or seconds <= 0 or stored.terms.always_ask:
            return
        if self._writes >= MOST_WRITES or not self.store.admits(now):
            self.counts[Lookup.DROPPED] += 1
            return
        data = entries.encode(stored, now, self._desk.wall())
        self._writes += 1
        self._run(self._put(resource, names, stored, data, generation=generation, seconds=seconds))

    async def _put(
        self,
        resource: bytes,
        names: tuple[bytes, ...],
        stored: Stored,
        data: bytes,
        *,
        generation: bytes,
        seconds: float,
    ) -> None:
        how = Lookup.WRITTEN
        try:
            if names:
                await self._write(resource, stored.target, entries.encode_names(names), generation, seconds)
            if not await self._write(stored.key, stored.target, data, generation, seconds):
                how = Lookup.DROPPED
        except StoreError:
            how = Lookup.FAILED
        finally:
            self._writes -= 1
        self.counts[how] += 1

    async def _write(self, key: bytes, target: bytes, data: bytes, generation: bytes, seconds: float) -> bool:
        purges, _, changes = generation.partition(b".")
        arguments = (purges, changes, generation + b"\n" + data, max(1, round(seconds * 1000)))
        return bool(await self.store.run(_PUT, self._keys(key, target), arguments))

    def _keys(self, key: bytes, target: bytes) -> tuple[str, ...]:
        prefix = self._prefix
        return f"{prefix}generation", f"{prefix}target:{_hash(target)}", f"{prefix}entry:{_hash(key)}"

    # --- invalidation

    def invalidate(self, target: bytes) -> None:
        """Let nobody use what is stored about a target."""
        key = f"{self._prefix}target:{_hash(target)}"
        self.owed.tell(Change(key, round(2000 * LONGEST), b"t" + target))

    def purge(self, pattern: bytes) -> None:
        """Let nobody use what is stored about targets that a pattern names. In Redis everything of the service goes:
        keys do not tell their targets."""
        self.owed.tell(self._purge(pattern))

    def _purge(self, pattern: bytes) -> Change:
        return Change(f"{self._prefix}generation", 0, b"p" + pattern)

    async def _share(self, change: Change) -> None:
        """Tell Redis, and by it the other sidecars. Raises StoreError."""
        await self.store.run(_CHANGE, (change.key,), (change.milliseconds, self._channel, change.message))

    def _heard(self, message: bytes) -> None:
        if 1 < len(message) <= MAX_TARGET + 1:
            if message[:1] == b"t":
                self._desk.responses.invalidate(message[1:])
            elif message[:1] == b"p":
                try:
                    self._desk.responses.purge(message[1:])
                except PatternError as error:
                    get_logger().warning("cache invalidation refused", error=str(error))

    def _joined(self, missed: bool) -> None:
        if missed:
            self._desk.responses.clear()

    def _run(self, work: Any) -> None:
        task = self._desk.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "connected": self._subscriber.connected,
            "owed": len(self.owed),
            "lookups": {str(how): count for how, count in self.counts.items()},
        }


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()
