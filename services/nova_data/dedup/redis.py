"""Idempotency keys in Redis: claimed before the effect, confirmed after it.

    keys = RedisKeys(client, scope="mails")
    await keys.once(event.idempotency_key, lambda: send(mail))

An effect that lies in one system and a key that lies in another cannot both be there or neither: there is an instant
between the two, and what happens to a process that dies in it is a choice.

* Key first, then effect: who dies in between has marked an event as done that was not. The event is lost.
* Effect first, then key: two who handle the event at the same time both find no key. It is done twice, often.
* Here: **claim, effect, confirm**. A claim says that somebody is at it, and until when (`lease`); a confirmed key says
  that it was done. Who dies before the confirmation leaves a claim that ends by itself, and then the event, which comes
  again since its offset was not committed, is claimed anew: nothing is lost. While a claim holds nobody else begins.

What is left: a process that dies *after* the effect and *before* the confirmation has the effect a second time, and so
does one that stops for longer than its lease and goes on afterwards (a stopped virtual machine). Who cannot have that
keeps the effect in PostgreSQL (`nova_data.dedup.postgres`), or gives the key on to who takes it (`Idempotency-Key`).

* A claim is renewed while the effect runs, so `lease` bounds how long an event waits after a crash, not how long an
  effect may take.
* A live process that cannot confirm, since Redis is away, remembers that it owes the confirmation, and does not repeat
  the effect when the event is handed to it again.
* A claim whose answer was lost is no claim of somebody else: who made it goes on with it.
* An effect that is broken off, by a deadline say, is not known to have taken place, and is begun again.
* A claim of somebody else is not an answer: whether the effect took place is not known yet. `ClaimedError` says when to
  ask again.
* Redis away is an outage (`DedupStoreError`, for which a consumer pauses), not a "no".
* What Redis forgets has not been seen: run it with `appendonly yes` and `maxmemory-policy noeviction`. A failover to a
  replica may lose the last keys, since replication is asynchronous (`WAIT` would only shorten that).

Each command concerns one key, so a Cluster or a master behind Sentinels does as well.
https://redis.io/docs/latest/commands/set/
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.key import checked_scope, digest
from nova_data.dedup.metrics import DedupMetrics
from nova_data.errors import ClaimedError, DedupStoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIFETIME: Final = 86400.0
LEASE: Final = 30.0
TIMEOUT: Final = 2.0
"""Seconds for a command and its answer."""
_DONE: Final = b"done"
_CONFIRM: Final = """
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] and there ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
"""0: somebody else has claimed it meanwhile, so the lease was over before the effect was."""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""


class RedisKeys:
    """Keys of one `scope` in Redis; `client` is redis.asyncio's, of a server, a Cluster or a Sentinel's master.

    `lifetime` and `lease` are in seconds. `recent` spares a claim for what was seen. Raises ValueError for others.
    """

    def __init__(
        self,
        client: Any,
        *,
        scope: str,
        lifetime: float = LIFETIME,
        lease: float = LEASE,
        recent: RecentKeys | None = None,
        metrics: DedupMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0.1 <= lease <= lifetime:
            raise ValueError(f"lease: expected 0.1 s up to the lifetime of {lifetime} s, got {lease}")
        self.scope = checked_scope(scope)
        self._client = client
        self._lifetime = int(lifetime * 1000)
        self._lease = lease
        self._recent = recent
        self._metrics = metrics or DedupMetrics.silent()
        self._clock = clock
        self._owed: dict[bytes, bytes] = {}
        """Effects that took place and are not confirmed, with their claim; no more than there are events in hand."""
        self._unheard: dict[bytes, tuple[float, bytes]] = {}
        """Claims of which Redis did not say if it has them, and until when it may; the next one drops what is over."""
        self._metrics.add(self.scope)

    async def once(self, key: str, effect: Callable[[], Awaitable[object]]) -> bool:
        """Run `effect`, unless that was done for this key; whether it was done by this process.

        What the effect raises ends the claim and passes through. Raises ClaimedError while another one is at it,
        DedupStoreError where Redis is not there, and ValueError for a key that is none.
        """
        known = digest(self.scope, key)
        name = f"nova:dedup:{self.scope}:{known.hex()}"
        if known not in self._owed:
            token = self._unheard.pop(known, (0.0, b""))[1] or secrets.token_bytes(12)
            if not await self._first(known, name, token):
                self._metrics.count(self.scope, "duplicate")
                return False
            async with self._renewed(name, token):
                try:
                    await effect()
                except BaseException:
                    await asyncio.shield(self._release(name, token))
                    raise
                self._owed[known] = token
        await self._confirm(known, name, self._owed[known])
        return True

    async def _first(self, known: bytes, name: str, token: bytes) -> bool:
        """Whether the effect is to take place, by us. Where there was no answer Redis may have the claim all the same:
        then it is gone on with when the event comes again, which need not wait until the lease of its own is over."""
        try:
            return not await self._seen(known, name) and await self._claim(name, token)
        except (DedupStoreError, asyncio.CancelledError):
            now = self._clock()
            self._unheard = {one: kept for one, kept in self._unheard.items() if kept[0] > now}
            self._unheard[known] = now + self._lease + TIMEOUT, token
            raise

    async def _seen(self, known: bytes, name: str) -> bool:
        if self._recent is None:
            return False
        maybe = self._recent.maybe(known, self._clock())
        self._metrics.bloom(self.scope, maybe=maybe)
        return maybe and bool(await self._ask("GET", name) == _DONE)

    async def _claim(self, name: str, token: bytes) -> bool:
        """Whether it is ours; False: the effect took place."""
        lease = int(self._lease * 1000)
        if await self._ask("SET", name, token, "NX", "PX", lease):
            return True
        there = await self._ask("GET", name)
        if there == _DONE:
            return False
        if there == token and await self._ask("EVAL", _RENEW, 1, name, token, lease):
            return True
        self._metrics.count(self.scope, "claimed")
        raise ClaimedError(retry_after=self._lease / 4)

    async def _confirm(self, known: bytes, name: str, token: bytes) -> None:
        if not await self._ask("EVAL", _CONFIRM, 1, name, token, _DONE, self._lifetime):
            self._metrics.count(self.scope, "overtaken")
        else:
            self._metrics.count(self.scope, "first")
        self._owed.pop(known, None)
        if self._recent is not None:
            self._recent.add(known, self._clock())

    async def _release(self, name: str, token: bytes) -> None:
        """Best done, and not necessary: a claim ends by itself."""
        with suppress(DedupStoreError):
            await self._ask("EVAL", _RELEASE, 1, name, token)

    @asynccontextmanager
    async def _renewed(self, name: str, token: bytes) -> "AsyncIterator[None]":
        task = asyncio.get_running_loop().create_task(self._renew(name, token))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _renew(self, name: str, token: bytes) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(DedupStoreError):
                await self._ask("EVAL", _RENEW, 1, name, token, int(self._lease * 1000))

    async def _ask(self, *words: Any) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._client.execute_command(*words)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._metrics.count(self.scope, "failed")
            raise DedupStoreError(f"Redis with the keys: {type(error).__name__}") from error

    def __repr__(self) -> str:
        return f"<RedisKeys {self.scope} owed={len(self._owed)}>"
