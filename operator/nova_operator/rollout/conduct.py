"""Leads the canary of one service from look to look: remembers what its sidecars counted, and asks the machine.

What it remembers can be lost: the status knows the state, and the sums as they were written down last.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from nova_api import names
from nova_api.rollout import Rollout
from nova_api.status import RolloutStatus, TrackFigures
from nova_operator.deployments import is_late, is_rolled_out
from nova_operator.desired.metadata import Manifest, own_workload
from nova_operator.desired.track import marked_hash, marked_track
from nova_operator.pods import PodView
from nova_operator.reasons import CRASH_LOOPING
from nova_operator.rollout.arrange import arrange
from nova_operator.rollout.command import read_command
from nova_operator.rollout.evidence import Evidence, Figures
from nova_operator.rollout.judge import Judgement, judge, p99
from nova_operator.rollout.machine import Seen, Version, decide, is_under_way
from nova_operator.rollout.wanted import Wanted, wanted
from nova_operator.sidecars import SidecarReport

WRITE_DOWN: Final = 10.0
"""Seconds after which new sums go into the status, if nothing else does."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a service in the cluster."""

    metadata: Mapping[str, Any]
    """Of the NovaService."""

    desired: tuple[Manifest, ...]
    """Its children, as they would be without a canary."""

    stable: Manifest | None
    """The Deployments that there are."""

    canary: Manifest | None
    waiting: str = ""
    unfit: str = ""
    """See `machine.Seen`."""

    pods: tuple[PodView, ...]
    reports: Mapping[str, SidecarReport]


class Conductor:
    """One service's canary, if it has one."""

    __slots__ = ("_evidence", "_written")

    def __init__(self) -> None:
        self._evidence = Evidence()
        self._written: datetime | None = None

    def __repr__(self) -> str:
        return f"<Conductor {self._evidence!r}>"

    def decide(self, rollout: Rollout, before: RolloutStatus, scene: Scene, now: datetime) -> RolloutStatus:
        """What the status should be from now on. It must be written before `children` are."""
        deployment = own_workload(scene.desired)
        if deployment is None or (rollout.strategy == "Rolling" and before == RolloutStatus()):
            return RolloutStatus()
        if is_under_way(before):
            self._look(before, scene)
        seen = _seen(scene, deployment, self._judge(rollout, before))
        after = decide(rollout, before, seen, now)
        return self._with_figures(before, after, now)

    def children(self, rollout: Rollout, status: RolloutStatus, scene: Scene) -> tuple[Manifest, ...]:
        """The children that follow from a status."""
        deployment = own_workload(scene.desired)
        if deployment is None:
            return scene.desired
        return arrange(scene.metadata["name"], scene.desired, _wanted(rollout, status, scene, deployment), scene.stable)

    def _look(self, status: RolloutStatus, scene: Scene) -> None:
        """A step is told by when it began; what was written down of it is where its sums go on."""
        step = (status.canary, status.started, status.step)
        stable, canary = _figures(status.stable_figures), _figures(status.canary_figures)
        self._evidence.begin(step, stable, canary)
        counters = [
            (pod.uid, _track(pod, status), report.traffic)
            for pod in scene.pods
            if (report := scene.reports.get(pod.uid)) is not None and report.traffic is not None
        ]
        self._evidence.take(counters)

    def _judge(self, rollout: Rollout, status: RolloutStatus) -> Judgement:
        if rollout.checks.mode == "Off" or not is_under_way(status):
            return Judgement("good", "the checks are off")
        stable, canary = self._evidence.of("stable"), self._evidence.of("canary")
        return judge(rollout.checks, stable, canary, steps=len(rollout.steps), alone=status.weight >= 100)

    def _with_figures(self, before: RolloutStatus, after: RolloutStatus, now: datetime) -> RolloutStatus:
        """The sums go into the status with each decision, else now and then: a write per look would be a flood."""
        same_step = (before.canary, before.started, before.step) == (after.canary, after.started, after.step)
        if not after.started or not same_step:
            return after
        unchanged = replace(after, stable_figures=before.stable_figures, canary_figures=before.canary_figures)
        recent = self._written is not None and (now - self._written).total_seconds() < WRITE_DOWN
        if not is_under_way(before) or (unchanged == before and recent):
            return unchanged
        self._written = now
        stable, canary = _written_down(self._evidence.of("stable")), _written_down(self._evidence.of("canary"))
        return replace(after, stable_figures=stable, canary_figures=canary)


