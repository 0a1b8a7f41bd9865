"""Loads of single keys become batch calls: a page that needs fifty authors asks once, not fifty times.

    authors = Batcher(load_authors)                 # async def load_authors(ids) -> {id: author}
    author = await authors.load(7)                  # with all that others ask for within 10 ms

`load_many` gets the keys of a batch in the order in which they were asked for, each once, and gives a mapping, or a
sequence in that order. Rules:

* A value that is an exception is that key's error; the others have theirs.
* A key that is missing from the mapping is `NotLoadedError`, unless `missing` says what stands for it.
* An error of the call is everybody's in that batch. A call that hangs ends after `timeout`; one that awaited what
  somebody has cancelled, as a closed channel of gRPC does with its calls, is CallTimeoutError.
* Who is cancelled leaves alone; a key that nobody wants any more is not loaded, and a call that nobody waits for is
  ended.
* With `remember`, answers (not errors) are kept for as long as the batcher lives: for one request, say, as GraphQL's
  data loaders are used. Without it nothing is kept.

One batcher may serve many users' requests at once where what it loads does not depend on who asks; else make one for
each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from nova_data.calls.window import LENGTH, MOST, Window
from nova_data.errors import CallTimeoutError, NotLoadedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TIMEOUT: Final = 10.0
_RAISE: Final[Any] = object()
Loaded = Mapping[K, V | Exception] | Sequence[V | Exception]


class _Batch(Generic[K, V]):
    """Keys of one call, and who waits for each."""

    __slots__ = ("task", "waiters", "waiting")

    def __init__(self) -> None:
        self.waiters: dict[K, list[asyncio.Future[V]]] = {}
        self.waiting = 0
        self.task: asyncio.Task[None] | None = None


class Batcher(Generic[K, V]):
    """See the module. `window` and `timeout` in seconds; `most` bounds the keys of a batch, from 1."""

    def __init__(
        self,
        load_many: Callable[[Sequence[K]], Awaitable[Loaded[K, V]]],
        *,
        window: float = LENGTH,
        most: int = MOST,
        timeout: float = TIMEOUT,
        missing: Any = _RAISE,
        remember: bool = False,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout: expected seconds above 0, got {timeout}")
        self._load_many = load_many
        self._window: Window[K] = Window(window, most)
        self._timeout = timeout
        self._missing = missing
        self._kept: dict[K, V] | None = {} if remember else None
        self._open: _Batch[K, V] = _Batch()
        self._timer: asyncio.TimerHandle | None = None
        self.loads = 0
        """Loads that were asked for."""
        self.calls = 0
        """Batches that were loaded."""

    async def load(self, key: K) -> V:
        """The value of a key. Raises its error, the call's, NotLoadedError and CallTimeoutError."""
        self.loads += 1
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        batch = self._open
        waiter: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        batch.waiters.setdefault(key, []).append(waiter)
        batch.waiting += 1
        self._add(key)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._left(batch, key, waiter)
            raise

    async def load_all(self, keys: Iterable[K]) -> list[V]:
        """The values of several, in their order. Raises the first error there is."""
        found = await asyncio.gather(*(self.load(key) for key in keys), return_exceptions=True)
        values: list[V] = []
        for each in found:
            if isinstance(each, BaseException):
                raise each
            values.append(each)
        return values

    def forget(self, key: K) -> None:
        """Load it anew when it is asked for next: it was changed."""
        if self._kept is not None:
            self._kept.pop(key, None)

    def _add(self, key: K) -> None:
        loop = asyncio.get_running_loop()
        if self._window.add(key, loop.time()):
            self._go()
        elif self._timer is None:
            self._timer = loop.call_at(self._window.due, self._expired)

    def _expired(self) -> None:
        if self._window.take():
            self._go()
        else:
            self._timer = None

    def _go(self) -> None:
        """Load the open batch; the next key opens another one."""
        batch, self._open = self._open, _Batch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.calls += 1
        batch.task = asyncio.get_running_loop().create_task(self._run(batch))

    def _left(self, batch: _Batch[K, V], key: K, waiter: "asyncio.Future[V]") -> None:
        """One who waited does not want it any more."""
        batch.waiting -= 1
        if batch is self._open:
            self._window.drop(key)
            batch.waiters[key].remove(waiter)
            if not batch.waiters[key]:
                del batch.waiters[key]
        elif not batch.waiting and batch.task is not None:
            batch.task.cancel()

    async def _run(self, batch: _Batch[K, V]) -> None:
        keys = list(batch.waiters)
        try:
            async with asyncio.timeout(self._timeout) as bound:
                found = await self._load_many(keys)
            values = by_key(keys, found, self._missing)
        except TimeoutError as error:
            own = CallTimeoutError(self._timeout) if bound.expired() else error
            values = dict.fromkeys(keys, own)
        except asyncio.CancelledError:
            if not batch.waiting:
                raise
            values = dict.fromkeys(keys, CallTimeoutError(None))  # somebody else has ended what the call awaited
        except Exception as error:  # whatever it is, it is everybody's
            values = dict.fromkeys(keys, error)
        for key, waiters in batch.waiters.items():
            self._settle(key, waiters, values[key])

    def _settle(self, key: K, waiters: "list[asyncio.Future[V]]", value: V | Exception) -> None:
        waiting = [waiter for waiter in waiters if not waiter.done()]  # the others have left
        if isinstance(value, Exception):
            for waiter in waiting:
                waiter.set_exception(value)
            return
        if self._kept is not None:
            self._kept[key] = value
        for waiter in waiting:
            waiter.set_result(value)

    def __repr__(self) -> str:
        return f"<Batcher waiting={len(self._window)} loads={self.loads} calls={self.calls}>"


def by_key(keys: Sequence[K], found: Any, missing: Any = _RAISE) -> dict[K, Any]:
    """What was loaded, by key: values, and errors in their place. Raises TypeError for what fits no keys."""
    if isinstance(found, Mapping):
        return {key: found[key] if key in found else _absent(missing) for key in keys}
    if not isinstance(found, Sequence) or isinstance(found, str | bytes) or len(found) != len(keys):
        raise TypeError(f"load_many: expected a mapping, or a sequence of {len(keys)} values, one for each key")
    return dict(zip(keys, found, strict=True))


def _absent(missing: Any) -> Any:
    return NotLoadedError() if missing is _RAISE else missing
