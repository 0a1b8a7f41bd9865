"""The Job that prepares a database, and the rollout that waits for it."""

import json
from typing import Any

import pytest

from nova_api import proxy
from nova_api.database import DatabasePolicy
from nova_api.model import convert, decode_json
from nova_api.v1alpha1 import NovaService
from nova_operator import reasons
from nova_operator.conditions import assess
from nova_operator.database import Scene, hold
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.immutable import stuck
from nova_operator.observation import Observation
from nova_operator.pods import PodView, view

DEFAULTS = Defaults(sidecar_image="sidecar:test", sidecar_requests={"cpu": "50m"}, data_image="data:test")
DATABASE: Any = {"secretRef": "shop-db", "migrations": {"configMap": "shop-migrations"}}


def service(annotations: Any = None, **spec: Any) -> NovaService:
    metadata = {"name": "shop", "namespace": "market", "uid": "u-1", "generation": 1, "annotations": annotations or {}}
    body = {"image": "shop:1", "ports": [{"port": 8080}], "replicas": 2, "database": DATABASE, **spec}
    document = {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}
    return convert(document, NovaService)


def child(kind: str, children: tuple[Manifest, ...]) -> Manifest:
    return next(one for one in children if one["kind"] == kind)


def job(annotations: Any = None, **spec: Any) -> Manifest:
    return child("Job", desired_state(service(annotations, **spec), DEFAULTS))


def test_a_service_without_a_database_has_no_job() -> None:
    assert "Job" not in [one["kind"] for one in desired_state(service(database=None), DEFAULTS)]


def test_the_job_passes_pod_security_restricted_and_gets_its_url_from_the_secret_alone() -> None:
    made = job()
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (made["metadata"]["name"], container["image"]) == ("shop-migrate", "data:test")
    assert container["env"] == [
        {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "shop-db", "key": "url"}}}
    ]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
    }
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert (made["spec"]["backoffLimit"], made["spec"]["activeDeadlineSeconds"]) == (2, 1980)


def test_the_service_does_not_find_the_jobs_pods_among_its_own() -> None:
    labels = job()["spec"]["template"]["metadata"]["labels"]
    assert labels == {"nova.dev/tool-of": "shop", "app.kubernetes.io/name": "shop-migrate"}


def test_what_is_to_be_done_reaches_the_tools_in_the_words_of_the_spec() -> None:
    database = DATABASE | {
        "softDelete": {"tables": ["posts"], "mode": "Refuse"},
        "indexes": [{"table": "posts", "columns": ["user_id", "created_at desc"], "where": "deleted_at IS NULL"}],
        "lockTimeout": "250ms",
    }
    (container,) = job(database=database)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-P", "-m", "nova_data.main"]
    words = container["args"]
    assert words[:4] == ["apply", "--service", "shop", "--spec"]
    assert words[5:] == ["--folder", "/migrations"]
    assert decode_json(words[4].encode(), DatabasePolicy) == convert(database, DatabasePolicy)
    assert json.loads(words[4])["lockTimeout"] == "250ms"


def test_the_kubelet_changes_nothing_of_what_is_asked_for() -> None:
    """It would put the database's URL in place of `$(DATABASE_URL)`, and make one of two dollars."""
    index = {"table": "posts", "columns": ["id"], "where": "text = $$a$$ OR text = '$(DATABASE_URL)'"}
    (container,) = job(database=DATABASE | {"indexes": [index]})["spec"]["template"]["spec"]["containers"]
    asked = json.loads(container["args"][4].replace("$$", "$"))
    assert "$(" not in container["args"][4].replace("$$", "")
    assert asked["indexes"][0]["where"] == index["where"]


def test_files_come_from_a_config_map_or_are_copied_out_of_an_image() -> None:
    pod = job()["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "migrations", "configMap": {"name": "shop-migrations"}}]
    pod = job(database={"secretRef": "d", "migrations": {"image": "shop:1", "path": "/app/sql/"}})["spec"]["template"][
        "spec"
    ]
    (copying,) = pod["initContainers"]
    assert (copying["image"], copying["command"]) == ("shop:1", ["cp", "-R", "/app/sql/.", "/migrations"])
    assert pod["volumes"] == [{"name": "migrations", "emptyDir": {}}]
    pod = job(database={"secretRef": "d", "softDelete": {}})["spec"]["template"]["spec"]
    assert ("volumes" in pod, "volumeMounts" in pod["containers"][0]) == (False, False)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "shop:2"},
        {"annotations": {"nova.dev/retry": "1"}},
        {"database": DATABASE | {"secretRef": "other"}},
        {"database": DATABASE | {"timeout": "20m"}},
    ],
)
def test_what_concerns_it_makes_another_job(change: Any) -> None:
    assert stuck(job(**change), job()) == "what ran has to run anew"


