"""One NovaService, from whatever state it is in to where it should be. Level-based: it never asks what changed.

It reads the mirror, not the API server, except after anything went wrong, and before it takes a child's name for free;
that the mirror misses nothing is the matter of `resync`. Running it twice does nothing the second time, and it may be
killed between any two calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final

import structlog

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.status import NovaServiceStatus, RolloutStatus
from nova_api.v1alpha1 import NovaService
from nova_operator import database, last_good, reasons, relays, spec, status
from nova_operator.adopter import Adopter
from nova_operator.announce import Announcer
from nova_operator.children import Children, Outcome
from nova_operator.cluster import Cluster, ClusterError, RefusedError, UnavailableError
from nova_operator.database import DatabaseState
from nova_operator.delivery import Delivery
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.effect import without_effect
from nova_operator.desired.metadata import Manifest, workload_name
from nova_operator.desired.pod_warnings import workload_warnings
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, JOB, NOVA_SERVICE, POD, TOOL_POD, Kind
from nova_operator.last_good import Stored
from nova_operator.metrics import Metrics
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.observation import Observation, RelayState, is_behind_its_pods, is_held_up, is_replacing
from nova_operator.plan import Settled
from nova_operator.pods import Trouble
from nova_operator.report import Reporter, Told
from nova_operator.rollout.pilot import LONGEST_LOOK, Pilot

OBSTACLE_RETRY: Final = 10.0
"""Seconds until a refused write or a taken name is tried again: a quota may have grown, a namesake be gone."""

WAITING_RETRY: Final = 1.0
"""Seconds until it is looked whether a name that an object on its way out still has is free."""

UNWATCHED_RETRY: Final = 3.0
"""Seconds until a Deployment is read again whose pods are injected, while it is on its way."""

HELD_UP_RETRY: Final = 20.0
"""The same while it is stuck: its pods tell when they come on, but not that its owner has thought better of it."""

log = structlog.get_logger()


class _Memory:
    """What is known of a service beyond the cluster; losing it costs a few reads and at most one write per child."""

    __slots__ = ("doubted", "settled", "told")

    def __init__(self) -> None:
        self.doubted = False
        """Whether the API server itself has to be read before the mirror is believed again."""
        self.settled: Settled = {}
        self.told = Told()


class Reconciler:
    """Reconciles one service at a call; calls for different services may overlap. `poll` and `resync` in seconds;
    `doubt` is called when an optional kind was not there; `missed` says what there is to say of pods without
    sidecar, `busy` whether services wait for their turn; `on_share` hears of services whose callers have to send a
    canary another share, `wake` of those that need a turn now."""

    def __init__(
        self,
        cluster: Cluster,
        mirror: Mirror,
        delivery: Delivery,
        announcer: Announcer,
        defaults: Defaults,
        *,
        doubt: Callable[[], None],
        missed: Callable[[ServiceKey], str] = lambda _: "",
        metrics: Metrics,
        on_share: Callable[[ServiceKey], None],
        wake: Callable[[ServiceKey], None],
        busy: Callable[[], bool] = lambda: False,
        poll: float,
        resync: float,
        random: Random,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._children = Children(cluster, mirror, doubt)
        self._adopter = Adopter(cluster, mirror, self._children, wake)
        self._delivery = delivery
        self._reporter = Reporter(cluster, mirror, announcer, metrics, wall, busy=busy)
        self._pilot = Pilot(
            cluster, mirror, delivery, metrics.rollout, look=min(LONGEST_LOOK, poll), wall=wall, on_share=on_share
        )
        self.defaults = defaults
        """Replaced when the API server comes to serve more, or less."""
        self._missed = missed
        self._resync = resync
        self._random = random
        self._memories: dict[ServiceKey, _Memory] = {}

    def __repr__(self) -> str:
        return f"<Reconciler services={len(self._memories)}>"

    async def reconcile(self, key: ServiceKey) -> float | None:
        """Returns the seconds until the service wants to be looked at again unasked, None if it is gone.

        Raises ClusterError for what may work later; the next run then reads the API server itself.
        """
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = _Memory()
        try:
            return await self._reconcile(key, memory)
        except ClusterError:
            memory.doubted = True
            raise

    async def _reconcile(self, key: ServiceKey, memory: _Memory) -> float | None:
        if memory.doubted:
            await self._look(key)
            memory.doubted = False
        document = self._mirror.get(NOVA_SERVICE, *key)
        if document is None:
            self._memories.pop(key, None)
            self._reporter.forget(memory.told)
            self._children.forget(key)
            self._delivery.forget(key)
            self._adopter.forget(key)
            self._pilot.forget(key)
            return None
        if "deletionTimestamp" in document["metadata"]:
            return await self._take_leave(key, document, memory)
        outcome, again = await self._put_into_force(key, document, memory)
        if again == 0:
            return 0.0
        wait = self._pause(outcome, memory)
        if wait is None:  # with a canary, a hold may be over
            leads = self._pilot.leads(key)
            wait = self._pilot.look if leads else self._next_turn()
        return wait if again is None else min(again, wait)

    def _pause(self, outcome: Outcome, memory: _Memory) -> float | None:
        """Seconds until it is tried again, if something was in the way of which no watch tells when it goes."""
        if outcome.waiting:
            memory.doubted = True
            return WAITING_RETRY
        if outcome.obstacle is None or outcome.obstacle.reason == reasons.SPEC_INVALID:
            return None
        if outcome.obstacle.reason != reasons.WORKLOAD_MISSING:  # for which is asked each time
            memory.doubted = True
        return OBSTACLE_RETRY * self._random.uniform(0.8, 1.2)

    async def _take_leave(self, key: ServiceKey, document: Manifest, memory: _Memory) -> float:
        """The garbage collector takes the children away; what was adopted is given back first."""
        try:
            await self._adopter.leave(document)
        except RefusedError as error:
            trouble = Trouble(reasons.CHILD_REJECTED, f"a Deployment cannot be given back: {error}")
            before = status.read(document.get("status"))
            seen = self._observe(key, None, None, before.config_hash, trouble, rollout=before.rollout)
            await self._reporter.report(document, None, seen, memory.told, created=False)
            return OBSTACLE_RETRY
        return self._next_turn()

    def _next_turn(self) -> float:
        """Seconds until a service of which nothing is heard has a turn all the same: for what no watch and no list
        tells of, such as Secrets. It costs no call by itself."""
        return max(0.1, self._resync * self._random.uniform(0.8, 1.0))

    async def _look(self, key: ServiceKey) -> None:
        """Read everything about the service from the API server itself."""
        with self._mirror.asking() as heard:
            service, pods, tools, *_ = await asyncio.gather(
                self._cluster.get(NOVA_SERVICE, *key),
                self._pods(POD, key),
                self._tools(key),
                self._children.look(key),
                self._adopter.look(key),
            )
        self._mirror.replace(NOVA_SERVICE, key.namespace, key.name, service, heard)
        self._mirror.replace_pods(POD, key, pods, heard)
        self._mirror.replace_pods(TOOL_POD, key, tools, heard)

    async def _pods(self, kind: Kind, key: ServiceKey) -> list[Manifest]:
        return await self._cluster.list(kind, key.namespace, f"{kind.label}={key.name}")

    async def _tools(self, key: ServiceKey) -> list[Manifest]:
        """Only a service with a database has any, and that has a Job."""
        there = self._mirror.has(JOB, key.namespace, names.database_job(key.name))
        return await self._pods(TOOL_POD, key) if there else []

    async def _put_into_force(
        self, key: ServiceKey, document: Manifest, memory: _Memory
    ) -> tuple[Outcome, float | None]:
        """The outcome, and when the service must be looked at once more (see `Reporter.report`)."""
        before = status.read(document.get("status"))
        reading: spec.Reading | None = None
        chosen: Stored | None = None
        rollout = before.rollout
        prepared: DatabaseState | None = None
        try:
            reading = spec.read(document)
            desired = desired_state(reading.service, self.defaults)
        except ConfigError as error:
            outcome = Outcome(obstacle=Trouble(reasons.SPEC_INVALID, str(error)))
        else:
            desired, prepared = self._held(key, desired)
            desired = self._pilot.prepare(key, reading.service, desired, rollout)
            desired, chosen = self._with_last_good(key, reading.service, desired, before)
            waiting = prepared.waiting if prepared else ""
            course = await self._pilot.steer(key, document, reading.service, desired, rollout, waiting=waiting)
            desired, rollout = course.desired, course.status
            outcome = await self._write(document, reading.service, desired, rollout, memory)
        config_hash = chosen.hash if chosen and not outcome.obstacle else before.config_hash
        if config_hash:
            self._delivery.expect(key, config_hash)
        if outcome.obstacle is None and not self._delivery.looked(key) and _speaks_of(before, document):
            return outcome, None  # what a process before this one saw stands until this one has asked the sidecars
        upstreams = None if reading is None else tuple(upstream.name for upstream in reading.service.spec.upstreams)
        obstacle = outcome.obstacle
        seen = self._observe(key, reading, chosen, config_hash, obstacle, rollout=rollout, prepared=prepared)
        again = await self._reporter.report(document, upstreams, seen, memory.told, created=outcome.created)
        turns = (
            again,
            UNWATCHED_RETRY if is_behind_its_pods(seen) else None,
            HELD_UP_RETRY if is_held_up(seen) else None,
            outcome.again_in if is_replacing(seen.deployment, seen.replicas, seen.rollout) else None,
        )
        return outcome, min((turn for turn in turns if turn is not None), default=None)

    async def _write(
        self,
        document: Manifest,
        service: NovaService,
        desired: tuple[Manifest, ...],
        rollout: RolloutStatus,
        memory: _Memory,
    ) -> Outcome:
        """The children, all or none. A canary that serves badly does not wait for what is in the way of the others."""
        try:
            outcome = await self._adopter.put_in_order(document, service, desired, self.defaults, memory.settled)
        except UnavailableError:  # of a webhook that is down, perhaps with the node that made the canary fail
            if rollout.phase == "Aborted":
                await self._children.take_back(service, desired, memory.settled)
            raise
        await self._reporter.replaced(document, outcome.replaced, memory.told)
        if outcome.obstacle is not None and rollout.phase == "Aborted":
            await self._children.take_back(service, desired, memory.settled)
        return outcome

    def _held(
        self, key: ServiceKey, desired: tuple[Manifest, ...]
    ) -> tuple[tuple[Manifest, ...], DatabaseState | None]:
        """The children, without new pods as long as the database is not ready for them; see `database`."""
        there = database.Scene(
            job=self._mirror.get(JOB, key.namespace, names.database_job(key.name)),
            stable=self._mirror.get(DEPLOYMENT, *key),
            canary=self._mirror.get(DEPLOYMENT, key.namespace, names.canary(key.name)),
            config_map=self._mirror.get(CONFIG_MAP, key.namespace, names.config_map(key.name)),
            relay=self._mirror.get(DEPLOYMENT, key.namespace, names.relay(key.name)),
            pods=self._mirror.tools(key, names.database_job(key.name)),
        )
        return database.hold(desired, there)

    def _with_last_good(
        self, key: ServiceKey, service: NovaService, desired: tuple[Manifest, ...], before: NovaServiceStatus
    ) -> tuple[tuple[Manifest, ...], Stored]:
        """The children with the configuration that is to be in force; see `last_good`."""
        deployment = self._deployment(key, service)
        fleet = last_good.Fleet(
            pods=self._mirror.pods(key),
            reports=self._delivery.reports(key),
            image=self._sidecar_image(service),
            replacing=is_replacing(deployment, spec.wanted_replicas(service, deployment), before.rollout),
            proven=before.config_hash if status.holds(before, "Converged") else "",
        )
        there = self._mirror.get(CONFIG_MAP, key.namespace, names.config_map(key.name))
        wanted = next(manifest for manifest in desired if manifest["kind"] == CONFIG_MAP.kind)
        chosen = last_good.choose(wanted["data"][names.CONFIG_KEY], last_good.read(there), fleet)
        written = last_good.write(wanted, chosen)
        return tuple(written if manifest is wanted else manifest for manifest in desired), chosen

    def _deployment(self, key: ServiceKey, service: NovaService | None) -> Manifest | None:
        """The service's own Deployment, or the one of workloadRef."""
        return self._mirror.get(DEPLOYMENT, key.namespace, key.name if service is None else workload_name(service))

    def _relays(self, key: ServiceKey, service: NovaService, prepared: DatabaseState | None) -> RelayState | None:
        policy = service.spec.database
        if policy is None or policy.outbox is None:
            return None
        return relays.state_of(
            key.name,
            policy.outbox,
            prepared=prepared,
            deployment=self._mirror.get(DEPLOYMENT, key.namespace, names.relay(key.name)),
            pods=self._mirror.tools(key, names.relay(key.name)),
        )

    def _sidecar_image(self, service: NovaService) -> str:
        return service.spec.sidecar.image or self.defaults.sidecar_image

    def _observe(
        self,
        key: ServiceKey,
        reading: spec.Reading | None,
        chosen: Stored | None,
        config_hash: str,
        obstacle: Trouble | None,
        *,
        rollout: RolloutStatus,
        prepared: DatabaseState | None = None,
    ) -> Observation:
        service = reading.service if reading else None
        deployment = self._deployment(key, service)
        return Observation(
            replicas=spec.wanted_replicas(service, deployment),
            deployment=deployment,
            canary=self._mirror.get(DEPLOYMENT, key.namespace, names.canary(key.name)),
            rollout=rollout,
            pods=self._mirror.pods(key),
            reports=self._delivery.reports(key),
            silent=self._delivery.silent(key),
            config_hash=config_hash,
            config_age=self._delivery.age(key),
            obstacle=obstacle,
            refused=chosen.refused if chosen else None,
            database=prepared,
            relays=self._relays(key, service, prepared) if service else None,
            sidecar_image=self._sidecar_image(service) if service else "",
            ignored=reading.ignored if reading else (),
            without_effect=without_effect(service, self.defaults.platform) if service and not obstacle else (),
            risks=workload_warnings(service, deployment, self.defaults.platform) if service else (),
            drain_needed=spec.drain_needed(service) if service else 0,
            grace_period=spec.grace_period(service, deployment) if service else 0,
            missed=self._missed(key),
            injected=spec.is_injected(service) if service else False,
        )


def _speaks_of(told: NovaServiceStatus, document: Manifest) -> bool:
    return told.observed_generation == document["metadata"]["generation"] and bool(told.conditions)
