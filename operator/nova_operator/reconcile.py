"""One NovaService, from whatever state it is in to where it should be. Level-based: it never asks what changed.

It reads the mirror, not the API server, except every few minutes, after anything went wrong, and before it takes a
child's name for free. Running it twice does nothing the second time, and it may be killed between any two calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final

import structlog

from nova_api import names, proxy
from nova_api.errors import ConfigError
from nova_api.model import builtins, convert
from nova_api.status import NovaServiceStatus
from nova_api.v1alpha1 import NovaService
from nova_operator import reasons, status
from nova_operator.announce import Announcer
from nova_operator.children import Children, Outcome
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.conditions import Observation
from nova_operator.delivery import Delivery
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.events import Allowance, Event, circuits, transitions
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, POD
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.plan import ChildKey
from nova_operator.pods import Trouble

OBSTACLE_RETRY: Final = 10.0
"""Seconds until a refused write or a taken name is tried again: a quota may have grown, a namesake be gone."""

WAITING_RETRY: Final = 1.0

log = structlog.get_logger()


class _Memory:
    """What is known of a service beyond the cluster; losing it costs a few reads and at most one write per child."""

    __slots__ = ("allowance", "look_at", "open_circuits", "settled")

    def __init__(self, look_at: float) -> None:
        self.look_at = look_at
        """When to read the API server itself again, in monotonic seconds."""
        self.settled: dict[ChildKey, tuple[str, str]] = {}
        self.open_circuits: frozenset[str] | None = None
        self.allowance = Allowance()


class Reconciler:
    """Reconciles one service at a call; calls for different services may overlap. `resync` in seconds; `doubt` is
    called when an optional kind was not there."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        delivery: Delivery,
        announcer: Announcer,
        defaults: Defaults,
        *,
        doubt: Callable[[], None],
        resync: float,
        random: Random,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._children = Children(cluster, mirror, doubt)
        self._delivery = delivery
        self._announcer = announcer
        self.defaults = defaults
        """Replaced when the API server comes to serve more, or less."""
        self._resync = resync
        self._random = random
        self._wall = wall
        self._memories: dict[ServiceKey, _Memory] = {}

    def __repr__(self) -> str:
        return f"<Reconciler services={len(self._memories)}>"

    async def reconcile(self, key: ServiceKey) -> float | None:
        """Returns the seconds until the service wants to be looked at again unasked, None if it is gone.

        Raises ClusterError for what may work later; the next run then reads the API server itself.
        """
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = _Memory(self._next_look())
        try:
            return await self._reconcile(key, memory)
        except ClusterError:
            memory.look_at = 0.0
            raise

    async def _reconcile(self, key: ServiceKey, memory: _Memory) -> float | None:
        if time.monotonic() >= memory.look_at:
            await self._look(key)
            memory.look_at = self._next_look()
        document = self._mirror.get(NOVA_SERVICE, *key)
        if document is None:
            self._memories.pop(key, None)
            self._delivery.forget(key)
            return None
        if "deletionTimestamp" not in document["metadata"]:  # else the garbage collector is taking the children away
            outcome, overtaken = await self._put_into_force(key, document, memory)
            if overtaken:
                return 0.0
            if outcome.waiting:
                memory.look_at = 0.0
                return WAITING_RETRY
            if outcome.obstacle is not None and outcome.obstacle.reason != reasons.SPEC_INVALID:
                memory.look_at = 0.0  # nobody tells when somebody else's object goes
                return OBSTACLE_RETRY * self._random.uniform(0.8, 1.2)
        return max(0.1, memory.look_at - time.monotonic())

    def _next_look(self) -> float:
        return time.monotonic() + self._resync * self._random.uniform(0.9, 1.1)

    async def _look(self, key: ServiceKey) -> None:
        """Read everything about the service from the API server itself."""
        with self._mirror.asking() as heard:
            service, pods, _ = await asyncio.gather(
                self._cluster.get(NOVA_SERVICE, *key),
                self._cluster.list(POD, key.namespace, f"{names.LABEL_SERVICE}={key.name}"),
                self._children.look(key),
            )
        self._mirror.replace(NOVA_SERVICE, key.namespace, key.name, service, heard)
        self._mirror.replace_pods(key, pods, heard)

    async def _put_into_force(self, key: ServiceKey, document: Manifest, memory: _Memory) -> tuple[Outcome, bool]:
        """The outcome, and whether the service was changed meanwhile (see `_write_status`)."""
        before = status.read(document.get("status"))
        service: NovaService | None = None
        try:
            service = convert(document, NovaService)
            desired = desired_state(service, self.defaults)
        except ConfigError as error:
            outcome = Outcome(obstacle=Trouble(reasons.SPEC_INVALID, str(error)))
            config_hash = before.config_hash
        else:
            outcome = await self._children.put_in_order(service, desired, memory.settled)
            config_hash = before.config_hash if outcome.obstacle else config_hash_of(desired)
        if config_hash:
            self._delivery.expect(key, config_hash)
        seen = self._observe(key, service, config_hash, outcome.obstacle)
        overtaken = await self._report(document, service, seen, memory, created=outcome.created)
        return outcome, overtaken

    def _observe(
        self, key: ServiceKey, service: NovaService | None, config_hash: str, obstacle: Trouble | None
    ) -> Observation:
        deployment = self._mirror.get(DEPLOYMENT, *key)
        running = (deployment or {}).get("spec", {}).get("replicas", 0)
        return Observation(
            replicas=service.spec.replicas if service is not None else running,
            deployment=deployment,
            pods=self._mirror.pods(key),
            reports=self._delivery.reports(key),
            config_hash=config_hash,
            config_age=self._delivery.age(key),
            obstacle=obstacle,
        )

    async def _report(
        self,
        document: Manifest,
        service: NovaService | None,
        seen: Observation,
        memory: _Memory,
        *,
        created: bool,
    ) -> bool:
        """Write the status if it changed, then the events of what changed in it; see `_write_status`."""
        metadata, before = document["metadata"], status.read(document.get("status"))
        subject = status.Subject(
            name=metadata["name"],
            generation=metadata["generation"],
            upstreams=None if service is None else tuple(upstream.name for upstream in service.spec.upstreams),
        )
        wall = self._wall()
        after = status.build(subject, seen, before, wall.isoformat(timespec="seconds").replace("+00:00", "Z"))
        overtaken = after != before and await self._write_status(document, after)
        events = [Event("Normal", reasons.CREATED, "Create", "created the Deployment")] if created else []
        events += transitions(before, after)
        now_open = status.open_circuits(seen)
        if memory.open_circuits is not None:  # else it is not known what was before
            events += circuits(memory.open_circuits, now_open)
        memory.open_circuits = now_open
        await self._announcer.announce(events, document, memory.allowance, time.monotonic(), wall)
        return overtaken

    async def _write_status(self, document: Manifest, after: NovaServiceStatus) -> bool:
        """Whether the service turned out to have been changed since it was read. It must be looked at once more then:
        the mirror knows the change from here, so its event, which comes later, is no news."""
        metadata = {name: document["metadata"][name] for name in ("name", "namespace", "uid")}
        patch = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind, "metadata": metadata}
        patch["status"] = builtins(after)
        written = await self._cluster.merge(NOVA_SERVICE, patch, subresource="status")
        self._mirror.put(NOVA_SERVICE, written)
        return _wanted_by_people(written) != _wanted_by_people(document)


def _wanted_by_people(document: Manifest) -> Manifest:
    """A NovaService without what the operator and the API server write themselves."""
    own = ("resourceVersion", "managedFields")
    metadata = {name: value for name, value in document["metadata"].items() if name not in own}
    return {**document, "metadata": metadata, "status": None}


def config_hash_of(desired: tuple[Manifest, ...]) -> str:
    """Hash of the proxy document among the children, as the sidecars will report it."""
    document = next(manifest for manifest in desired if manifest["kind"] == CONFIG_MAP.kind)
    return proxy.digest(document["data"][names.CONFIG_KEY].encode())
