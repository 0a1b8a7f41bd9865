"""Writes Kubernetes Events. What could not be written is logged and forgotten: they tell a story and hold no state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.metadata import Manifest
from nova_operator.events import Allowance, Event, manifest
from nova_operator.kinds import EVENT

BURST_OF_ALL: Final = 500.0
REFILL_OF_ALL: Final = 25.0
"""Events of all services together: at once, and per second from then on. An upstream that a thousand services share
opens a thousand breakers."""

log = structlog.get_logger()


class Announcer:
    """`instance` names this replica in the events."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._everybody = Allowance(BURST_OF_ALL, REFILL_OF_ALL)

    async def announce(
        self, events: Iterable[Event], service: Manifest, allowance: Allowance, now: float, wall: datetime
    ) -> None:
        """Write the events of a service as far as its allowance goes; `now` in monotonic seconds."""
        stamp = wall.isoformat(timespec="microseconds").replace("+00:00", "Z")
        metadata = service["metadata"]
        about = {"service": metadata["name"], "namespace": metadata["namespace"]}
        for event in events:
            log.info("kubernetes event", **about, reason=event.reason, note=event.note)
            if not allowance.take(now) or not self._everybody.take(now):
                continue
            try:
                await self._cluster.create(EVENT, manifest(event, service, self._instance, uuid4().hex[:16], stamp))
            except ClusterError as error:
                log.warning("kubernetes event not written", **about, reason=event.reason, error=str(error))
