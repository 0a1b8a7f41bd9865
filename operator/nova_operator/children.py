"""Puts a plan into force, all of it or, where the API server would refuse a part, nothing; but a canary that serves
badly is taken back in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeGuard

import msgspec
import structlog

from nova_api import names
from nova_api.v1alpha1 import NovaService
from nova_operator import reasons, replicas
from nova_operator.cluster import Cluster, RefusedError, StaleError, UnavailableError
from nova_operator.creation import ObstacleError, create, is_creation
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    HTTP_ROUTE,
    JOB,
    NETWORK_POLICY,
    OPTIONAL_CHILDREN,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SERVICE,
    Kind,
)
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.plan import (
    Action,
    Apply,
    ChildKey,
    ConflictError,
    Prune,
    Replace,
    Settled,
    Wait,
    key_of,
    plan,
    settle,
)
from nova_operator.pods import Trouble
from nova_operator.session_secrets import SessionSecrets

_CHECKED: Final = (CONFIG_MAP, SERVICE, POD_DISRUPTION_BUDGET)
"""What the schema of a NovaService leaves nothing to refuse in."""

_OF_RELAYS: Final = (POD_DISRUPTION_BUDGET, NETWORK_POLICY, POD_MONITOR, PROMETHEUS_RULE)
"""Kinds, beside Deployments, of which relays have one of their own."""

ENDING: Final = 0.3
"""Seconds after which the API server's discovery tells that a definition is being deleted, at the latest, once the
first of its objects is gone; it was a few milliseconds each time."""

log = structlog.get_logger()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of putting the children in order."""

    obstacle: Trouble | None = None
    """Why the plan was not put into force, if so."""

    created: bool = False
    """Whether the service got its Deployment just now."""

    replaced: tuple[str, ...] = ()
    """Objects that were deleted and made anew, each with the reason, in words for people."""

    waiting: bool = False
    """Whether a child's name is still taken by an object on its way out."""

    again_in: float | None = None
    """Seconds until the Secret of its sessions is tried again, without which pods do not start; None if it has none."""