def test_what_does_not_concern_it_leaves_it_as_it_is() -> None:
    assert stuck(job(replicas=5, backpressure={"maxConcurrency": 7}), job()) is None


# --- the rollout waits


def there(made: Manifest, condition: str | None = None, reason: str = "") -> Manifest:
    """The Job as the API server gives it back."""
    conditions = [{"type": condition, "status": "True", "reason": reason}] if condition else []
    return {**made, "status": {"conditions": conditions}}


def scene(job: Manifest | None, of: NovaService | None = None, **more: Any) -> Scene:
    """A cluster in which the children of a service are."""
    children = () if of is None else desired_state(of, DEFAULTS)
    found = {one["kind"]: one for one in children}
    usual = {"stable": found.get("Deployment"), "canary": None, "config_map": found.get("ConfigMap")}
    return Scene(job=job, **(usual | more))


def image_of(children: tuple[Manifest, ...]) -> str | None:
    found = [one for one in children if one["kind"] == "Deployment"]
    return found[0]["spec"]["template"]["spec"]["containers"][-1]["image"] if found else None


OLD = service(image="shop:1")
NEW = service(image="shop:2", replicas=3)
NEW_JOB = child("Job", desired_state(NEW, DEFAULTS))


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (None, "Preparing"),
        (there(job(), "Complete"), "Preparing"),
        (there(NEW_JOB), "Preparing"),
        (there(NEW_JOB, "SuccessCriteriaMet"), "Preparing"),
        (there(NEW_JOB, "Failed", "BackoffLimitExceeded"), "Failed"),
        (there(NEW_JOB, "Complete"), "Done"),
    ],
    ids=["none", "of before", "running", "about to be complete", "failed", "complete"],
)
def test_new_pods_wait_until_the_job_of_this_spec_is_complete(state: Manifest | None, phase: str) -> None:
    children, found = hold(desired_state(NEW, DEFAULTS), scene(state, OLD))
    assert found is not None
    assert (found.phase, found.holds) == (phase, phase != "Done")
    assert image_of(children) == ("shop:2" if phase == "Done" else "shop:1")
    assert child("Deployment", children)["spec"]["replicas"] == 3  # the size does not wait
    assert child("Job", children) == NEW_JOB


def test_a_first_deployment_is_made_when_the_job_is_complete() -> None:
    desired = desired_state(NEW, DEFAULTS)
    children, found = hold(desired, scene(None))
    assert image_of(children) is None
    assert [one for one in desired if one not in children] == [child("Deployment", desired)]
    assert found is not None
    assert found.holds
    children, _ = hold(desired, scene(there(child("Job", desired), "Complete")))
    assert children == desired


def test_a_job_that_runs_again_for_pods_that_there_are_holds_up_nothing() -> None:
    desired = desired_state(service({"nova.dev/retry": "2"}), DEFAULTS)
    children, found = hold(desired, scene(None, OLD))
    assert children == desired
    assert found is not None
    assert (found.phase, found.holds) == ("Preparing", False)


def test_a_canary_that_runs_is_not_held() -> None:
    desired = desired_state(NEW, DEFAULTS)
    children, found = hold(desired, scene(None, OLD, canary=child("Deployment", desired)))
    assert children == desired
    assert found is not None
    assert not found.holds


def test_the_version_before_keeps_its_ports_while_it_serves_on() -> None:
    moved = service(image="shop:2", ports=[{"port": 8080, "appPort": 9090}])
    children, _ = hold(desired_state(moved, DEFAULTS), scene(None, OLD))
    document = proxy.decode(child("ConfigMap", children)["data"]["config.json"].encode())
    assert [port.app.port for port in document.inbound] == [8080]


# --- what keeps it from running


def pod(owner: str = "j-1", **status: Any) -> PodView:
    """One of the Job's, as the operator sees it."""
    metadata = {
        "name": "shop-migrate-x",
        "uid": "p-1",
        "resourceVersion": "1",
        "labels": {"nova.dev/tool-of": "shop", "app.kubernetes.io/name": "shop-migrate"},
        "ownerReferences": [{"uid": owner, "controller": True}],
    }
    return view({"metadata": metadata, "status": status})


