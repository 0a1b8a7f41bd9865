"""When a status is written: at once if anybody waits for it, now and then where only counts have changed."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from nova_api.model import builtins
from nova_api.status import Condition, NovaServiceStatus, RolloutStatus, SidecarCount
from nova_operator import reasons, report, status
from nova_operator.announce import Announcer
from nova_operator.kinds import NOVA_SERVICE, Kind
from nova_operator.metrics import Metrics
from nova_operator.mirror import Mirror
from nova_operator.observation import Observation
from nova_operator.report import PROGRESS_PACE, PROGRESS_PACE_BEHIND, Reporter, Told


def condition(kind: str, value: Any, reason: str, message: str = "as it is") -> Condition:
    return Condition(
        type=kind,
        status=value,
        reason=reason,
        message=message,
        observed_generation=1,
        last_transition_time="2026-01-05T10:00:00Z",
    )


STARTING = NovaServiceStatus(
    observed_generation=1,
    conditions=(
        condition("Ready", "False", reasons.ROLLING_OUT, "0 of 2 pods are available"),
        condition("Converged", "False", reasons.NO_PODS),
        condition("Degraded", "False", reasons.AS_EXPECTED),
    ),
)
FURTHER = replace(
    STARTING,
    replicas=2,
    ready_replicas=1,
    sidecars=SidecarCount(configured=1, total=2, summary="1/2"),
    conditions=(
        condition("Ready", "False", reasons.ROLLING_OUT, "1 of 2 pods are available"),
        condition("Converged", "False", reasons.CONFIG_PENDING),
        STARTING.conditions[2],
    ),
)


def but(kind: str, value: str, reason: str) -> NovaServiceStatus:
    """The status further on, with another condition."""
    changed = condition(kind, value, reason)
    return replace(FURTHER, conditions=tuple(changed if one.type == kind else one for one in FURTHER.conditions))


def test_counts_are_progress() -> None:
    assert status.is_progress(STARTING, FURTHER)
    assert status.is_progress(FURTHER, STARTING)


WAITED_FOR = {
    "ready": but("Ready", "True", reasons.PODS_READY),
    "converged": but("Converged", "True", reasons.CONFIG_CURRENT),
    "in trouble": but("Degraded", "True", reasons.CRASH_LOOPING),
    "a sidecar does not answer": but("Converged", "False", reasons.SIDECAR_UNREACHABLE),
    "a new generation": replace(FURTHER, observed_generation=2),
    "another configuration": replace(FURTHER, config_hash="abc"),
    "a canary": replace(FURTHER, rollout=RolloutStatus(phase="Progressing")),
    "the first one": NovaServiceStatus(),
}


@pytest.mark.parametrize("after", WAITED_FOR.values(), ids=WAITED_FOR)
def test_all_else_is_waited_for(after: NovaServiceStatus) -> None:
    assert not status.is_progress(FURTHER, after)
    assert not status.is_progress(after, FURTHER)


class Writes:
    """A cluster that takes statuses."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.written: list[dict[str, Any]] = []

    async def merge(self, kind: Kind, manifest: Any, *, subresource: str = "") -> Any:
        assert (kind, subresource) == (NOVA_SERVICE, "status")
        self.written.append(manifest["status"])
        return service(1 + len(self.written), manifest["status"])


def service(version: int, said: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "shop", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {}, "status": said}


def seen(available: int) -> Observation:
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), available)
    deployment = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, **counts}}
    return Observation(replicas=2, deployment=deployment, pods=(), reports={}, config_hash="abc")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "behind"])
def test_progress_waits_and_what_is_waited_for_does_not(busy: bool) -> None:
    mirror = Mirror()
    cluster = Writes(mirror)
    announcer = Announcer(cluster, "test", Metrics())  # type: ignore[arg-type]  # it does not run
    wall = datetime(2026, 1, 5, 10, tzinfo=UTC)
    reporter = Reporter(cluster, mirror, announcer, Metrics(), lambda: wall, busy=lambda: busy)  # type: ignore[arg-type]  # only statuses are written
    told = Told()

    async def tell(available: int) -> float | None:
        document = mirror.get(NOVA_SERVICE, "ns", "shop") or service(1, builtins(NovaServiceStatus()))
        return await reporter.report(document, (), seen(available), told, created=False)

    assert asyncio.run(tell(0)) is None
    pause = asyncio.run(tell(1))
    longest = PROGRESS_PACE_BEHIND if busy else PROGRESS_PACE
    assert pause is not None
    assert 0 < pause <= longest
    assert pause > longest / 2
    assert len(cluster.written) == 1

    assert asyncio.run(tell(2)) is None  # all pods are ready
    assert cluster.written[-1]["readyReplicas"] == 2
    assert len(cluster.written) == 2


def test_progress_is_written_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PROGRESS_PACE", 0.0)
    mirror = Mirror()
    cluster = Writes(mirror)
    announcer = Announcer(cluster, "test", Metrics())  # type: ignore[arg-type]  # it does not run
    wall = datetime(2026, 1, 5, 10, tzinfo=UTC)
    reporter = Reporter(cluster, mirror, announcer, Metrics(), lambda: wall, busy=lambda: False)  # type: ignore[arg-type]  # only statuses are written
    told = Told()
    for available in (0, 1):
        document = mirror.get(NOVA_SERVICE, "ns", "shop") or service(1, builtins(NovaServiceStatus()))
        assert asyncio.run(reporter.report(document, (), seen(available), told, created=False)) is None
    assert [one["readyReplicas"] for one in cluster.written] == [0, 1]
