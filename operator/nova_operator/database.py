"""Whether a service's database is ready for new pods, and what happens until it is. Pure.

    the Job of this spec    the Deployment
    is not there, or runs   keeps the pod template that it has; where there is none it is not made
    failed                  the same, and somebody is told
    is complete             gets its new template

So what a new version needs is in the database before its first pod starts, and while it is not, the version before
serves on: with its own ports too, since the sidecars' document is one for all pods (`rollout.ports`). A canary begins
when the Job is complete. A Job that runs anew for a template that is in force already, because somebody deleted it or
asked for a retry, holds up nothing.

A Job is told by the hash of all that it says, so one of an earlier spec proves nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from nova_api import names
from nova_operator import reasons
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest, resealed
from nova_operator.desired.track import marked_hash
from nova_operator.kinds import DEPLOYMENT, JOB
from nova_operator.rollout.ports import keep_ports
from nova_operator.verdict import Verdict

Phase = Literal["Preparing", "Failed", "Done"]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a service in the cluster."""

    job: Manifest | None
    stable: Manifest | None
    canary: Manifest | None
    config_map: Manifest | None


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the preparation is."""

    phase: Phase
    message: str
    holds: bool = False
    """Whether new pods wait for it."""


def hold(desired: tuple[Manifest, ...], scene: Scene) -> tuple[tuple[Manifest, ...], DatabaseState | None]:
    """The children as they may be now, and how far the preparation is; None for a service without a database."""
    job = _of(desired, JOB.kind)
    workload = _of(desired, DEPLOYMENT.kind)
    if job is None or workload is None:
        return desired, None
    name = job["metadata"]["name"]
    phase, why = _phase(job, scene.job)
    wanted = marked_hash(workload["spec"]["template"])
    in_force = {marked_hash(one["spec"]["template"]) for one in (scene.stable, scene.canary) if one is not None}
    holds = phase != "Done" and wanted not in in_force
    state = DatabaseState(phase=phase, message=_message(phase, name, why, holds=holds), holds=holds)
    if not holds:
        return desired, state
    if scene.stable is None or "deletionTimestamp" in scene.stable["metadata"]:
        return tuple(one for one in desired if one is not workload), state
    kept, _ = keep_ports(desired, scene.stable, scene.config_map)
    waiting = _with_template_of(workload, scene.stable)
    return tuple(waiting if one is workload else one for one in kept), state


def verdict(state: DatabaseState) -> Verdict:
    """The condition DatabaseReady."""
    if state.phase == "Done":
        return Verdict("True", reasons.DATABASE_PREPARED, state.message)
    reason = reasons.MIGRATION_FAILED if state.phase == "Failed" else reasons.DATABASE_PREPARING
    return Verdict("False", reason, state.message)


def _phase(wanted: Manifest, there: Manifest | None) -> tuple[Phase, str]:
    """https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions"""
    if there is None or _hash(there) != _hash(wanted) or "deletionTimestamp" in there["metadata"]:
        return "Preparing", ""
    conditions = (there.get("status") or {}).get("conditions") or ()
    holding = {one["type"]: one for one in conditions if one.get("status") == "True"}
    if "Complete" in holding:
        return "Done", ""
    if "Failed" in holding:
        return "Failed", str(holding["Failed"].get("reason") or "no reason given")
    return "Preparing", ""


def _message(phase: Phase, job: str, why: str, *, holds: bool) -> str:
    waiting = "; new pods wait for it, and the version before serves on" if holds else ""
    if phase == "Done":
        return f"Job/{job} is complete"
    if phase == "Preparing":
        return f"Job/{job} prepares the database{waiting}"
    return (
        f"Job/{job} failed ({why}){waiting}; see: kubectl logs job/{job}; correct what it says and change the spec, or "
        f"try it again: kubectl annotate nsvc {job.removesuffix('-migrate')} {names.ANNOTATION_RETRY}=1 --overwrite"
    )


def _with_template_of(workload: Manifest, stable: Manifest) -> Manifest:
    """The size is the spec's, the pods are those that there are."""
    template = stable["spec"]["template"]
    metadata = {name: value for name, value in template["metadata"].items() if value is not None}
    spec = {**workload["spec"], "template": {**template, "metadata": metadata}}
    return resealed({**workload, "spec": spec})


def _of(desired: tuple[Manifest, ...], kind: str) -> Manifest | None:
    return next((one for one in desired if one["kind"] == kind), None)


def _hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_MANIFEST_HASH, ""))
