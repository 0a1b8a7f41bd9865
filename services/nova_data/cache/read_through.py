"""A cache that loads what it does not have: in the process, then in Redis, then by the app's own function.

    users = ReadThrough("users", load_user, Freshness(ttl=60, stale=240))
    user = await users.get(user_id)                 # None: there is no such user, which is kept for a second

Rules:

* Nobody gets an answer older than the freshness allows (`freshness`), whatever fails.
* However many ask for one key, it is loaded once at a time, and who is cancelled takes nobody along
  (`calls.coalescing`).
* What was dropped or put while a load was under way is not overwritten by what that load brings.
* A load that fails raises; a stale answer goes on being served meanwhile, and is tried again after a second. With a
  `fallback` that answers instead, and is not kept.
* Redis is a help: one that is gone costs loads, nothing else. One that did not hear of a change is not believed for
  that key, by the process that made it.

`Freshness` says how old an answer can be where another process has changed it. Values are shared: who changes one
changes it for all.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from math import inf
from random import Random
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from nova_data.cache.freshness import PAUSE, Entry, Freshness, State
from nova_data.cache.memory import Memory
from nova_data.cache.metrics import CacheMetrics
from nova_data.calls.coalescing import TIMEOUT, Coalescer

if TYPE_CHECKING:  # it imports the client library, which an app without Redis need not have
    from nova_data.cache.tier import RedisTier

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRIES: Final = 10_000
MARGIN: Final = 0.05
"""Seconds by which an answer in Redis must be younger than the process's own to be another one: its age is known no
better."""
DOUBTFUL: Final = 1024
"""Keys that Redis did not hear of a change of, at most."""


class ReadThrough(Generic[K, V]):
    """See the module. `entries` bounds what the process keeps, `timeout` a load, in seconds; `clock` gives seconds."""

    def __init__(
        self,
        name: str,
        load: Callable[[K], Awaitable[V | None]],
        freshness: Freshness,
        *,
        entries: int = ENTRIES,
        redis: "RedisTier | None" = None,
        fallback: Callable[[K], Awaitable[V | None]] | None = None,
        timeout: float = TIMEOUT,
        metrics: CacheMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self.freshness = freshness
        self.memory: Memory[K] = Memory(entries)
        self.loads = 0
        """Times that the app's function was called."""
        self._load = load
        self._redis = redis
        self._fallback = fallback
        self._metrics = metrics
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - when to load anew, no secret
        self._calls: Coalescer[Entry] = Coalescer(timeout=timeout)
        self._tickets: dict[K, object] = {}  # of loads under way, as long as what they bring is true
        self._doubtful: OrderedDict[K, float] = OrderedDict()  # until when Redis may have what is not true any more
        self._tasks: set[asyncio.Task[None]] = set()
        if metrics is not None:
            metrics.add(name, lambda: len(self.memory))

    async def get(self, key: K) -> V | None:
        """The answer, None where there is nothing. Raises what the load raises, and CallTimeoutError."""
        entry = self.memory.get(key)
        if entry is not None:
            state = self.freshness.state(entry, self._clock(), self._random)
            if state is not State.GONE:
                return self._serve(key, entry, state)
            self.memory.drop(key)
        try:
            entry = await self._calls.call(key, lambda: self._find(key))
        except Exception:
            self._count("failed" if self._fallback is None else "fallback")
            if self._fallback is None:
                raise
            return await self._fallback(key)
        value: V | None = entry.value
        return value

    def peek(self, key: K) -> V | None:
        """The answer that this process has and may serve, without a load."""
        entry = self.memory.get(key)
        if entry is None or self.freshness.state(entry, self._clock(), self._random) is State.GONE:
            return None
        value: V | None = entry.value
        return value

    async def put(self, key: K, value: V | None) -> None:
        """The answer is this from now on, as the caller has just saved it."""
        self.remember(key, value)
        await self._share(key, value)

    def remember(self, key: K, value: V | None) -> None:
        """The same for this process alone."""
        self._supersede(key)
        self._keep(key, Entry(value, self._clock()))

    async def drop(self, key: K) -> None:
        """Load it anew when it is asked for next; other processes' own memory lasts as long as the freshness says."""
        self._supersede(key)
        self.memory.drop(key)
        await self._unshare(key)

    async def close(self) -> None:
        """End what is loaded behind anybody's back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- loading

    def _serve(self, key: K, entry: Entry, state: State) -> V | None:
        self._count("stale" if state is State.STALE else "hit")
        if state is State.STALE:
            entry.again = self._clock() + PAUSE
            task = asyncio.get_running_loop().create_task(self._renew(key, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        value: V | None = entry.value
        return value

    async def _renew(self, key: K, former: Entry) -> None:
        try:
            await self._calls.call(key, lambda: self._find(key, former.loaded + MARGIN))
        except Exception:  # the stale answer stands in, until it is gone; then the error is raised
            self._count("failed")

    async def _find(self, key: K, younger: float = -inf) -> Entry:
        """Redis' answer where it is fresh, and loaded after that instant, else a load."""
        if self._redis is not None and self._clock() >= self._doubtful.get(key, -inf):
            with self._loading(key) as ticket:
                entry = await self._redis.get(key, self.freshness, self._clock())
                if entry is not None and entry.loaded > younger and self._is_fresh(entry):
                    self._count("shared")
                    self._finish(key, ticket, entry)
                    return entry
        return await self._fetch(key)

    async def _fetch(self, key: K) -> Entry:
        with self._loading(key) as ticket:
            began = self._clock()
            self.loads += 1
            value = await self._load(key)
            self._count("loaded")
            entry = Entry(value, began, self._clock() - began)
            if self._finish(key, ticket, entry):
                await self._share(key, value, ticket)
            return entry

    def _is_fresh(self, entry: Entry) -> bool:
        return self.freshness.state(entry, self._clock(), self._random) is State.FRESH

    async def _share(self, key: K, value: V | None, ticket: object = None) -> None:
        """Tell Redis; while it has not heard, this process does not take its word for the key. What a load has brought
        is taken back where it was dropped or put meanwhile: nobody knows which of the two Redis was told last."""
        if self._redis is None:
            return
        told = await self._redis.put(key, value, self.freshness, self._clock())
        if ticket is not None and self._tickets.get(key) is not ticket:
            await self._unshare(key)
        elif told:
            self._doubtful.pop(key, None)
        else:
            self._doubt(key)

    async def _unshare(self, key: K) -> None:
        if self._redis is not None and not await self._redis.drop(key, self._clock()):
            self._doubt(key)

    def _doubt(self, key: K) -> None:
        self._doubtful[key] = self._clock() + self.freshness.lifetime(absent=False)
        self._doubtful.move_to_end(key)
        if len(self._doubtful) > DOUBTFUL:
            self._doubtful.popitem(last=False)

    # --- what changes while a load is under way

    @contextmanager
    def _loading(self, key: K) -> Iterator[object]:
        """What the load brings counts while its ticket is the key's."""
        ticket = self._tickets[key] = object()
        try:
            yield ticket
        finally:
            if self._tickets.get(key) is ticket:
                del self._tickets[key]

    def _supersede(self, key: K) -> None:
        if self._tickets.pop(key, None) is not None and self._redis is not None:
            self._doubt(key)  # what that load has brought may be on its way there
        self._calls.forget(key)

    def _finish(self, key: K, ticket: object, entry: Entry) -> bool:
        """Keep what was loaded, if it is still true."""
        if self._tickets.get(key) is not ticket:
            return False
        self._keep(key, entry)
        return True

    def _keep(self, key: K, entry: Entry) -> None:
        evicted = self.memory.evicted
        self.memory.put(key, entry)
        if self._metrics is not None and self.memory.evicted > evicted:
            self._metrics.evicted(self.name, self.memory.evicted - evicted)

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.answered(self.name, result)

    def __repr__(self) -> str:
        return f"<ReadThrough {self.name} entries={len(self.memory)} loads={self.loads}>"
