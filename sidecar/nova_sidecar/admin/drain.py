"""Leaving, once, whoever asks: the preStop hook, SIGTERM, or a person on the control address.

In a pod with a native sidecar the hook comes first, while the app still runs, and SIGTERM only after the app has
ended (KEP-753); by then there is usually nothing left to wait for.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.policy.drain import Phase
from nova_sidecar.telemetry.logs import get_logger

PROGRESS_INTERVAL: Final = 1.0
OUTBOUND_POLL: Final = 0.02


class Drain:
    """The drain of one sidecar. When it ended because the time was over, `complete` is False."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._task: asyncio.Task[bool] | None = None
        self._deadline = 0.0

    def __repr__(self) -> str:
        return f"<Drain {self.phase}>"

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        if self._task is None:
            return Phase.SERVING
        return Phase.DRAINED if self._task.done() else self._proxy.phase

    @property
    def complete(self) -> bool:
        """Whether everything in flight got its answer."""
        return self._task is not None and self._task.done() and self._task.result()

    def begin(self) -> None:
        """Begin to leave; further calls change nothing."""
        if self._task is not None:
            return
        times = self._proxy.config.drain
        budget = times.delay + times.timeout
        self._deadline = time.monotonic() + budget
        get_logger().info("drain begins", phase=Phase.LEAVING, in_flight=self._proxy.in_flight, seconds=float(budget))
        self._proxy.begin_drain()
        self._task = asyncio.get_running_loop().create_task(self._run(budget))

    async def wait(self) -> bool:
        """Begin if need be, and wait until nothing inbound is in flight or the time is over. True: nothing was cut."""
        self.begin()
        assert self._task is not None  # noqa: S101 - begin has set it
        return await asyncio.shield(self._task)

    async def wait_outbound(self, seconds: float) -> None:
        """Wait at most so long for what the app still has under way through the sidecar."""
        deadline = time.monotonic() + seconds
        while self._proxy.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - once, and the data path has no waiters
            await asyncio.sleep(OUTBOUND_POLL)

    def progress(self) -> dict[str, Any]:
        """Where it stands, for people: phase, exchanges in flight, seconds left at most."""
        phase = self.phase
        over = phase in (Phase.SERVING, Phase.DRAINED)
        left = 0.0 if over else max(0.0, self._deadline - time.monotonic())
        return {"phase": phase, "inFlight": self._proxy.in_flight, "secondsLeft": round(left, 1)}

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """The progress now, then once a second while it lasts, then how it ended (with ``complete``)."""
        self.begin()
        assert self._task is not None  # noqa: S101 - begin has set it
        while not self._task.done():
            yield self.progress()
            await asyncio.wait((self._task,), timeout=PROGRESS_INTERVAL)
        yield {**self.progress(), "complete": self.complete}

    async def _run(self, budget: float) -> bool:
        began = time.monotonic()
        complete = await self._proxy.drained(budget)
        seconds = round(time.monotonic() - began, 3)
        left = self._proxy.in_flight
        if complete:
            get_logger().info("drain complete", phase=Phase.DRAINED, in_flight=left, seconds=seconds)
        else:
            get_logger().warning("drain out of time", phase=Phase.DRAINED, in_flight=left, seconds=seconds)
        return complete
