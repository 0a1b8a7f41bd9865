"""Invalidations that Redis has not been told of yet: kept until it has, and told again while it fails.

Until then what Redis has of their targets is not to be used by this pod, which knows better. Telling one twice does no
harm, so one of which the answer was lost is told again. Where there are too many, all of the service goes in their
place. A pod that ends meanwhile takes them with it: what is stored then goes by its own lifetime.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from itertools import chain
from typing import Any, Final, NamedTuple

from nova_sidecar.store.port import StoreError
from nova_sidecar.telemetry.logs import get_logger

MOST_OWED: Final = 1024
"""Invalidations that are kept; with one more, everything is purged."""
AGAIN: Final = 1.0
"""Seconds between two tries."""


class Change(NamedTuple):
    """An invalidation: the key that counts it, for how many milliseconds that is kept (0: for ever), and what other
    sidecars are told: `t` and a target, or `p` and a pattern of targets."""

    key: str
    milliseconds: int
    message: bytes


class Owed:
    """See the module. `share` tells Redis, or raises StoreError; `everything` is the purge of all there is."""

    __slots__ = ("_again", "_changes", "_ended", "_everything", "_loop", "_purges", "_share", "_tasks")

    def __init__(
        self, share: Callable[[Change], Awaitable[None]], everything: Change, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._share = share
        self._everything = everything
        self._loop = loop
        self._changes: dict[bytes, Change] = {}
        self._purges: dict[bytes, Change] = {}
        self._again: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._changes) + len(self._purges)

    def __repr__(self) -> str:
        return f"<Owed changes={len(self._changes)} purges={len(self._purges)}>"

    def concerns(self, target: bytes) -> bool:
        """Whether what Redis has of a target is not to be used."""
        return bool(self._purges) or b"t" + target in self._changes

    def tell(self, change: Change) -> None:
        """Tell Redis, now and for as long as it takes."""
        self._keep(change)
        self._begin(self._first(change))

    def take_over(self, other: "Owed") -> None:
        """Redis is another one now, or is reached in another way; what the former one was not told, this one is."""
        for change in (*other._changes.values(), *other._purges.values()):
            self.tell(change)

    def end(self) -> None:
        """There are no further tries."""
        self._ended = True
        if self._again is not None:
            self._again.cancel()

    def _keep(self, change: Change) -> None:
        if len(self) >= MOST_OWED:
            self._changes.clear()
            self._purges.clear()
            self._owe(self._everything)
            self._try_again()
        self._owe(change)

    def _owe(self, change: Change) -> None:
        self._shelf(change)[change.message] = change

    def _shelf(self, change: Change) -> dict[bytes, Change]:
        return self._purges if change.message[:1] == b"p" else self._changes

    async def _first(self, change: Change) -> None:
        try:
            await self._pay(change)
        except StoreError as error:
            if self._again is None:
                get_logger().warning("cache invalidation not shared yet", error=str(error))
            self._try_again()

    async def _pay(self, change: Change) -> None:
        await self._share(change)
        shelf = self._shelf(change)
        if shelf.get(change.message) is change:  # else it was owed once more meanwhile
            del shelf[change.message]

    def _try_again(self) -> None:
        if self._again is None and not self._ended:
            self._again = self._loop.call_later(AGAIN, lambda: self._begin(self._pay_all()))

    async def _pay_all(self) -> None:
        """What is owed, one after the other; the first that fails ends it, since the others would too."""
        with contextlib.suppress(StoreError):
            for change in list(chain(self._purges.values(), self._changes.values())):
                await self._pay(change)
        self._again = None
        if len(self):  # also what could not be told first while these were
            self._try_again()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
