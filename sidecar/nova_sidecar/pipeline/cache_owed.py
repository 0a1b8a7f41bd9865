"""Invalidations that Redis has not been told of, since it failed: kept, and told as soon as it takes them.

Until then what Redis has of their targets is not to be used by this pod, which knows better. Telling one twice does no
harm, so one of which the answer was lost is told again. Where there are too many, all of the service goes in their
place. A pod that ends meanwhile, or has another tier, loses them: what is stored then goes by its own lifetime.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from nova_sidecar.store.port import StoreError
from nova_sidecar.telemetry.logs import get_logger

MOST_OWED: Final = 1024
"""Invalidations that are kept; with one more, all of the service is purged in their place."""
AGAIN: Final = 1.0
"""Seconds between two tries."""


class Change(NamedTuple):
    """An invalidation: the key that counts it, for how many milliseconds that is kept (0: for ever), and what other
    sidecars are told: `t` and a target, or `p` and a pattern of targets."""

    key: str
    milliseconds: int
    message: bytes


class Owed:
    """See the module. `tell` tells Redis, or raises StoreError; `everything` is the purge of all there is."""

    __slots__ = ("_again", "_changes", "_ended", "_everything", "_loop", "_tell", "_telling")

    def __init__(
        self, tell: Callable[[Change], Awaitable[None]], everything: Change, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._tell = tell
        self._everything = everything
        self._loop = loop
        self._changes: dict[bytes, Change] = {}
        self._again: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        self._ended = False

    def __len__(self) -> int:
        return len(self._changes)

    def concerns(self, target: bytes) -> bool:
        """Whether what Redis has of a target is not to be used."""
        changes = self._changes
        return bool(changes) and (b"t" + target in changes or any(one[:1] == b"p" for one in changes))

    def add(self, change: Change, why: StoreError) -> None:
        """Redis could not be told, for this reason."""
        if not self._changes:
            get_logger().warning("cache invalidation not shared yet", error=str(why))
        if len(self._changes) >= MOST_OWED:
            self._changes.clear()
            change = self._everything
        self._changes[change.message] = change
        if self._again is None and self._telling is None and not self._ended:
            self._again = self._loop.call_later(AGAIN, self._try)

    def end(self) -> None:
        """Try no more; what is owed is lost."""
        self._ended = True
        if self._again is not None:
            self._again.cancel()

    def _try(self) -> None:
        self._again = None
        self._telling = self._loop.create_task(self._tell_all())

    async def _tell_all(self) -> None:
        try:
            while self._changes:
                message, change = next(iter(self._changes.items()))
                await self._tell(change)
                if self._changes.get(message) is change:
                    del self._changes[message]
        except StoreError:
            if not self._ended:
                self._again = self._loop.call_later(AGAIN, self._try)
        finally:
            self._telling = None
