"""The guard around a store: a deadline for each call, a bound on how many there are, and a breaker.

Nothing waits longer than the policy's timeout. A call that is late is answered with an error and ends by itself: were
it cut off, a connection that takes longer than that to open would never be there. `MOST` bounds the calls that are
under way, and with them the connections; further ones wait, within their own deadline.

While the breaker is open a call costs nothing but a comparison (`admits`), so that a store that is down slows nobody.
It is left alone for up to twice as long as the breaker says, each sidecar for a time of its own: when the store is
back, its sidecars come one after the other.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from enum import StrEnum
from itertools import accumulate
from random import Random
from typing import Any, Final, TypeVar

from nova_api.policies import BreakerPolicy, WindowPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS
from nova_sidecar.store.port import Backend, StoreError
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.secretfiles import SecretFiles

T = TypeVar("T")

MOST: Final = 16
"""Calls at once, and so connections to each server of the store."""
GRACE: Final = 0.5
"""Seconds that calls under way get when the store is closed."""
FILES: Final = ("username", "password", "ca.crt")
BREAKER: Final = BreakerPolicy(
    failure_threshold=3,
    window=WindowPolicy(failure_rate=Share(0.5), minimum_calls=20),
    success_threshold=1,
    open_duration=Duration(1),
    max_open_duration=Duration(5),
)
SPREAD: Final = 1.0
"""Share of the open time by which it is left alone longer, at most: 1 to 10 s in all."""
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds of the buckets that calls are counted in by how long they took, seconds."""


class Call(StrEnum):
    """How a call ended; the value is what people see in metrics."""

    OK = "ok"
    TIMEOUT = "timeout"
    FAILED = "failed"
    SKIPPED = "skipped"  # the breaker was open


class GuardedStore:
    """See the module. `timeout` in seconds; `directory` has the credentials, "" for none."""

    __slots__ = (
        "_backend", "_breaker", "_clock", "_files", "_rng", "_room", "_running", "_timeout", "_until", "calls",
        "seconds", "took",
    )  # fmt: skip

    def __init__(
        self, backend: Backend, *, timeout: float, directory: str, rng: Random, clock: Callable[[], float]
    ) -> None:
        self._backend = backend
        self._timeout = timeout
        self._clock = clock
        self._rng = rng
        self._breaker = Breaker(BREAKER, rng, clock())
        self._breaker.on_transition.append(self._moved)
        self._room = asyncio.Semaphore(MOST)
        self._running: set[asyncio.Task[Any]] = set()
        self._until = 0.0
        self._files = SecretFiles(directory, FILES, backend.login) if directory else None
        self.calls: dict[Call, int] = dict.fromkeys(Call, 0)
        self.took = [0] * (len(BOUNDS) + 1)
        """Calls that were made, by how long whoever made them waited: a bucket for each of `BOUNDS`, and one beyond."""
        self.seconds = 0.0
        """The sum of that."""

    def start(self) -> None:
        """Read the credentials, and again when they change."""
        if self._files is not None:
            self._files.start()
        else:
            self._backend.login({})

    async def close(self) -> None:
        """Close every connection; calls that are still under way after `GRACE` end with an error."""
        if self._files is not None:
            self._files.close()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._backend.close()

    def admits(self, now: float) -> bool:
        """Whether a call may be made; if not, it is counted as skipped."""
        if now >= self._until:
            return True
        self.calls[Call.SKIPPED] += 1
        return False

    # --- calls

    async def get(self, key: str) -> bytes | None:
        """See `Store`."""
        return await self._call(lambda: self._backend.get(key))

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See `Store`."""
        await self._call(lambda: self._backend.put(key, value, seconds))

    async def hold(self, key: str, value: bytes, seconds: float, instead_of: bytes = b"") -> bytes:
        """See `Store`."""
        return await self._call(lambda: self._backend.hold(key, value, seconds, instead_of))

    async def delete(self, key: str) -> None:
        """See `Store`."""
        await self._call(lambda: self._backend.delete(key))

    async def run(self, script: str, keys: tuple[str, ...], arguments: tuple[bytes | int | str, ...]) -> Any:
        """See `Store`."""
        return await self._call(lambda: self._backend.run(script, keys, arguments))

    async def listen(self, channel: str, heard: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """See `Backend`. It has no deadline, and says nothing about the breaker: nobody waits for a message."""
        await self._backend.listen(channel, heard, joined)

    async def _call(self, make: Callable[[], Awaitable[T]]) -> T:
        now = self._clock()
        if not self.admits(now):
            raise StoreError("the store has failed, and is left alone for a while")
        refused = self._breaker.admit(now)
        if refused is not None:
            self._until = now + (refused.retry_after or 0.0) * (1 + SPREAD * self._rng.random())
            self.calls[Call.SKIPPED] += 1
            raise StoreError("the store has failed, and is left alone for a while")
        ticket = self._breaker.ticket
        task = asyncio.ensure_future(self._within_room(make))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:  # whoever asked has left: a probe that never reports would be the last one
            self._breaker.record(CANCELLED, self._clock(), ticket)
            raise
        ok = task.done() and not task.cancelled() and task.exception() is None
        after = self._clock()
        self.took[bisect_left(BOUNDS, after - now)] += 1
        self.seconds += after - now
        self._breaker.record(SUCCESS if ok else FAILURE, after, ticket)
        if not task.done():
            self.calls[Call.TIMEOUT] += 1
            raise StoreError(f"no answer within {self._timeout:g} s")
        self.calls[Call.OK if ok else Call.FAILED] += 1
        if task.cancelled():
            raise StoreError("the store is closed")
        return task.result()

    async def _within_room(self, make: Callable[[], Awaitable[T]]) -> T:
        async with self._room:
            return await make()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more

    def _moved(self, before: str, after: str, cause: str, now: float) -> None:
        if after == "open" and before == "closed":
            get_logger().warning("store lost", cause=cause)
        elif after == "closed":
            self._until = 0.0
            get_logger().info("store back")

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "state": self._breaker.state,
            "calls": {str(how): count for how, count in self.calls.items()},
            "took": list(zip([*map(str, BOUNDS), "+Inf"], accumulate(self.took), strict=True)),
            "seconds": round(self.seconds, 6),
            "underWay": len(self._running),
        }

    def __repr__(self) -> str:
        return f"<GuardedStore {self._breaker.state} {self._backend!r}>"
