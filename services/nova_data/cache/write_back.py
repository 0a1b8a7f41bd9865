"""A cache that saves later, and together: for values that change often and are read more often, such as preferences.

    preferences = ReadThrough("preferences", load, Freshness(ttl=300))
    async with WriteBack(preferences, save_many, flush_after=5) as store:
        store.set(user, chosen)                 # seen by this process at once, saved within 5 s
        chosen = await store.get(user)

`save_many` gets a mapping of keys to values and saves all of them, or raises; then they are saved again, so saving
twice must be like saving once. Where it refuses single ones for good (a rule of the database, say), it returns them
with their errors: `{key: error}`.

Rules:

* Of several changes of one key the last one is saved.
* A change is saved `flush_after` seconds after it came at the latest, and at the end of the block.
* **Nothing is lost in silence.** While saving fails, values are kept and tried again, with pauses that grow
  (`pending`). When `limit` keys wait, a further one is refused by `WriteBackFullError`. What is refused for good, or is
  not saved when the end of the block has waited `close_within` seconds, goes to `on_unsaved`, and the end raises
  `UnsavedError`, which has it.
* A process that is killed loses what it has not saved: `flush_after` seconds at most. Where that is too much, save at
  once.
* Other processes see a change when it is saved and their own copy expires.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from math import inf
from random import Random
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.pending import Pending
from nova_data.cache.read_through import ReadThrough
from nova_data.errors import UnsavedError, WriteBackFullError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FLUSH_AFTER: Final = 5.0
BATCH: Final = 500
LIMIT: Final = 10_000
SAVE_TIMEOUT: Final = 10.0
CLOSE_WITHIN: Final = 10.0
_NOTHING: Final[Any] = object()
_log: Final = logging.getLogger("nova_data.cache")


class WriteBack(Generic[K, V]):
    """See the module. `flush_after`, `save_timeout` and `close_within` in seconds; `batch` and `limit` count keys."""

    def __init__(
        self,
        cache: ReadThrough[K, V],
        save_many: Callable[[Mapping[K, V]], Awaitable[Mapping[K, Exception] | None]],
        *,
        flush_after: float = FLUSH_AFTER,
        batch: int = BATCH,
        limit: int = LIMIT,
        save_timeout: float = SAVE_TIMEOUT,
        close_within: float = CLOSE_WITHIN,
        on_unsaved: Callable[[Mapping[K, V]], None] | None = None,
        metrics: CacheMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.pending: Pending[K, V] = Pending(after=flush_after, most=batch, limit=limit)
        self.saves = 0
        """Batches that were saved."""
        self._cache = cache
        self._save_many = save_many
        self._save_timeout = save_timeout
        self._close_within = close_within
        self._on_unsaved = on_unsaved
        self._metrics = metrics
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - when to try again, no secret
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        if metrics is not None:
            metrics.add_write_back(cache.name, lambda: len(self.pending))

    # --- its life

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        try:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._close_within):
                    await self._drain()
        finally:  # also when the end itself is cancelled
            if left := self.pending.all():
                self._give_up(left)
        if left and error is None:
            raise UnsavedError(self._cache.name, left)

    # --- reading and writing

    async def get(self, key: K) -> V | None:
        """The value, as it was set last by this process, or is loaded. Raises what the load raises."""
        value = self.pending.get(key, _NOTHING)
        return await self._cache.get(key) if value is _NOTHING else value

    def set(self, key: K, value: V) -> None:
        """Change a value. Raises WriteBackFullError, and RuntimeError outside the block."""
        if self._task is None:
            raise RuntimeError(f"the cache {self._cache.name} does not save now: use it within its block")
        if not self.pending.put(key, value, self._clock()):
            raise WriteBackFullError(self._cache.name)
        self._cache.remember(key, value)
        self._changed.set()

    async def flush(self) -> None:
        """Save everything now. Raises what saving raises; what could not be saved goes on waiting."""
        while self.pending.all():
            if error := await self._save():
                raise error

    # --- saving

    async def _run(self) -> None:
        while True:
            pause = self.pending.pause(self._clock())
            if pause <= 0:
                await self._save()
                continue
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if pause == inf else pause):
                    await self._changed.wait()

    async def _drain(self) -> None:
        """Save until nothing is left, with a pause after each failure."""
        while self.pending.all():
            if await self._save():
                await asyncio.sleep(min(self.pending.pause(self._clock()), self._close_within))

    async def _save(self) -> Exception | None:
        """Save a batch, or the reason why it is not."""
        async with self._saving:
            batch = self.pending.take()
            return await self._save_batch(batch) if batch else None

    async def _save_batch(self, batch: Mapping[K, V]) -> Exception | None:
        try:
            async with asyncio.timeout(self._save_timeout):
                refused = await self._save_many(batch)
        except asyncio.CancelledError:
            self.pending.failed(self._clock(), self._random)
            raise
        except Exception as error:
            self.pending.failed(self._clock(), self._random)
            self._note_failure(error)
            return error
        self.pending.saved()
        self.saves += 1
        await self._settle(batch, refused or {})
        return None

    async def _settle(self, batch: Mapping[K, V], refused: Mapping[K, Exception]) -> None:
        for key, value in batch.items():
            if self.pending.get(key, _NOTHING) is not _NOTHING:
                continue  # changed again meanwhile
            if key in refused:
                await self._cache.drop(key)
            else:
                await self._cache.put(key, value)
        if self._metrics is not None:
            self._metrics.saved(self._cache.name, len(batch) - len(refused))
        if refused:
            self._give_up({key: batch[key] for key in refused})

    def _note_failure(self, error: Exception) -> None:
        _log.warning(
            "the cache %s could not save, %d values wait: %s", self._cache.name, len(self.pending), type(error).__name__
        )
        if self._metrics is not None:
            self._metrics.failed(self._cache.name)

    def _give_up(self, values: Mapping[K, V]) -> None:
        _log.error("the cache %s gives up %d values that it could not save", self._cache.name, len(values))
        if self._metrics is not None:
            self._metrics.unsaved(self._cache.name, len(values))
        if self._on_unsaved is None:
            return
        try:
            self._on_unsaved(values)
        except Exception as error:  # the app's: the other values are still to be saved
            _log.error("the cache %s: on_unsaved failed: %s", self._cache.name, type(error).__name__)

    def __repr__(self) -> str:
        return f"<WriteBack {self._cache.name} {self.pending!r} saves={self.saves}>"
