"""The operator against a real API server: what it makes, keeps, refuses to take and leaves behind."""

from collections.abc import Iterator
from typing import Any

import pytest

from nova_api import names
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH
from nova_operator.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    NOVA_SERVICE,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from tests.cluster.api import Api, eventually, until
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.scene import ALWAYS

SECONDS_FOR_DRIFT = 5.0
SECONDS_FOR_COLLECTION = 55.0
"""The garbage collector looks for new kinds every 30 s, so the first deletion after the definition may take that."""


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    """A namespace that refuses every pod which breaks Pod Security *restricted*."""
    with api.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


def child_name(kind: Kind, service: str) -> str:
    return names.config_map(service) if kind is CONFIG_MAP else service


def children(api: Api, namespace: str, service: str) -> dict[str, Any]:
    found = {kind.kind: api.find(kind, namespace, child_name(kind, service)) for kind in CHILDREN}
    return {kind: manifest for kind, manifest in found.items() if manifest is not None}


def make(api: Api, namespace: str, name: str, **spec: Any) -> str:
    """A service with all its children."""
    api.service(namespace, name, **{"replicas": 2, **spec})
    until(lambda: len(children(api, namespace, name)) == 5 and api.conditions(namespace, name))
    return name


def test_a_service_gets_all_its_children(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "all", upstreams=[{"name": "auth", "host": "auth", "port": 80}])
    uid = api.get(NOVA_SERVICE, namespace, "all")["metadata"]["uid"]
    for manifest in children(api, namespace, "all").values():
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (uid, True, True)
        managers = {entry["manager"] for entry in manifest["metadata"]["managedFields"]}
        assert "nova-operator" in managers
    pods = until(lambda: pods_of(api, namespace, "all", 2))
    (sidecar,) = pods[0]["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"], sidecar["image"]) == ("nova-sidecar", "Always", "sidecar:test")
    assert pods[0]["spec"]["hostAliases"][0]["ip"] == "127.77.0.1"


def pods_of(api: Api, namespace: str, service: str, count: int) -> list[Any] | None:
    """The pods, once there are that many: Pod Security *restricted* has let them in."""
    pods = api.list(Kind("v1", "Pod", "pods"), namespace, f"{names.LABEL_SERVICE}={service}")
    return pods if len(pods) == count else None


