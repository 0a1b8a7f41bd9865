"""Adopts Deployments for services with workloadRef, and gives them back. What is written, `adoption` decides.

    finalizer on the NovaService → its other children → the Deployment: sidecar on, fields disowned
    the Deployment: spec back, label off → finalizer off

Killed between any two calls it finishes later: while the finalizer is there, the service may have adopted something,
and what it has adopted carries its name. A Deployment is found by name until it is adopted, and watched afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator import reasons
from nova_operator.adoption import (
    FINALIZER,
    Write,
    adopt,
    disown,
    give_back,
    holder,
    is_marked,
    let_go,
    read,
    settle,
)
from nova_operator.children import Children, Outcome
from nova_operator.cluster import Cluster, RefusedError, StaleError
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest, workload_name
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.plan import ChildKey, ConflictError, Settled
from nova_operator.pods import Trouble

log = structlog.get_logger()

ATTEMPTS: Final = 5
"""Writes before somebody else who is always faster is left alone for a while."""


class Adopter:
    """The adopted Deployments of all services. `wake` hears of a service whose turn has come since the Deployment that
    it names is free now."""

    def __init__(
        self, cluster: Cluster, mirror: Mirror, children: Children, wake: Callable[[ServiceKey], None]
    ) -> None:
        self._cluster = cluster
        self._mirror = mirror
        self._children = children
        self._wake = wake
        self._waiting: dict[ServiceKey, ServiceKey] = {}
        """By who waits: the service that has adopted the Deployment which the waiting one names."""
        self._holding: dict[ServiceKey, str | None] = {}
        """The only Deployment that a service has adopted, as far as this process made sure of it."""

    def __repr__(self) -> str:
        return f"<Adopter holding={sum(name is not None for name in self._holding.values())}>"

    async def put_in_order(
        self,
        document: Manifest,
        service: NovaService,
        desired: tuple[Manifest, ...],
        defaults: Defaults,
        settled: Settled,
    ) -> Outcome:
        """Make the children what they should be, an adopted Deployment among them, and give back what is no longer
        wanted. `document` is the service as it was read. Raises ClusterError for what may work later."""
        key = ServiceKey(service.metadata.namespace, service.metadata.name)
        reference = service.spec.workload_ref
        target = reference.name if reference is not None and reference.mode == "Adopt" else None
        if _holds(document):
            try:
                await self._give_back_others(key, target, named=reference.name if reference is not None else None)
            except RefusedError as error:
                message = f"a Deployment cannot be given back: {error}"
                return Outcome(obstacle=Trouble(reasons.CHILD_REJECTED, message))
        await self._set_finalizer(document, wanted=target is not None)
        if reference is not None:
            await self._read(key.namespace, reference.name)
        if target is None:
            return await self._children.put_in_order(service, desired, settled)
        return await self._adopt(service, desired, defaults, settled)

    async def leave(self, document: Manifest) -> None:
        """The service is being deleted: give back what it has adopted, and let it go. Raises ClusterError; then it has
        to be tried again, for the service stays until it is done. RefusedError: somebody has to act."""
        if not _holds(document):
            return
        key = ServiceKey(document["metadata"]["namespace"], document["metadata"]["name"])
        self._holding.pop(key, None)
        reference = (document.get("spec") or {}).get("workloadRef") or {}
        await self._give_back_others(key, None, named=reference.get("name"))
        await self._set_finalizer(document, wanted=False)
        self._holding.pop(key, None)

    async def look(self, key: ServiceKey) -> None:
        """Read the Deployment that the service has adopted from the API server itself."""
        name = self._holding.get(key)
        if name is not None:
            await self._ask(key.namespace, name)

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        self._holding.pop(key, None)
        self._waiting.pop(key, None)
        self._set_free(key)

    async def _adopt(
        self, service: NovaService, desired: tuple[Manifest, ...], defaults: Defaults, settled: Settled
    ) -> Outcome:
        child = ChildKey(DEPLOYMENT, workload_name(service))
        live = self._mirror.get(DEPLOYMENT, service.metadata.namespace, child.name)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return Outcome(obstacle=_missing(service, child))
        try:
            self._refuse_held(service, live)
            write = adopt(service, live, defaults, settled.get(child))
        except ConflictError as error:
            return Outcome(obstacle=Trouble(reasons.CONFLICT, str(error)))
        except ConfigError as error:
            return Outcome(obstacle=Trouble(reasons.WORKLOAD_UNSUITABLE, str(error)))
        outcome = await self._children.put_in_order(service, desired, settled)
        if write is None or outcome.obstacle is not None or outcome.waiting:
            return outcome
        return await self._write(service, child, write, settled) or outcome

    async def _write(self, service: NovaService, child: ChildKey, write: Write, settled: Settled) -> Outcome | None:
        key = ServiceKey(service.metadata.namespace, service.metadata.name)
        holding = self._holding.pop(key, None)  # until the operator has disowned what it writes
        with self._mirror.writing() as heard:
            try:
                result = await self._cluster.merge(DEPLOYMENT, write.patch)
            except RefusedError as error:
                message = f"the API server refuses the sidecar in {child}: {error}"
                return Outcome(obstacle=Trouble(reasons.CHILD_REJECTED, message))
            settled[child] = settle(write, result)
            self._mirror.written(DEPLOYMENT, result, heard)
            self._mirror.written(DEPLOYMENT, await self._until_written(result, disown), heard)
        if holding is not None:  # else the next run has to make sure
            self._holding[key] = holding
        about = {"service": key.name, "namespace": key.namespace}
        log.info("deployment adopted", **about, child=str(child), why=write.why)
        return None

    def _refuse_held(self, service: NovaService, live: Manifest) -> None:
        """One Deployment, one service. One that is gone, or never had it, holds nothing."""
        rival = holder(live, service)
        other = self._mirror.get(NOVA_SERVICE, service.metadata.namespace, rival) if rival is not None else None
        if other is not None and _holds(other):
            key = ServiceKey(service.metadata.namespace, service.metadata.name)
            self._waiting[key] = ServiceKey(key.namespace, other["metadata"]["name"])
            raise ConflictError(
                f"Deployment/{live['metadata']['name']} belongs to the NovaService {rival} already, and can have one "
                "sidecar; remove workloadRef from one of the two, and the other continues by itself"
            )

    async def _give_back_others(self, key: ServiceKey, keep: str | None, *, named: str | None) -> None:
        if self._holding.get(key, "") == keep:
            return
        for live in await self._find(key, named):
            if not _is_of(key, live) or "deletionTimestamp" in live["metadata"]:
                continue
            if live["metadata"]["name"] == keep:
                await self._until_written(live, disown)
            else:
                await self._give_back(key, live)
        self._holding[key] = keep

    async def _find(self, key: ServiceKey, named: str | None) -> list[Manifest]:
        """What the service may have adopted. The one that its spec names may have lost the label while no operator was
        there to put it back."""
        found = await self._cluster.list(DEPLOYMENT, key.namespace, f"{names.LABEL_SERVICE}={key.name}")
        if named is None or any(live["metadata"]["name"] == named for live in found):
            return found
        live = await self._cluster.get(DEPLOYMENT, key.namespace, named)
        return found if live is None else [*found, live]

    async def _give_back(self, key: ServiceKey, live: Manifest) -> None:
        """The label goes last: by it the Deployment is found again. Another service may take it at any moment."""
        live = await self._until_written(live, lambda seen: give_back(seen) if _is_of(key, seen) else None)
        if not _is_of(key, live):
            return
        result = await self._until_written(live, lambda seen: let_go(seen) if _is_of(key, seen) else None)
        if is_marked(result):
            return
        self._mirror.drop(DEPLOYMENT, result)  # no watch tells of it any more
        about = {"service": key.name, "namespace": key.namespace}
        log.info("deployment given back", **about, child=f"{DEPLOYMENT.kind}/{live['metadata']['name']}")
        self._set_free(key)

    def _set_free(self, key: ServiceKey) -> None:
        """Who waits for this service need not wait for the next try."""
        for waiting in [one for one, rival in self._waiting.items() if rival == key]:
            del self._waiting[waiting]
            self._wake(waiting)

    async def _until_written(self, live: Manifest, patch_of: Callable[[Manifest], Manifest | None]) -> Manifest:
        """Write a patch that follows from the object alone; the Deployment's controller, which writes to it whenever
        its pods change, is often faster. Raises StaleError where it always was."""
        for attempt in range(ATTEMPTS):
            patch = patch_of(live)
            if patch is None:
                break
            try:
                return await self._cluster.merge(DEPLOYMENT, patch)
            except StaleError:
                found = await self._cluster.get(DEPLOYMENT, live["metadata"]["namespace"], live["metadata"]["name"])
                if found is None or attempt == ATTEMPTS - 1:
                    raise
                live = found
        return live

    async def _set_finalizer(self, document: Manifest, *, wanted: bool) -> None:
        if _holds(document) is wanted:
            return
        metadata = document["metadata"]
        others = [name for name in metadata.get("finalizers") or () if name != FINALIZER]
        exactly = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        patch: dict[str, Any] = {"apiVersion": NOVA_SERVICE.api_version, "kind": NOVA_SERVICE.kind}
        patch["metadata"] = {**exactly, "finalizers": [*others, FINALIZER] if wanted else others}
        with self._mirror.writing() as heard:
            written = await self._cluster.merge(NOVA_SERVICE, patch)
        self._mirror.written(NOVA_SERVICE, written, heard)

    async def _read(self, namespace: str, name: str) -> None:
        """Ask for a Deployment that no watch tells of."""
        known = self._mirror.get(DEPLOYMENT, namespace, name)
        if known is None or not is_marked(known):
            await self._ask(namespace, name)

    async def _ask(self, namespace: str, name: str) -> None:
        with self._mirror.asking() as heard:
            found = await self._cluster.get(DEPLOYMENT, namespace, name)
        self._mirror.replace(DEPLOYMENT, namespace, name, found, heard)


def _holds(document: Manifest) -> bool:
    """Whether the service may have adopted something."""
    return FINALIZER in (document["metadata"].get("finalizers") or ())


def _is_of(key: ServiceKey, live: Manifest) -> bool:
    """Whether this service has adopted the Deployment."""
    adoption = read(live)
    return adoption is not None and adoption.service == key.name


def _missing(service: NovaService, child: ChildKey) -> Trouble:
    return Trouble(
        reasons.WORKLOAD_MISSING,
        f"there is no {child} in the namespace {service.metadata.namespace}; create it, or name another one in "
        "spec.workloadRef.name; the service then continues by itself",
    )
