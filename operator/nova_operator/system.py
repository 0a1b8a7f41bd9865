"""The parts that act while a replica leads, wired together: news goes in through `feed`, and `run` does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import SystemRandom
from typing import Final

import msgspec

from nova_operator.admission.repair import Missed
from nova_operator.announce import Announcer
from nova_operator.cluster import Cluster
from nova_operator.delivery import Delivery
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.discovery import Discovery
from nova_operator.handlers import Feed, watched
from nova_operator.kinds import NOVA_SERVICE, Kind
from nova_operator.metrics import Metrics
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.reconcile import Reconciler
from nova_operator.relist import Relist
from nova_operator.resync import Resync
from nova_operator.runner import Runner
from nova_operator.sidecars import Sidecars
from nova_operator.watch import Stream, Watch

LOOKERS: Final = 64
"""Services whose sidecars are asked at once; more than workers, since a silent sidecar takes a second."""


BEHIND: Final = 0.5
"""Seconds that the next service has waited for its turn: then Events and counts wait, too."""


class System:
    """Works against a cluster and the sidecars in it. `poll`, `resync` and `discovery` in seconds, see
    `options`."""

    def __init__(
        self,
        cluster: Cluster,
        sidecars: Sidecars,
        defaults: Defaults,
        *,
        metrics: Metrics,
        identity: str,
        workers: int = 16,
        poll: float = 10.0,
        resync: float = 300.0,
        discovery: float = 30.0,
    ) -> None:
        self._cluster = cluster
        self.discovery = Discovery(cluster, discovery)
        random = SystemRandom()
        self.mirror = Mirror()
        self.missed = Missed()
        self.looks = Runner("look", self._look, LOOKERS, random, error=metrics.error)
        self._delivery = Delivery(
            cluster,
            sidecars,
            self.mirror,
            poll=poll,
            random=random,
            on_change=self._reports_changed,
            look_soon=self.looks.add,
            count=metrics.sidecars,
        )
        self._announcer = Announcer(cluster, identity, metrics, self._is_busy)
        self._reconciler = Reconciler(
            cluster,
            self.mirror,
            self._delivery,
            self._announcer,
            defaults,
            doubt=self.discovery.doubt,
            missed=self.missed.words,
            metrics=metrics,
            on_share=self._share_changed,
            wake=self._wake,
            busy=self._is_busy,
            poll=poll,
            resync=resync,
            random=random,
        )
        self.services = Runner(
            "reconcile", self.reconcile, workers, random, count=metrics.reconcile, error=metrics.error
        )
        self._relist = Relist(self._list_services)
        self._resync = Resync(self.list_anew, resync, random)
        self._namespaces: tuple[str | None, ...] = ()
        self._versions: dict[tuple[Kind, str | None], str] = {}
        self.feed = Feed(self.mirror, self.services.add, self._relist.told, self.services.lag)
        metrics.queue_depth.set_function(self.services.overdue)
        metrics.queue_age.set_function(self.services.lag)
        metrics.failing.set_function(self.services.failing)
        metrics.services.set_function(lambda: sum(1 for _ in self.mirror.services()))

    def __repr__(self) -> str:
        return f"<System {self.mirror!r} {self.services!r}>"

    @property
    def platform(self) -> Platform:
        """What the API server can do, as far as is known."""
        return self._reconciler.defaults.platform

    @property
    def watched(self) -> tuple[Kind, ...]:
        """The kinds of which news must come through `feed`."""
        return watched(self.platform)

    def use(self, platform: Platform) -> None:
        """The API server can do this from now on. Forgets objects of kinds that it no longer serves; `prime` has to
        follow, and the watches."""
        before = self.watched
        self._reconciler.defaults = msgspec.structs.replace(self._reconciler.defaults, platform=platform)
        for kind in set(before) - set(self.watched):
            self.mirror.clear(kind)

    async def prime(self, namespaces: Iterable[str]) -> None:
        """Begin with all there is in these namespaces, in all of them if there are none given. Raises ClusterError."""
        self._namespaces = tuple(namespaces) or (None,)
        self._relist.opening()
        self._versions.clear()
        for kind in self.watched:
            for namespace in self._namespaces:
                _, self._versions[kind, namespace] = await self._read(kind, namespace)
        for service in list(self.mirror.services()):
            self.services.add(service)

    def watches(self, stream: Stream) -> list[Watch]:
        """The operator's own, of all that is watched but the NovaServices; each goes on from where `prime` ended."""
        return [
            Watch(kind, namespace, version, stream, take=self.feed.take, list_anew=self.list_anew)
            for (kind, namespace), version in self._versions.items()
            if kind is not NOVA_SERVICE
        ]

    async def resync(self) -> None:
        """Look for what the watches may have missed, until cancelled: as long as they are open."""
        await self._resync.run([(kind, namespace) for kind in self.watched for namespace in self._namespaces])

    def opened(self) -> None:
        """Kopf's watch has been open for `relist.QUIET` seconds since `prime`."""
        self._relist.opened()

    def _wake(self, service: ServiceKey) -> None:
        self.services.add(service)

    async def reconcile(self, service: ServiceKey) -> float | None:
        """One reconcile, see `Reconciler`; `run` calls it, for each service that is due."""
        return await self._reconciler.reconcile(service)

    async def run(self) -> None:
        """Reconcile, and look at sidecars, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.services.run())
            group.create_task(self.looks.run())
            group.create_task(self._relist.run())
            group.create_task(self._announcer.run())

    async def list_anew(self, kind: Kind, namespace: str | None) -> str:
        """Take a complete list over, and have the services looked at to which it is news; the version it was read at.
        Raises ClusterError."""
        services, version = await self._read(kind, namespace)
        for service in services:
            self.services.add(service)
        return version

    async def _read(self, kind: Kind, namespace: str | None) -> tuple[set[ServiceKey], str]:
        """Read all objects of a kind; returns the services to which that is news, and the version it was read at.
        Raises ClusterError."""
        labels = "" if kind is NOVA_SERVICE else kind.label
        with self.mirror.asking() as heard:
            listed = await self._cluster.collection(kind, namespace, labels)
        return self.mirror.reset(kind, namespace, listed.items, heard), listed.version

    async def _list_services(self) -> None:
        for namespace in self._namespaces:
            await self.list_anew(NOVA_SERVICE, namespace)

    async def _look(self, service: ServiceKey) -> float | None:
        return await self._delivery.look(service)

    def _is_busy(self) -> bool:
        return self.services.lag() > BEHIND

    def _share_changed(self, service: ServiceKey) -> None:
        """The canary of a service gets another share: all that may call it have to be told. To ask too many costs a
        look at the mirror each, and no call."""
        for caller in list(self.mirror.naming(service.name)):
            self.services.add(caller)

    def _reports_changed(self, service: ServiceKey) -> None:
        self.services.add(service)
