"""Which kinds the API server serves beyond its own: those of the Gateway API and of the Prometheus operator.

Their definitions come and go with other people's charts, at any time. So the operator asks the discovery documents at
its start and then from time to time, and at once when a write finds its kind gone; it needs no permission for that.
A definition that is being deleted still serves reads, while its objects go; it counts as gone from then on. A write by
server-side apply would make an object of it all the same, for which the definition then waits up to a minute. So of an
object that was there and is gone, `children` asks first whether its kind is still to be written to.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import structlog

from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.defaults import Platform
from nova_operator.kinds import HTTP_ROUTE, POD_MONITOR, PROMETHEUS_RULE

LEAST_PAUSE = 0.5
"""Seconds between two questions, however many doubts there are."""

log = structlog.get_logger()


class Discovery:
    """Asks `every` so many seconds, or when somebody doubts."""

    def __init__(self, cluster: Cluster, every: float) -> None:
        self._cluster = cluster
        self._every = every
        self._doubt = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Discovery every={self._every} doubted={self._doubt.is_set()}>"

    def doubt(self) -> None:
        """A kind that should be there was not: ask soon."""
        self._doubt.set()

    async def platform(self, known: Platform) -> Platform:
        """`known`, with the kinds that are served now. Raises ClusterError."""
        self._doubt.clear()
        routes, monitors, rules = await asyncio.gather(
            *(self._cluster.serves(kind) for kind in (HTTP_ROUTE, POD_MONITOR, PROMETHEUS_RULE))
        )
        persistence = routes and await self._cluster.declares(HTTP_ROUTE, ("spec", "rules", "sessionPersistence"))
        return msgspec.structs.replace(
            known, http_routes=routes, session_persistence=persistence, pod_monitors=monitors, prometheus_rules=rules
        )

    async def changed(self, known: Platform) -> None:
        """Returns when the API server serves other kinds than are known; not while it cannot be asked."""
        while True:
            await asyncio.sleep(LEAST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):  # without a task of its own, for which Kopf would wait
                    await self._doubt.wait()
            try:
                if await self.platform(known) != known:
                    return
            except ClusterError as error:
                log.debug("served kinds not known", error=str(error), retry_in=self._every)