def test_the_operator_leaves_nothing_in_a_service_but_its_status(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    make(api, namespace, "untouched")
    metadata = api.get(NOVA_SERVICE, namespace, "untouched")["metadata"]
    assert ("annotations" in metadata, "finalizers" in metadata) == (False, False)


def test_a_changed_threshold_changes_the_config_map_alone(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "threshold")
    before = children(api, namespace, "threshold")
    api.change(namespace, "threshold", backpressure={"maxConcurrency": 7})
    version = before["ConfigMap"]["metadata"]["resourceVersion"]
    until(lambda: api.get(CONFIG_MAP, namespace, "threshold-nova")["metadata"]["resourceVersion"] != version)
    after = children(api, namespace, "threshold")
    assert '"maxConcurrency":7' in after["ConfigMap"]["data"][names.CONFIG_KEY]
    assert after["Deployment"]["metadata"]["generation"] == before["Deployment"]["metadata"]["generation"]
    for kind in ("Service", "ServiceAccount"):
        assert after[kind]["metadata"]["resourceVersion"] == before[kind]["metadata"]["resourceVersion"]


def test_fields_that_are_no_longer_wanted_go(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(
        api,
        namespace,
        "fewer",
        readinessProbe={"httpGet": {"path": "/", "port": 8080}},
        sessionAffinity={"type": "ClientIP", "timeout": "60s"},
        env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    )
    change = {"readinessProbe": None, "sessionAffinity": {"type": "None"}, "env": [{"name": "B", "value": "3"}]}
    api.change(namespace, "fewer", **change)

    def gone() -> None:
        (app,) = api.deployment(namespace, "fewer")["spec"]["template"]["spec"]["containers"]
        assert ("readinessProbe" in app, app["env"]) == (False, [{"name": "B", "value": "3"}])
        spec = api.get(SERVICE, namespace, "fewer")["spec"]
        assert (spec["sessionAffinity"], "sessionAffinityConfig" in spec) == ("None", False)

    eventually(gone)


DRIFTS: dict[str, tuple[Kind, Any]] = {
    "replicas": (DEPLOYMENT, {"spec": {"replicas": 7}}),
    "strategy": (DEPLOYMENT, {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
    "the label by which it is watched": (DEPLOYMENT, {"metadata": {"labels": {names.LABEL_SERVICE: None}}}),
    "the target port": (SERVICE, {"spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 8080}]}}),
    "the selector": (SERVICE, {"spec": {"selector": {names.LABEL_SERVICE: "other"}}}),
    "the document": (CONFIG_MAP, {"data": {names.CONFIG_KEY: "{}"}}),
    "the budget": (POD_DISRUPTION_BUDGET, {"spec": {"maxUnavailable": 100}}),
    "the token": (SERVICE_ACCOUNT, {"automountServiceAccountToken": True}),
    "the owner": (SERVICE, {"metadata": {"ownerReferences": None}}),
    "the hash of what was applied": (SERVICE, {"metadata": {"annotations": {ANNOTATION_MANIFEST_HASH: "x"}}}),
}


@pytest.mark.parametrize(("kind", "change"), DRIFTS.values(), ids=DRIFTS)
def test_drift_is_put_back_within_seconds(
    api: Api, namespace: str, operator: OperatorProcess, kind: Kind, change: Any
) -> None:
    if api.find(NOVA_SERVICE, namespace, "drift") is None:
        make(api, namespace, "drift")
    name = child_name(kind, "drift")
    before = said(api.get(kind, namespace, name))
    assert said(api.patch(kind, namespace, name, change)) != before

    def put_back() -> None:
        assert said(api.get(kind, namespace, name)) == before

    eventually(put_back, SECONDS_FOR_DRIFT)


def said(manifest: Any) -> Any:
    """What people and managers have set."""
    metadata = {key: manifest["metadata"].get(key) for key in ("labels", "ownerReferences")}
    annotation = manifest["metadata"]["annotations"][ANNOTATION_MANIFEST_HASH]
    return metadata, annotation, {k: v for k, v in manifest.items() if k not in {"metadata", "status"}}


@pytest.mark.parametrize("kind", ALWAYS, ids=lambda kind: kind.kind)
def test_a_deleted_child_comes_back(api: Api, namespace: str, operator: OperatorProcess, kind: Kind) -> None:
    if api.find(NOVA_SERVICE, namespace, "deleted") is None:
        make(api, namespace, "deleted")
    name = child_name(kind, "deleted")
    uid = api.get(kind, namespace, name)["metadata"]["uid"]
    api.delete(kind, namespace, name, propagationPolicy="Background")

    def back() -> None:
        assert api.get(kind, namespace, name)["metadata"]["uid"] != uid

    eventually(back, SECONDS_FOR_DRIFT)


def test_what_others_add_to_a_child_stays(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "shared")
    others = {"metadata": {"annotations": {"team.example/owner": "shop"}}, "spec": {"minReadySeconds": 3}}
    api.patch(DEPLOYMENT, namespace, "shared", others)
    api.change(namespace, "shared", replicas=3)
    until(lambda: api.deployment(namespace, "shared")["spec"]["replicas"] == 3)
    deployment = api.deployment(namespace, "shared")
    assert deployment["metadata"]["annotations"]["team.example/owner"] == "shop"
    assert deployment["spec"]["minReadySeconds"] == 3


def test_a_budget_that_is_no_longer_wanted_is_pruned(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "prune")
    api.change(namespace, "prune", replicas=1)
    until(lambda: api.find(POD_DISRUPTION_BUDGET, namespace, "prune") is None)
    api.change(namespace, "prune", replicas=2)
    until(lambda: api.find(POD_DISRUPTION_BUDGET, namespace, "prune") is not None)


def test_a_deleted_service_takes_its_children_along(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "gone")
    api.delete(NOVA_SERVICE, namespace, "gone")
    until(lambda: not children(api, namespace, "gone"), SECONDS_FOR_COLLECTION)
    assert api.find(NOVA_SERVICE, namespace, "gone") is None


def test_foreground_deletion_ends(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "foreground")
    api.delete(NOVA_SERVICE, namespace, "foreground", propagationPolicy="Foreground")
    until(lambda: api.find(NOVA_SERVICE, namespace, "foreground") is None, SECONDS_FOR_COLLECTION)
    assert not children(api, namespace, "foreground")


def test_a_service_that_is_made_again_at_once_works(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "again")
    old = api.deployment(namespace, "again")["metadata"]["uid"]
    api.delete(NOVA_SERVICE, namespace, "again")
    new = api.service(namespace, "again", replicas=2)["metadata"]["uid"]

    def made_again() -> None:
        for manifest in children(api, namespace, "again").values():
            assert manifest["metadata"]["ownerReferences"][0]["uid"] == new
        assert len(children(api, namespace, "again")) == 5
        assert api.deployment(namespace, "again")["metadata"]["uid"] != old
        assert api.conditions(namespace, "again").get("Ready") == ("False", "RollingOut")

    eventually(made_again, SECONDS_FOR_COLLECTION)


def test_orphans_are_taken_back(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "orphan")
    uid = api.deployment(namespace, "orphan")["metadata"]["uid"]
    api.delete(NOVA_SERVICE, namespace, "orphan", propagationPolicy="Orphan")
    until(lambda: api.find(NOVA_SERVICE, namespace, "orphan") is None, SECONDS_FOR_COLLECTION)
    assert "ownerReferences" not in api.deployment(namespace, "orphan")["metadata"]
    new = api.service(namespace, "orphan", replicas=2)["metadata"]["uid"]

    def adopted() -> None:
        metadata = api.deployment(namespace, "orphan")["metadata"]
        assert (metadata["uid"], metadata.get("ownerReferences", [{}])[0].get("uid")) == (uid, new)

    eventually(adopted)


@pytest.mark.parametrize("kind", [SERVICE, CONFIG_MAP], ids=lambda kind: kind.kind)
def test_somebody_elses_object_is_not_taken_over(
    api: Api, namespace: str, operator: OperatorProcess, kind: Kind
) -> None:
    service = f"theirs-{kind.plural}"
    body: Any = {"spec": {"ports": [{"port": 1}]}} if kind is SERVICE else {"data": {"mine": "1"}}
    theirs = api.create(kind, namespace, {"metadata": {"name": child_name(kind, service)}, **body})
    api.service(namespace, service)

    def refused() -> None:
        assert api.conditions(namespace, service).get("Ready") == ("False", "Conflict")

    eventually(refused)
    assert f"{kind.kind}/{child_name(kind, service)} exists" in api.message(namespace, service)
    assert children(api, namespace, service) == {kind.kind: theirs}
    api.delete(kind, namespace, child_name(kind, service))
    until(lambda: api.find(DEPLOYMENT, namespace, service), 30)


def test_an_immutable_selector_is_replaced(api: Api, namespace: str, operator: OperatorProcess) -> None:
    make(api, namespace, "selector")
    old = api.deployment(namespace, "selector")
    api.delete(DEPLOYMENT, namespace, "selector", propagationPolicy="Orphan")
    labels = {"app": "selector"}
    spec = old["spec"] | {"selector": {"matchLabels": labels}}
    spec["template"]["metadata"]["labels"] |= labels
    keep = {key: old["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    try:
        api.create(DEPLOYMENT, namespace, {"metadata": keep, "spec": spec})
    except Exception as error:  # the operator was faster, which is no fault: then there is nothing to replace
        assert "already exists" in str(error)  # noqa: PT017 - both outcomes are right

    def replaced() -> None:
        assert api.deployment(namespace, "selector")["spec"]["selector"] == {
            "matchLabels": {names.LABEL_SERVICE: "selector"}
        }

    eventually(replaced)
