"""Writes Kubernetes Events. What could not be written is logged and forgotten: they tell a story and hold no state.

Nobody waits for one: they are written one after the other, beside the work, and not faster than `PACE` where there are
many, so that a thousand services that begin at once need no request more than their objects.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.metadata import Manifest
from nova_operator.events import Allowance, Event, manifest
from nova_operator.kinds import EVENT
from nova_operator.metrics import Metrics

BURST_OF_ALL: Final = 500.0
REFILL_OF_ALL: Final = 25.0
"""Events of all services together: at once, and per second from then on. An upstream that a thousand services share
opens a thousand breakers."""

PACE: Final = 0.05
"""Seconds between two events while more than `AT_ONCE` wait."""

AT_ONCE: Final = 20
MOST_WAITING: Final = 1000
LONGEST_HOLD: Final = 10.0
"""Seconds that an event waits for services that are due."""

log = structlog.get_logger()


class Announcer:
    """`instance` names this replica in the events; `busy` says whether services wait for their turn."""

    def __init__(
        self, cluster: Cluster, instance: str, metrics: Metrics, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._instance = instance
        self._busy = busy
        self._waiting: deque[tuple[Manifest, dict[str, str]]] = deque()
        self._wake = asyncio.Event()
        self._everybody = Allowance(BURST_OF_ALL, REFILL_OF_ALL)

    def __repr__(self) -> str:
        return f"<Announcer waiting={len(self._waiting)}>"

    async def announce(
        self, events: Iterable[Event], service: Manifest, allowance: Allowance, now: float, wall: datetime
    ) -> None:
        """Have the events of a service written as far as its allowance goes; `now` in monotonic seconds."""
        stamp = wall.isoformat(timespec="microseconds").replace("+00:00", "Z")
        metadata = service["metadata"]
        about = {"service": metadata["name"], "namespace": metadata["namespace"]}
        for event in events:
            log.info("kubernetes event", **about, reason=event.reason, note=event.note)
            if not allowance.take(now) or not self._everybody.take(now):
                self._metrics.event("bounded")
                continue
            document = manifest(event, service, self._instance, uuid4().hex[:16], stamp)
            self._waiting.append((document, {**about, "reason": event.reason}))
            if len(self._waiting) > MOST_WAITING:
                _, dropped = self._waiting.popleft()
                self._metrics.event("bounded")
                log.warning("kubernetes event not written", **dropped, error="too many are waiting")
            self._wake.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await self._wake.wait()
            while self._waiting:
                await self._let_work_pass()
                document, about = self._waiting.popleft()
                try:
                    await self._cluster.create(EVENT, document)
                    self._metrics.event("written")
                except ClusterError as error:
                    self._metrics.event("failed")
                    log.warning("kubernetes event not written", **about, error=str(error))
                await asyncio.sleep(PACE if len(self._waiting) > AT_ONCE else 0)
            self._wake.clear()

    async def _let_work_pass(self) -> None:
        """Services come first, for a while."""
        patience = LONGEST_HOLD
        while self._busy() and patience > 0:
            await asyncio.sleep(0.5)
            patience -= 0.5