class Children:
    """The children of all services. `doubt` is called when the kind of one turns out not to be served."""

    def __init__(self, cluster: Cluster, mirror: Mirror, doubt: Callable[[], None]) -> None:
        self._doubt = doubt
        self._session_secrets = SessionSecrets(cluster)
        self._cluster = cluster
        self._mirror = mirror
        self._wary: set[str] = set()
        """Uids of services whose creation was undone: the next time it is asked first."""

    async def look(self, service: ServiceKey) -> None:
        """Read the children that are known from the API server itself; whether others are there, is asked for before
        they are made."""
        possible = possible_children(service.name)
        await self._read(
            service.namespace, [key for key in possible if self._mirror.has(key.kind, service.namespace, key.name)]
        )

    async def _read(self, namespace: str, children: Iterable[ChildKey]) -> None:
        keys = tuple(children)
        with self._mirror.asking() as heard:
            found = await asyncio.gather(*(self._cluster.get(key.kind, namespace, key.name) for key in keys))
        for key, manifest in zip(keys, found, strict=True):
            self._mirror.replace(key.kind, namespace, key.name, manifest, heard)

    async def put_in_order(self, service: NovaService, desired: tuple[Manifest, ...], settled: Settled) -> Outcome:
        """Make the children what they should be.

        Raises ClusterError for what may work later.
        """
        try:
            actions = plan(service, desired, self._observe(service), settled)
            creates = service.metadata.uid not in self._wary and is_creation(actions)
            if not creates:
                await self._look_for_missing(service, desired)
                actions = plan(service, desired, self._observe(service), settled)
                actions = await self._as_served(actions, settled)
                await self._rehearse(actions)
        except ConflictError as error:
            return Outcome(obstacle=Trouble(reasons.CONFLICT, str(error)))
        except ObstacleError as error:
            return Outcome(obstacle=error.trouble)
        try:
            again_in = await self._ensure_session_secret(service)
            await (self._create if creates else self._perform)(service, actions, settled)
        except ObstacleError as error:
            return Outcome(obstacle=error.trouble)
        self._wary.discard(service.metadata.uid)
        return Outcome(
            created=any(isinstance(action, Apply) and _makes(service, action) for action in actions),
            replaced=tuple(_said(action) for action in actions if isinstance(action, Replace) and _is_news(action)),
            waiting=any(isinstance(action, Wait) for action in actions),
            again_in=again_in,
        )

    async def take_back(self, service: NovaService, desired: tuple[Manifest, ...], settled: Settled) -> None:
        """Take a canary back though something is in the way of the spec as a whole: requests go to the stable version,
        which gets its pods again, and then the canary's go. All else waits, and once there is no canary any more, all.

        Raises ClusterError for what may work later.
        """
        name = service.metadata.name
        canary = ChildKey(DEPLOYMENT, names.canary(name))
        there = {child: one for child, one in self._observe(service).items() if _is_of_versions(name, child)}
        if canary not in there:
            return
        wanted = tuple(one for one in desired if key_of(one) in there)
        try:
            actions = plan(service, wanted, there, settled)
        except ConflictError:
            return
        writes = [action for action in actions if isinstance(action, Apply | Replace)]
        if await self._write_what_is_taken(service, writes, settled):
            gone = tuple(action for action in actions if isinstance(action, Prune) and action.child == canary)
            await self._perform(service, gone, settled)

    async def _write_what_is_taken(self, service: NovaService, writes: list[Apply | Replace], settled: Settled) -> bool:
        """Whether the canary's pods may go: no request is led to them, and the stable version gets its own. A route
        leads to the canary's Service, which selects the stable version by then. None waits for another, which may have
        a webhook that never answers."""
        taken = await asyncio.gather(*(self._is_taken(service, action, settled) for action in writes))
        return all(done or action.child.kind is HTTP_ROUTE for action, done in zip(writes, taken, strict=True))

    async def _is_taken(self, service: NovaService, action: Apply | Replace, settled: Settled) -> bool:
        try:
            await self._write_and_note(service, action, settled)
        except (ObstacleError, UnavailableError):  # of the kind's own webhook that is down, too
            return False
        return True

    def forget(self, service: ServiceKey) -> None:
        """The service is gone."""
        self._session_secrets.forget(service)

    async def _ensure_session_secret(self, service: NovaService) -> float | None:
        try:
            return await self._session_secrets.ensure(service)
        except RefusedError as error:
            message = f"the API server refuses Secret/{names.session_secret(service.metadata.name)}: {error}"
            raise ObstacleError(Trouble(reasons.CHILD_REJECTED, message)) from error

    async def _look_for_missing(self, service: NovaService, desired: tuple[Manifest, ...]) -> None:
        """The watches see labelled objects only, so before a name is taken for free the API server is asked: it may
        be somebody else's."""
        namespace = service.metadata.namespace
        wanted = [key_of(manifest) for manifest in desired]
        await self._read(namespace, [key for key in wanted if not self._mirror.has(key.kind, namespace, key.name)])

    def _observe(self, service: NovaService) -> Mapping[ChildKey, Manifest]:
        """What has the children's names, whoever owns it."""
        namespace, name = service.metadata.namespace, service.metadata.name
        found = {key: self._mirror.get(key.kind, namespace, key.name) for key in possible_children(name)}
        return {key: manifest for key, manifest in found.items() if manifest is not None}

    async def _as_served(self, actions: tuple[Action, ...], settled: Settled) -> tuple[Action, ...]:
        """With `Wait` for what belongs to a definition that is being deleted: its objects go first, and one that is
        written meanwhile holds it up. It is asked of objects that were there before; others cost nothing."""
        doubtful = [action for action in actions if _was_there(action, settled)]
        if not doubtful:
            return actions
        if any(action.why == "missing" for action in doubtful):
            await asyncio.sleep(ENDING)
        kinds = list({action.child.kind for action in doubtful})
        served = await asyncio.gather(*(self._cluster.serves(kind) for kind in kinds))
        ending = {kind for kind, serves in zip(kinds, served, strict=True) if not serves}
        if ending:
            self._doubt()
        return tuple(Wait(action.child) if action.child.kind in ending else action for action in actions)

    async def _rehearse(self, actions: tuple[Action, ...]) -> None:
        """Ask the API server whether it would take each write, before the first one is made. A single write needs no
        rehearsal; on a first creation only those do that carry what people write freely."""
        applies = [action for action in actions if isinstance(action, Apply)]
        if len(applies) < 2:
            return
        first = all(action.why == "missing" for action in applies)
        rehearsed = [action for action in applies if not first or action.child.kind not in _CHECKED]
        await asyncio.gather(*(self._write(action, dry_run=True) for action in rehearsed))

    async def _create(self, service: NovaService, actions: tuple[Action, ...], settled: Settled) -> None:
        self._wary.add(service.metadata.uid)
        await create(
            [action for action in actions if isinstance(action, Apply)],
            lambda action: self._write_and_note(service, action, settled),
            lambda made: self._delete(service.metadata.namespace, made),
        )

    async def _perform(self, service: NovaService, actions: tuple[Action, ...], settled: Settled) -> None:
        """What pods mount and run as first, then the Deployment, then what is no longer wanted."""
        writes = [action for action in actions if isinstance(action, Apply | Replace)]
        for late in (False, True):
            batch = [action for action in writes if (action.child.kind is DEPLOYMENT) is late]
            await asyncio.gather(*(self._write_and_note(service, action, settled) for action in batch))
        for action in actions:
            if isinstance(action, Prune):
                await self._delete(service.metadata.namespace, action)
                log.info("child pruned", **_about(service), child=str(action.child))

    async def _write_and_note(self, service: NovaService, action: Apply | Replace, settled: Settled) -> Manifest:
        if isinstance(action, Replace):
            await self._delete(service.metadata.namespace, action)
        frees = replicas.leaves_replicas(action.manifest)
        if frees and action.why == "changed":
            await replicas.let_go(self._cluster, action.manifest)
        with self._mirror.writing() as heard:
            result = await self._write(action)
            settled[action.child] = settle(action.manifest, result)  # a later answer may have somebody's drift in it
            new = isinstance(action, Replace) or action.why == "missing"
            if frees and new and action.child.name == service.metadata.name and service.spec.autoscaling:
                result = await replicas.begin_with(self._cluster, result, service.spec.autoscaling.min_replicas)
        self._mirror.written(action.child.kind, result, heard)
        log.info("child applied", **_about(service), child=str(action.child), why=action.why)
        return result

    async def _delete(self, namespace: str, action: Prune | Replace) -> None:
        await self._cluster.delete(action.child.kind, namespace, action.child.name, action.uid)
        gone = {"metadata": {"namespace": namespace, "name": action.child.name, "uid": action.uid}}
        self._mirror.drop(action.child.kind, gone)

    async def _write(self, action: Apply | Replace, *, dry_run: bool = False) -> Manifest:
        try:
            return await self._cluster.apply(action.manifest, dry_run=dry_run, absent=action.why == "missing")
        except RefusedError as error:
            message = f"the API server refuses {action.child}: {error}"
            raise ObstacleError(Trouble(reasons.CHILD_REJECTED, message)) from error
        except StaleError:
            if action.child.kind in OPTIONAL_CHILDREN:
                self._doubt()
            raise


