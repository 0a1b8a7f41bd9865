"""What is seen of a canary in the cluster, and what the children become."""

from datetime import UTC, datetime
from typing import Any

from nova_api import names
from nova_api.rollout import Rollout
from nova_api.status import RolloutStatus
from nova_operator.desired.track import Track, marked_hash, tracked
from nova_operator.pods import PodView
from nova_operator.rollout.conduct import Conductor, Scene

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
CANARY = Rollout(strategy="Canary")


def template(version: str, track: Track) -> Any:
    return tracked({"metadata": {"labels": {}}, "spec": {"containers": [{"image": version}]}}, track)


def deployment(name: str, version: str, track: Track) -> Any:
    metadata = {"name": name, "generation": 1, "labels": {names.LABEL_SERVICE: "shop"}, "annotations": {}}
    spec = {"replicas": 1, "template": template(version, track)}
    status = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    return {"kind": "Deployment", "metadata": metadata, "spec": spec, "status": status}


def pod(version: str, *, ready: bool = True, leaving: bool = False) -> PodView:
    return PodView(
        name=version,
        uid=version,
        resource_version="1",
        address="10.0.0.1",
        ready=ready,
        leaving=leaving,
        hash_annotation="",
        trouble=None,
        track="canary",
        template_hash=marked_hash(template(version, "canary")),
    )


def look(*pods: PodView, canary: Any = None) -> tuple[str, Any]:
    """While the canary `new` takes the place of `bad`, with these pods: the message, and what the Service selects."""
    wanted = deployment("shop", "new", "stable")
    spec = {"selector": {names.LABEL_SERVICE: "shop"}}
    service = {"kind": "Service", "metadata": {"name": "shop", "annotations": {}}, "spec": spec}
    scene = Scene(
        metadata={"name": "shop"},
        desired=(wanted, service),
        stable=deployment("shop", "old", "stable"),
        canary=canary or deployment("shop-canary", "new", "canary"),
        pods=pods,
        reports={},
    )
    desired = marked_hash(wanted["spec"]["template"])
    stamp = NOW.isoformat()
    before = RolloutStatus(phase="Progressing", step=1, weight=10, canary=desired, started=stamp, since=stamp)
    conductor = Conductor()
    after = conductor.decide(CANARY, before, scene, NOW)
    found = conductor.children(CANARY, after, scene)
    selected = next(one for one in found if one["kind"] == "Service")["spec"]["selector"]
    return after.message, selected.get(names.LABEL_TRACK)


def test_pods_of_a_canary_before_this_one_are_none_of_its_own() -> None:
    """The Deployment's own count does not tell them apart: one is available, and one was made of the new template."""
    none = ("0 of 1 pods of the canary are ready", names.STABLE)
    assert look(pod("bad"), pod("new", ready=False)) == none
    assert look(pod("bad"), pod("new", leaving=True)) == none
    assert look(pod("bad"), pod("new")) == ("1 of 1 pods of the canary are ready", None)


def test_a_canary_is_not_late_because_the_one_before_it_was() -> None:
    """Its Deployment says so until its controller has seen the new template: the one before may have hung while no
    operator looked, or while the spec could not be read."""
    canary = deployment("shop-canary", "new", "canary")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    canary["status"]["conditions"] = [late]
    assert look(canary=canary)[0].startswith("the canary's pods do not run")
    canary["metadata"]["generation"] = 2
    assert look(canary=canary) == ("0 of 1 pods of the canary are ready", names.STABLE)
