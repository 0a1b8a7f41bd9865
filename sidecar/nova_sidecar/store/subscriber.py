"""Listens to a channel of the store, and comes back whenever the connection is lost.

    join ──▶ joined(missed) ──▶ heard(message) … ──▶ lost ──▶ wait, longer each time, with jitter ──▶ join

What is published meanwhile is lost (redis.io/docs, "Pub/sub": at most once); so whoever listens is told each time it
joins whether something may have been missed, and has to think the worst of that.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from nova_sidecar.store.port import StoreError
from nova_sidecar.telemetry.logs import get_logger

if TYPE_CHECKING:
    from nova_sidecar.store.guarded import GuardedStore

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0
"""Seconds between two tries; each is shortened by up to half."""


class Subscriber:
    """See the module. `joined` is told whether something may have been missed: it had been connected before, or could
    not be at first."""

    def __init__(
        self,
        store: "GuardedStore",
        channel: str,
        *,
        heard: Callable[[bytes], None],
        joined: Callable[[bool], None],
        rng: Random | None = None,
    ) -> None:
        self._store = store
        self._channel = channel
        self._heard = heard
        self._joined = joined
        self._rng = rng or Random()  # noqa: S311 - spreads reconnections
        self._task: asyncio.Task[None] | None = None
        self._missed = False
        self._wait = FIRST_WAIT
        self.connected = False

    def start(self) -> None:
        """Listen from now on."""
        self._task = asyncio.get_running_loop().create_task(self._listen())

    def stop(self) -> None:
        """Hear nothing more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.connected = False

    async def _listen(self) -> None:
        while True:
            try:
                await self._store.listen(self._channel, self._heard, self._ready)
            except StoreError as error:
                if self.connected:
                    get_logger().warning("store channel lost", error=str(error))
            self._missed = True
            self.connected = False
            await asyncio.sleep(self._wait * (1 - self._rng.random() / 2))
            self._wait = min(LONGEST_WAIT, self._wait * 2)

    def _ready(self) -> None:
        self.connected = True
        self._wait = FIRST_WAIT
        self._joined(self._missed)
        self._missed = True  # when it joins again