def _seen(scene: Scene, deployment: Manifest, judgement: Judgement) -> Seen:
    autoscaled = "replicas" not in deployment["spec"]
    return Seen(
        desired=marked_hash(deployment["spec"]["template"]),
        stable=_version(scene.stable),
        canary=_canary(scene),
        replicas=_replicas(scene, deployment),
        judgement=judgement,
        command=read_command(scene.metadata),
        waiting=scene.waiting,
        unfit=scene.unfit,
        autoscaled=autoscaled,
    )


def _replicas(scene: Scene, deployment: Manifest) -> int:
    replicas: int | None = deployment["spec"].get("replicas")
    if replicas is None:
        replicas = ((scene.stable or {}).get("spec") or {}).get("replicas", 1)
    return replicas


def _wanted(rollout: Rollout, status: RolloutStatus, scene: Scene, deployment: Manifest) -> Wanted:
    desired = marked_hash(deployment["spec"]["template"])
    canary = _canary(scene)
    return wanted(
        rollout,
        status,
        replicas=_replicas(scene, deployment),
        canary_available=canary.available if canary is not None and canary.template == desired else 0,
        stable_tracked=_is_tracked(scene.stable),
        autoscaled="replicas" not in deployment["spec"],
    )


def callers_share(rollout: Rollout, status: RolloutStatus, scene: Scene) -> int:
    """Share of the requests that callers send to the canary, in percent; 0 where they are not who weighs."""
    deployment = own_workload(scene.desired)
    if rollout.weights != "Callers" or deployment is None or not is_under_way(status):
        return 0
    return _wanted(rollout, status, scene, deployment).canary_weight


def _version(deployment: Manifest | None, trouble: str = "") -> Version | None:
    if deployment is None or "deletionTimestamp" in deployment["metadata"]:
        return None
    spec, status = deployment["spec"], deployment.get("status") or {}
    replicas: int = spec.get("replicas", 1)
    return Version(
        template=marked_hash(spec["template"]),
        replicas=replicas,
        available=status.get("availableReplicas", 0),
        settled=is_rolled_out(deployment, replicas),
        tracked=_is_tracked(deployment),
        trouble=trouble,
    )


def _canary(scene: Scene) -> Version | None:
    """The canary with its own pods. While one takes the place of another its Deployment counts the pods of both, and
    those of the one before would pass for its own."""
    version = _version(scene.canary, _trouble(scene))
    if version is None:
        return None
    own = [pod for pod in scene.pods if pod.track == names.CANARY and pod.template_hash == version.template]
    return replace(version, available=sum(pod.ready and not pod.leaving for pod in own))


def _is_tracked(deployment: Manifest | None) -> bool:
    return deployment is not None and marked_track(deployment["spec"]["template"]) == names.STABLE


def _trouble(scene: Scene) -> str:
    """Pods of the canary that end again and again, or a rollout that its Deployment gave up."""
    if scene.canary is None:
        return ""
    template = marked_hash(scene.canary["spec"]["template"])
    for pod in scene.pods:
        mine = pod.track == names.CANARY and pod.template_hash == template
        if mine and pod.trouble is not None and pod.trouble.reason == CRASH_LOOPING:
            return pod.trouble.message
    return "they were not ready before the progress deadline" if is_late(scene.canary) else ""


def _track(pod: PodView, status: RolloutStatus) -> Literal["stable", "canary"] | None:
    """The version whose figures a pod's are; None for one of a canary before this one."""
    if pod.track != names.CANARY:
        return "stable"
    return "canary" if pod.template_hash == status.canary else None


def _figures(written: TrackFigures) -> Figures:
    return Figures(written.requests, written.failed)


def _written_down(figures: Figures) -> TrackFigures:
    middle = p99(figures)
    said = "" if middle is None else f"over {figures.bounds[-1]:g}s" if middle == float("inf") else f"{middle:.3g}s"
    return TrackFigures(requests=figures.requests, failed=figures.failed, p99=said)
