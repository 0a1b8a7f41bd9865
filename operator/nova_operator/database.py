"""Whether a service's database is ready for new pods, and what happens until it is. Pure.

    the Job of this spec    the Deployment
    is not there, or runs   keeps the pod template that it has; where there is none it is not made
    cannot run, or failed   the same, and somebody is told
    is complete             gets its new template

So what a new version needs is in the database before its first pod starts, and while it is not, the version before
serves on: with its own ports too, since the sidecars' document is one for all pods (`rollout.ports`). A canary begins
when the Job is complete. A Job that runs anew for a template that is in force already, because somebody deleted it or
asked for a retry, holds up nothing. Relays of the outbox wait in the same way, for they need its tables.

A Job cannot run while a node does not take its pod, has not its image, or has no Secret with the key for it: the pod
says so, and the Job does not.

A Job is told by the hash of all that it says, so one of an earlier spec proves nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from nova_api import names
from nova_operator import reasons
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest, own_workload, resealed
from nova_operator.desired.track import marked_hash
from nova_operator.kinds import DEPLOYMENT, JOB
from nova_operator.pods import PodView, Trouble
from nova_operator.rollout.ports import keep_ports
from nova_operator.verdict import Verdict

Phase = Literal["Preparing", "Stuck", "Failed", "Done"]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a service in the cluster."""

    job: Manifest | None
    stable: Manifest | None
    canary: Manifest | None
    config_map: Manifest | None
    relay: Manifest | None = None
    """The Deployment of relays."""

    pods: tuple[PodView, ...] = ()
    """Those of Jobs that prepare the database."""


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the preparation is."""

    phase: Phase
    message: str
    holds: bool = False
    """Whether new pods wait for it."""

    waiting: str = ""
    """Hash of the pod template that waits for it."""

    reason: str = ""
    """Of what needs somebody: the Job cannot run, or failed."""


def hold(desired: tuple[Manifest, ...], scene: Scene) -> tuple[tuple[Manifest, ...], DatabaseState | None]:
    """The children as they may be now, and how far the preparation is; None for a service without a database."""
    job, workload = _of(desired, JOB.kind), own_workload(desired)
    if job is None or workload is None:
        return desired, None
    state = _state(job, scene)
    if state.phase != "Done":
        desired = _with_relays_of(desired, workload, scene.relay)
    wanted = marked_hash(workload["spec"]["template"])
    in_force = {marked_hash(one["spec"]["template"]) for one in (scene.stable, scene.canary) if one is not None}
    if state.phase == "Done" or wanted in in_force:
        return desired, state
    message = f"{state.message}; new pods wait for it, and the version before serves on"
    state = replace(state, message=message, holds=True, waiting=wanted)
    if scene.stable is None or _is_leaving(scene.stable):
        return tuple(one for one in desired if one is not workload), state
    kept, _ = keep_ports(desired, scene.stable, scene.config_map)
    waiting = _with_template_of(workload, scene.stable)
    return tuple(waiting if one is workload else one for one in kept), state


def verdict(state: DatabaseState) -> Verdict:
    """The condition DatabaseReady."""
    if state.phase == "Done":
        return Verdict("True", reasons.DATABASE_PREPARED, state.message)
    return Verdict("False", state.reason or reasons.DATABASE_PREPARING, state.message)


def trouble(state: DatabaseState) -> Trouble | None:
    """What needs somebody."""
    return Trouble(state.reason, state.message) if state.phase in {"Stuck", "Failed"} else None


def _state(wanted: Manifest, scene: Scene) -> DatabaseState:
    name, there = wanted["metadata"]["name"], scene.job
    if there is None or _hash(there) != _hash(wanted) or _is_leaving(there):
        return DatabaseState(phase="Preparing", message=f"Job/{name} prepares the database")
    ended = _ended(there)
    if "Complete" in ended:
        return DatabaseState(phase="Done", message=f"Job/{name} is complete")
    if "Failed" in ended:
        return DatabaseState(phase="Failed", message=_failure(name, ended["Failed"]), reason=reasons.MIGRATION_FAILED)
    pods = [pod for pod in scene.pods if pod.owner == there["metadata"]["uid"] and not pod.leaving]
    for stuck in (pod.trouble for pod in pods if pod.trouble is not None):
        return DatabaseState(phase="Stuck", message=f"Job/{name} cannot run: {stuck.message}", reason=stuck.reason)
    waits = "".join(_unmounted(wanted, pod) for pod in pods if pod.unmounted)
    return DatabaseState(phase="Preparing", message=f"Job/{name} prepares the database{waits}")


def _ended(job: Manifest) -> dict[str, Manifest]:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions"""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return {one["type"]: one for one in conditions if one.get("status") == "True"}


def _failure(job: str, condition: Manifest) -> str:
    return (
        f"Job/{job} failed ({condition.get('reason') or 'no reason given'}); see: kubectl logs job/{job}; correct what "
        "it says and change the spec, or try it again: kubectl annotate nsvc "
        f"{job.removesuffix('-migrate')} {names.ANNOTATION_RETRY}=1 --overwrite"
    )


def _unmounted(wanted: Manifest, pod: PodView) -> str:
    mounted = (volume.get("configMap") for volume in wanted["spec"]["template"]["spec"].get("volumes") or ())
    needs = "".join(f"is ConfigMap/{one['name']} there? " for one in mounted if one)
    return f"; pod {pod.name} waits for its volumes: {needs}see: kubectl describe pod {pod.name}"


def _with_relays_of(desired: tuple[Manifest, ...], workload: Manifest, there: Manifest | None) -> tuple[Manifest, ...]:
    """Relays stay as they are, and are not made."""
    waiting = (one if one["kind"] != DEPLOYMENT.kind or one is workload else _kept(one, there) for one in desired)
    return tuple(one for one in waiting if one is not None)


def _kept(relays: Manifest, there: Manifest | None) -> Manifest | None:
    return None if there is None or _is_leaving(there) else _with_template_of(relays, there)


def _with_template_of(workload: Manifest, stable: Manifest) -> Manifest:
    """The size is the spec's, the pods are those that there are."""
    template = stable["spec"]["template"]
    metadata = {name: value for name, value in template["metadata"].items() if value is not None}
    spec = {**workload["spec"], "template": {**template, "metadata": metadata}}
    return resealed({**workload, "spec": spec})


def _is_leaving(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _of(desired: tuple[Manifest, ...], kind: str) -> Manifest | None:
    return next((one for one in desired if one["kind"] == kind), None)


def _hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_MANIFEST_HASH, ""))