def possible_children(service: str) -> tuple[ChildKey, ...]:
    """Every child that a service may have, wanted now or not."""
    return tuple(ChildKey(kind, name) for kind in CHILDREN + OPTIONAL_CHILDREN for name in _names(kind, service))


def _names(kind: Kind, service: str) -> tuple[str, ...]:
    if kind is CONFIG_MAP:
        return (names.config_map(service),)
    if kind is SERVICE:
        return service, names.endpoints(service), names.canary(service)
    if kind is JOB:
        return (names.database_job(service),)
    if kind is DEPLOYMENT:
        return service, names.canary(service), names.relay(service)
    if kind in _OF_RELAYS:
        return service, names.relay(service)
    return (service,)


def _is_of_versions(service: str, child: ChildKey) -> bool:
    """Whether a child says what pods the versions of a service have, or which of them get requests."""
    if child.kind is DEPLOYMENT:
        return child.name != names.relay(service)
    return child.kind is SERVICE or child.kind is HTTP_ROUTE


def _makes(service: NovaService, action: Apply) -> bool:
    own = action.child == ChildKey(DEPLOYMENT, service.metadata.name)
    return own and action.why == "missing"


def _is_news(action: Replace) -> bool:
    """A Job is made anew for each spec that needs one, of which DatabaseReady tells."""
    return action.child.kind is not JOB


def _said(action: Replace) -> str:
    return f"{action.child} was deleted and made anew: {action.why}"


def _was_there(action: Action, settled: Settled) -> TypeGuard[Apply]:
    """Whether it writes an object of an optional kind that is or was there."""
    if not isinstance(action, Apply) or action.child.kind not in OPTIONAL_CHILDREN:
        return False
    return action.why != "missing" or action.child in settled


def _about(service: NovaService) -> dict[str, str]:
    return {"service": service.metadata.name, "namespace": service.metadata.namespace}
