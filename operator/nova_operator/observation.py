"""What the status of a service follows from: its objects and sidecars as they were seen last. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from nova_api.status import RolloutStatus
from nova_operator import reasons
from nova_operator.database import DatabaseState
from nova_operator.deployments import deployment_condition, is_late, is_observed, is_rolled_out
from nova_operator.desired.metadata import Manifest
from nova_operator.last_good import Refused
from nova_operator.pods import PodView, Trouble
from nova_operator.rollout.wanted import UNDER_WAY
from nova_operator.sidecars import SidecarReport
from nova_operator.verdict import Verdict

_AT_REST: Final = frozenset({reasons.PROGRESS_DEADLINE_EXCEEDED, "NewReplicaSetAvailable", "DeploymentPaused"})
"""Reasons of a Deployment's condition Progressing with which its controller waits: for its pods, or for people. The
second stays when pods of a finished rollout fail later.
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status"""


class RelayState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of relays, see `relays`."""

    verdict: Verdict
    trouble: Trouble | None
    """What somebody has to do something about, whether other relays do the work meanwhile or not."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the conditions follow from."""

    replicas: int
    """Pods that the spec wants."""

    deployment: Manifest | None
    canary: Manifest | None = None
    """The Deployment of a canary."""

    rollout: RolloutStatus | None = None
    """Where a canary stands; None where that is as it was."""

    pods: tuple[PodView, ...]
    reports: Mapping[str, SidecarReport]
    """By pod uid."""

    silent: frozenset[str] = frozenset()
    """Uids of the pods whose sidecars were asked again and again and gave no answer."""

    config_hash: str
    """Hash of the configuration that all sidecars should run."""

    config_age: float = float("inf")
    """Seconds since that configuration was written, as far as this process knows."""

    obstacle: Trouble | None = None
    """Why the spec was not put into force, if it was not."""

    sidecar_image: str = ""
    """Image of the sidecars that the pods should have; empty where none is named."""

    refused: Refused | None = None
    """The configuration of this spec, where sidecars refused it and the last good one is in force in its place."""

    database: DatabaseState | None = None
    """How far the preparation of its database is; None where it has none."""

    relays: RelayState | None = None
    """The relays of its outbox; None where it has none."""

    ignored: tuple[str, ...] = ()
    """Paths of fields of the spec that this operator does not know."""

    without_effect: tuple[str, ...] = ()
    """What of the spec does nothing in this cluster, in words that say what to do."""

    risks: tuple[str, ...] = ()
    """What works worse than it could, because of how somebody else's pod is."""

    drain_needed: int = 0
    """Seconds that a pod needs to leave, by the spec."""

    grace_period: int = 0
    """Seconds that it has."""

    missed: str = ""
    """What is to be said of pods that should have the sidecar and came without; empty if there are none."""

    injected: bool = False
    """Whether the sidecar comes into the service's pods as they are created. A pod that asks for the sidecar of another
    kind of service is none of its pods."""

    @property
    def staying(self) -> tuple[PodView, ...]:
        """The pods that are not on their way out."""
        return tuple(pod for pod in self.pods if not pod.leaving)

    @property
    def heard(self) -> tuple[SidecarReport, ...]:
        """What the sidecars of those pods said."""
        return tuple(self.reports[pod.uid] for pod in self.staying if pod.uid in self.reports)


def runs_current(seen: Observation, pod: PodView) -> bool:
    """Whether the pod's sidecar said that it runs the current configuration."""
    report = seen.reports.get(pod.uid)
    return report is not None and report.config_hash == seen.config_hash


def is_behind_its_pods(seen: Observation) -> bool:
    """Whether the Deployment may have been read before its controller counted what the pods say: of one whose pods are
    injected no watch tells, only of the pods. Those that missed the sidecar are not heard of either. Nor is it
    so of one that is stuck, once its controller has called it late; see `is_held_up`."""
    if not seen.injected or seen.missed:
        return False
    counted: int = ((seen.deployment or {}).get("status") or {}).get("availableReplicas", 0)
    ready = sum(pod.ready for pod in seen.staying)
    if is_rolled_out(seen.deployment, seen.replicas):
        return counted > ready  # others may have the service's sidecar, too
    return counted != ready or seen.deployment is None or not _is_at_rest(seen.deployment)


def is_held_up(seen: Observation) -> bool:
    """Whether a Deployment whose pods are injected is not where it should be. What mends it may be no pod's doing, and
    then nothing tells of it: its owner takes a template back whose pods were refused, or pods that have no room."""
    return seen.injected and not is_rolled_out(seen.deployment, seen.replicas)


def _is_at_rest(deployment: Manifest) -> bool:
    """Whether the Deployment's controller has seen its current spec, and does nothing before its pods do."""
    return is_observed(deployment) and deployment_condition(deployment, "Progressing").get("reason") in _AT_REST


def is_replacing(deployment: Manifest | None, replicas: int, rollout: RolloutStatus | None) -> bool:
    """Whether the pods that there are give way to others: the Deployment's controller is still on its way there, and
    not too late, or a canary is under way, while which the Deployment may have nothing to do for days."""
    if rollout is not None and rollout.phase in UNDER_WAY:
        return True
    return deployment is not None and not is_late(deployment) and not is_rolled_out(deployment, replicas)