def waiting(reason: str, message: str, container: str = "database") -> Any:
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": container, "image": "data:test", "state": state}]


NO_KEY = "couldn't find key url in Secret market/shop-db"
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"containerStatuses": waiting("CreateContainerConfigError", NO_KEY)},
            reasons.CONTAINER_REFUSED,
            f"{NO_KEY}; as soon as that is there it goes on by itself",
        ),
        (
            {"containerStatuses": waiting("ImagePullBackOff", "no such host")},
            reasons.IMAGE_PULL_FAILED,
            "image data:test of container database cannot be pulled: no such host; check the operator's --data-image",
        ),
        (
            {"initContainerStatuses": waiting("ErrImagePull", "no such host", "migrations")},
            reasons.IMAGE_PULL_FAILED,
            "check spec.database.migrations.image",
        ),
        ({"conditions": [UNSCHEDULABLE]}, reasons.UNSCHEDULABLE, "0/3 nodes; add nodes"),
    ],
    ids=["key", "image", "image of the files", "node"],
)
def test_what_keeps_its_pod_from_running_is_said_at_once(status: Any, reason: str, words: str) -> None:
    said = conditions(running(), pod(**status))
    for kind in ("DatabaseReady", "Ready"):
        assert said[kind][:2] == ("False", reason)
        assert words in said[kind][2]
        assert "the version before serves on" in said[kind][2]
    assert said["Degraded"][:2] == ("True", reason)
    assert "Stalled" not in said  # it goes on by itself


def test_files_that_cannot_be_mounted_are_named_while_it_waits() -> None:
    scheduled = {"type": "PodScheduled", "status": "True"}
    waits = pod(conditions=[scheduled, {"type": "PodReadyToStartContainers", "status": "False"}])
    said = conditions(running(), waits)
    assert said["DatabaseReady"][:2] == ("False", reasons.DATABASE_PREPARING)
    assert "is ConfigMap/shop-migrations there? see: kubectl describe pod shop-migrate-x" in said["DatabaseReady"][2]


@pytest.mark.parametrize(
    "other", [pod("j-0", conditions=[UNSCHEDULABLE]), pod(phase="Failed")], ids=["before", "ended"]
)
def test_pods_of_the_job_before_and_pods_that_ended_say_nothing(other: PodView) -> None:
    assert conditions(running(), other)["DatabaseReady"][1] == reasons.DATABASE_PREPARING


def running() -> Manifest:
    """The Job as the API server gives it back."""
    return {**there(NEW_JOB), "metadata": {**NEW_JOB["metadata"], "uid": "j-1"}}


# --- what is said of it


def conditions(state: Manifest | None, *pods: PodView) -> dict[str, tuple[str, str, str]]:
    desired = desired_state(NEW, DEFAULTS)
    _, found = hold(desired, scene(state, OLD, pods=pods))
    counts = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
    seen = Observation(
        replicas=3,
        deployment={"metadata": {"generation": 1}, "status": {"observedGeneration": 1, **counts}},
        pods=(),
        reports={},
        config_hash="0123",
        database=found,
    )
    return {kind: (verdict.status, verdict.reason, verdict.message) for kind, verdict in assess(seen, ()).items()}


def test_while_it_runs_the_service_is_on_its_way() -> None:
    said = conditions(None)
    assert said["DatabaseReady"][:2] == said["Ready"][:2] == ("False", reasons.DATABASE_PREPARING)
    assert "the version before serves on" in said["Ready"][2]
    assert (said["Progressing"][0], said["Degraded"][0], "Stalled" in said) == ("True", "False", False)


def test_when_it_failed_somebody_is_told_what_to_do() -> None:
    said = conditions(there(NEW_JOB, "Failed", "BackoffLimitExceeded"))
    for kind in ("DatabaseReady", "Ready"):
        assert said[kind][:2] == ("False", reasons.MIGRATION_FAILED)
    for kind in ("Degraded", "Stalled"):
        assert said[kind][:2] == ("True", reasons.MIGRATION_FAILED)
    message = said["DatabaseReady"][2]
    for words in (
        "BackoffLimitExceeded",
        "kubectl logs job/shop-migrate",
        "kubectl annotate nsvc shop nova.dev/retry=1",
    ):
        assert words in message


def test_when_it_is_complete_nothing_more_is_said_than_that() -> None:
    said = conditions(there(NEW_JOB, "Complete"))
    assert said["DatabaseReady"][:2] == ("True", reasons.DATABASE_PREPARED)
    assert said["Ready"][:2] == ("True", reasons.PODS_READY)
