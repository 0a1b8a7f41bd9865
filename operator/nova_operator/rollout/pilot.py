"""Steers the canaries of all services: writes each decision into the status before anything follows from it.

Killed before the write, nothing has happened; killed after it, the next operator finds the decision and acts on it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from nova_api import names
from nova_api.model import builtins
from nova_api.status import RolloutStatus
from nova_api.v1alpha1 import NovaService
from nova_operator.cluster import Cluster, StaleError
from nova_operator.delivery import Delivery
from nova_operator.desired.metadata import Manifest, own_workload
from nova_operator.desired.track import marked_hash
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.rollout.callers import with_canaries
from nova_operator.rollout.conduct import Conductor, Scene, callers_share
from nova_operator.rollout.machine import is_under_way
from nova_operator.rollout.ports import ADVICE, keep_ports
from nova_operator.rollout.wanted import UNDER_WAY
from nova_operator.rollout_metrics import RolloutMetrics

LONGEST_LOOK: Final = 2.0
"""Most seconds between two looks at a canary: a rollback takes one, besides what the test needs."""

log = structlog.get_logger()


class Course(msgspec.Struct, frozen=True):
    """What a service's children and its status should be."""

    desired: tuple[Manifest, ...]
    status: RolloutStatus


class Pilot:
    """`look` is the time between two looks at a canary, in seconds; `wall` gives the time; `on_share` hears of services
    whose callers have to send a canary another share."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        delivery: Delivery,
        metrics: RolloutMetrics,
        *,
        look: float,
        wall: Callable[[], datetime],
        on_share: Callable[[ServiceKey], None],
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._delivery = delivery
        self._metrics = metrics
        self.look = look
        self._wall = wall
        self._on_share = on_share
        self._conductors: dict[ServiceKey, Conductor] = {}
        self._shares: dict[ServiceKey, int] = {}
        """Share of the requests that callers send the canaries of their upstreams, as far as somebody asked."""
        self._unfit: set[ServiceKey] = set()
        """Services whose spec has other ports than their stable version."""
        metrics.canaries.set_function(lambda: len(self._conductors))

    def __repr__(self) -> str:
        return f"<Pilot canaries={len(self._conductors)}>"

    def leads(self, key: ServiceKey) -> bool:
        """Whether a service has a canary under way."""
        return key in self._conductors

    def forget(self, key: ServiceKey) -> None:
        """The service is gone, with its canary: callers must not go on looking for that, should one of the same name
        come without."""
        self._conductors.pop(key, None)
        self._unfit.discard(key)
        if self._shares.pop(key, 0):
            self._on_share(key)

    def weight(self, namespace: str, name: str) -> int:
        """Share of the requests that callers send to a service's canary, in percent; 0 without one."""
        key = ServiceKey(namespace, name)
        if key not in self._shares:  # nobody has steered it since this process began
            document = self._mirror.get(NOVA_SERVICE, *key)
            self._shares[key] = 0 if document is None else _written_share(document)
        return self._shares[key]

    def prepare(
        self, key: ServiceKey, service: NovaService, desired: tuple[Manifest, ...], before: RolloutStatus
    ) -> tuple[Manifest, ...]:
        """The children with the proxy document that both versions of the service can run, and with the canaries of what
        it calls in it."""
        self._unfit.discard(key)
        if service.spec.rollout.strategy == "Canary" and not _comes_into_force(desired, before):
            there = self._mirror.get(CONFIG_MAP, key.namespace, names.config_map(key.name))
            desired, moved = keep_ports(desired, self._mirror.get(DEPLOYMENT, *key), there)
            if moved:
                self._unfit.add(key)
        return with_canaries(service, desired, self.weight) if service.spec.upstreams else desired

    async def steer(
        self,
        key: ServiceKey,
        document: Manifest,
        service: NovaService,
        desired: tuple[Manifest, ...],
        before: RolloutStatus,
        *,
        waiting: str = "",
    ) -> Course:
        """Decide, write the decision down, and say what follows. `desired` are the children without a canary, `waiting`
        is the hash of the pod template that waits for the database.

        Raises ClusterError for what may work later; nothing of the decision is in force then.
        """
        rollout = service.spec.rollout
        if rollout.strategy == "Rolling" and before == RolloutStatus():
            return Course(desired, before)
        scene = await self._look(key, document, desired, waiting)
        conductor = self._conductors.get(key) or Conductor()
        after = conductor.decide(rollout, before, scene, self._wall())
        if _decision(after) != _decision(before):
            await self._write(document, after)
            self._count(before, after)
            about = {"service": key.name, "namespace": key.namespace}
            log.info("canary", **about, phase=after.phase, step=after.step, canary=after.canary, note=after.message)
        self._keep(key, conductor, after)
        self._tell_callers(key, callers_share(rollout, after, scene))
        return Course(conductor.children(rollout, after, scene), after)

    def _tell_callers(self, key: ServiceKey, share: int) -> None:
        known, self._shares[key] = self._shares.get(key, 0), share
        if known != share:
            self._on_share(key)

    def _keep(self, key: ServiceKey, conductor: Conductor, after: RolloutStatus) -> None:
        under_way = is_under_way(after)
        if under_way:
            self._conductors[key] = conductor
        else:
            self._conductors.pop(key, None)
        self._delivery.watch(key, self.look if under_way else None)

    async def _look(self, key: ServiceKey, document: Manifest, desired: tuple[Manifest, ...], waiting: str) -> Scene:
        """The stable Deployment may have lost the label by which it is watched; it must not be taken for missing."""
        stable = self._mirror.get(DEPLOYMENT, *key)
        if stable is None:
            with self._mirror.asking() as heard:
                stable = await self._cluster.get(DEPLOYMENT, *key)
            self._mirror.replace(DEPLOYMENT, *key, stable, heard)
        return Scene(
            metadata=document["metadata"],
            desired=desired,
            stable=stable,
            canary=self._mirror.get(DEPLOYMENT, key.namespace, names.canary(key.name)),
            waiting=waiting,
            unfit=ADVICE if key in self._unfit else "",
            pods=self._mirror.pods(key),
            reports=self._delivery.reports(key),
        )

    async def _write(self, document: Manifest, after: RolloutStatus) -> None:
        metadata = {name: document["metadata"][name] for name in ("name", "namespace", "uid")}
        patch = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "metadata": metadata}
        patch["status"] = {"rollout": builtins(after)}
        with self._mirror.writing() as heard:
            written = await self._cluster.merge(NOVA_SERVICE, patch, subresource="status")
        self._mirror.written(NOVA_SERVICE, written, heard)
        if written["metadata"]["generation"] != document["metadata"]["generation"]:
            raise StaleError("the spec changed while a canary was decided on")

    def _count(self, before: RolloutStatus, after: RolloutStatus) -> None:
        if is_under_way(after) and (after.started, after.step) != (before.started, before.step):
            self._metrics.steps.inc()
        if is_under_way(before) and after.started != before.started:
            self._metrics.ended("withdrawn")
        elif is_under_way(before) and after.phase in {"Promoted", "Aborted"}:
            self._metrics.ended("promoted" if after.phase == "Promoted" else "aborted")


def _comes_into_force(desired: tuple[Manifest, ...], before: RolloutStatus) -> bool:
    """Whether it was decided that the stable version gets this very template, and its ports with it; another one may
    have been asked for since."""
    deployment = own_workload(desired)
    wanted = marked_hash(deployment["spec"]["template"]) if deployment is not None else ""
    return before.phase == "Promoting" and before.canary == wanted


def _written_share(document: Manifest) -> int:
    """As far as the status tells; whether the canary has pods, only `steer` knows."""
    weights = ((document["spec"].get("rollout")) or {}).get("weights")
    rollout = (document.get("status") or {}).get("rollout") or {}
    under_way = rollout.get("phase") in UNDER_WAY and rollout.get("holdSince")
    return int(rollout.get("weight", 0)) if weights == "Callers" and under_way else 0


def _decision(status: RolloutStatus) -> tuple[Any, ...]:
    """What children follow from, and what must not be decided twice."""
    return (
        status.phase,
        status.step,
        status.weight,
        status.stable,
        status.canary,
        status.started,
        status.since,
        status.hold_since,
    )
