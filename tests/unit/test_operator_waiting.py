"""Tools that wait for a NovaService come to the right end: kstatus (Flux, kpt, Helm 4) and Argo CD.

kstatus' rules are written down here from its documentation, and Argo CD's health check is run in the Lua it runs in.
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from pathlib import Path
from typing import Any

import lupa.lua51 as lua
import pytest

from nova_api.model import builtins
from nova_api.status import NovaServiceStatus, RolloutStatus
from nova_operator import reasons, status
from nova_operator.last_good import Refused
from nova_operator.observation import Observation
from nova_operator.pods import Trouble
from tests.unit.test_operator_conditions import CRASHING, OLD, deployment, pod, seen

HEALTH = (Path(__file__).parents[2] / "docs/argocd-health.lua").read_text()
GENERATION = 3
LATE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]

TABLE: dict[str, tuple[Observation, str, str]] = {
    "all well": (seen(), "Current", "Healthy"),
    "scaled to zero": (seen(replicas=0, deployment=deployment(0), pods=(), reports={}), "Current", "Healthy"),
    "nothing there yet": (seen(deployment=None, pods=(), reports={}), "InProgress", "Progressing"),
    "pods are on their way": (seen(deployment=deployment(available=1)), "InProgress", "Progressing"),
    "the configuration is on its way": (seen(reports={"a": OLD, "b": OLD}), "InProgress", "Progressing"),
    "a sidecar is silent": (seen(reports={}, silent=frozenset("ab")), "InProgress", "Progressing"),
    "a pod crashes, which may end": (
        seen(pods=(pod("a"), pod("b", trouble=CRASHING)), deployment=deployment(available=1)),
        "InProgress",
        "Degraded",
    ),
    "the rollout is too late": (seen(deployment=deployment(available=1, conditions=LATE)), "Failed", "Degraded"),
    "the one before was too late, and another is there": (
        seen(deployment=deployment(available=1, conditions=LATE, observedGeneration=2)),
        "InProgress",
        "Progressing",
    ),
    "the spec cannot work": (seen(obstacle=Trouble(reasons.SPEC_INVALID, "no")), "Failed", "Degraded"),
    "a name is taken": (seen(obstacle=Trouble(reasons.CONFLICT, "no")), "Failed", "Degraded"),
    "the configuration was refused": (seen(refused=Refused("e", "t", "b", "$.x: no")), "Failed", "Degraded"),
    "an adopted pod has too little time": (seen(drain_needed=9, grace_period=5), "Current", "Degraded"),
    "the definition is newer": (seen(ignored=("$.spec.new",)), "Current", "Healthy"),
}


def document(observation: Observation, observed: int = GENERATION) -> dict[str, Any]:
    subject = status.Subject(name="shop", generation=observed, upstreams=())
    built = builtins(status.build(subject, observation, NovaServiceStatus(), "T"))
    return {"metadata": {"name": "shop", "generation": GENERATION}, "status": built}


def kstatus(resource: Any) -> str:
    """As its README has it: the generation first, then Reconciling and Stalled, then Ready."""
    if "deletionTimestamp" in resource["metadata"]:
        return "Terminating"
    told = resource.get("status") or {}
    if told.get("observedGeneration", resource["metadata"]["generation"]) != resource["metadata"]["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in told.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def argo(resource: Any) -> tuple[str, str]:
    runtime = lua.LuaRuntime(unpack_returned_tuples=True)
    runtime.globals().obj = runtime.table_from(resource, recursive=True)
    health = runtime.execute(HEALTH)
    return health.status, health.message


@pytest.mark.parametrize(("observation", "by_kstatus", "by_argo"), TABLE.values(), ids=TABLE)
def test_who_waits_knows_when_to_stop(observation: Observation, by_kstatus: str, by_argo: str) -> None:
    resource = document(observation)
    health, message = argo(resource)
    assert (kstatus(resource), health) == (by_kstatus, by_argo)
    assert message


def test_a_status_of_an_older_generation_decides_nothing() -> None:
    stale = document(seen(), GENERATION - 1)
    assert (kstatus(stale), argo(stale)[0]) == ("InProgress", "Progressing")


def test_argo_takes_a_service_without_status_for_unfinished() -> None:
    assert argo({"metadata": {"generation": 1}})[0] == "Progressing"


def test_a_gate_suspends_an_argo_application() -> None:
    gated = RolloutStatus(phase="Gated", message="waits for nova rollout promote")
    assert argo(document(seen(rollout=gated))) == ("Suspended", "waits for nova rollout promote")
