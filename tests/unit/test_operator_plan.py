"""The plan and the comparison under it: what differs, what does not, and whose it is."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.compare import difference, fingerprint
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE
from nova_operator.plan import Action, Apply, ChildKey, ConflictError, Prune, Replace, Wait, key_of, plan, settle

DEFAULTS = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m"})
THE_DEPLOYMENT = ChildKey(DEPLOYMENT, "shop")
THE_BUDGET = ChildKey(POD_DISRUPTION_BUDGET, "shop")
THE_SERVICE = ChildKey(SERVICE, "shop")


def service(**spec: Any) -> NovaService:
    body = {"image": "registry.example/shop:1", "ports": [{"port": 8080}], "replicas": 2, **spec}
    metadata = {"name": "shop", "namespace": "market", "uid": "u-1", "generation": 1}
    return convert(
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}, NovaService
    )


def as_stored(manifest: Manifest) -> Manifest:
    """As the API server gives it back: a uid, versions, a status, defaults nobody asked for, somebody's annotation."""
    stored = deepcopy(manifest)
    stored["metadata"] |= {"uid": f"uid-of-{manifest['kind']}", "resourceVersion": "7", "generation": 1}
    stored["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    stored["status"] = {"observedGeneration": 1}
    if manifest["kind"] == "Deployment":
        stored["spec"]["revisionHistoryLimit"] = 10
        pod = stored["spec"]["template"]["spec"]
        pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
        pod["containers"].insert(0, {"name": "mesh-proxy", "image": "somebody/else:1"})
        pod["containers"][1]["terminationMessagePath"] = "/dev/termination-log"
    return stored


def cluster(of: NovaService) -> dict[ChildKey, Manifest]:
    return {key_of(manifest): as_stored(manifest) for manifest in desired_state(of, DEFAULTS)}


def planned(of: NovaService, observed: dict[ChildKey, Manifest], settled: Any = None) -> tuple[Action, ...]:
    return plan(of, desired_state(of, DEFAULTS), observed, settled or {})


def test_an_empty_cluster_gets_everything_in_order() -> None:
    actions = planned(service(), {})
    assert [(type(action), str(action.child)) for action in actions] == [
        (Apply, "ServiceAccount/shop"),
        (Apply, "ConfigMap/shop-nova"),
        (Apply, "Service/shop"),
        (Apply, "Service/shop-endpoints"),
        (Apply, "PodDisruptionBudget/shop"),
        (Apply, "Deployment/shop"),
    ]


def test_a_cluster_as_it_should_be_needs_nothing() -> None:
    assert planned(service(), cluster(service())) == ()


def test_only_what_changed_is_written() -> None:
    changed = service(backpressure={"maxConcurrency": 7})
    (action,) = planned(changed, cluster(service()))
    assert isinstance(action, Apply)
    assert (action.child.kind, action.why) == (CONFIG_MAP, "changed")


def test_a_field_that_is_no_longer_wanted_is_a_change() -> None:
    with_probe = service(readinessProbe={"httpGet": {"port": 8080}})
    (action,) = planned(service(), cluster(with_probe))
    assert (action.child, action.why) == (THE_DEPLOYMENT, "changed")  # type: ignore[union-attr]


def drift(path: list[str | int], value: Any, key: ChildKey = THE_DEPLOYMENT) -> tuple[Action, ...]:
    observed = cluster(service())
    below: Any = observed[key]
    for step in path[:-1]:
        below = below[step]
    if value is None:
        del below[path[-1]]
    else:
        below[path[-1]] = value
    return planned(service(), observed)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (["spec", "replicas"], 5, "spec.replicas"),
        (["spec", "template", "spec", "containers", 1, "image"], "evil:1", "spec.template.spec.containers[app].image"),
        (["spec", "template", "spec", "initContainers"], [], "spec.template.spec.initContainers[nova-sidecar]"),
        (["metadata", "labels", "nova.dev/service"], None, "metadata.labels.nova.dev/service"),
        (["metadata", "ownerReferences", 0, "blockOwnerDeletion"], False, "metadata.ownerReferences[shop]"),
    ],
)
def test_a_drifted_value_is_put_back(path: list[str | int], value: Any, where: str) -> None:
    (action,) = drift(path, value)
    assert isinstance(action, Apply)
    assert action.why.startswith(f"drifted: {where}")


def test_what_others_add_is_left_alone() -> None:
    assert drift(["spec", "minReadySeconds"], 3) == ()
    assert drift(["metadata", "labels", "team"], "shop") == ()


def test_another_spelling_of_the_same_value_is_no_drift_once_it_was_applied() -> None:
    observed = cluster(service())
    observed[THE_SERVICE]["spec"]["sessionAffinity"] = "none"  # as if the server spelled it that way
    assert len(planned(service(), observed)) == 1
    applied = next(m for m in desired_state(service(), DEFAULTS) if m["kind"] == "Service")
    settled = {THE_SERVICE: settle(applied, observed[THE_SERVICE])}
    assert planned(service(), observed, settled) == ()
    observed[THE_SERVICE]["spec"]["sessionAffinity"] = "ClientIP"
    assert len(planned(service(), observed, settled)) == 1


def test_a_selector_that_cannot_change_is_replaced_with_the_uid_that_was_seen() -> None:
    (action,) = drift(["spec", "selector"], {"matchLabels": {"app": "shop"}})
    assert isinstance(action, Replace)
    assert (action.child, action.uid) == (THE_DEPLOYMENT, "uid-of-Deployment")


def test_what_is_no_longer_wanted_is_pruned() -> None:
    one = service(replicas=1)
    prunes = [action for action in planned(one, cluster(service())) if isinstance(action, Prune)]
    assert prunes == [Prune(THE_BUDGET, "uid-of-PodDisruptionBudget")]


def test_somebody_elses_object_is_never_pruned() -> None:
    observed = cluster(service())
    observed[THE_BUDGET]["metadata"] |= {"ownerReferences": [], "labels": {}}
    assert not [action for action in planned(service(replicas=1), observed) if isinstance(action, Prune)]


def test_an_object_on_its_way_out_is_waited_for() -> None:
    actions = drift(["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z")
    assert actions == (Wait(THE_DEPLOYMENT),)


@pytest.mark.parametrize(
    "owner",
    [
        None,
        {"apiVersion": "v1", "kind": "Team", "name": "shop", "uid": "x", "controller": True},
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "name": "other", "uid": "x", "controller": True},
    ],
)
def test_somebody_elses_object_is_a_conflict_that_names_it(owner: Any) -> None:
    observed = cluster(service())
    observed[THE_SERVICE]["metadata"] |= {"ownerReferences": [owner] if owner else [], "labels": {"app": "shop"}}
    with pytest.raises(ConflictError, match=r"^Service/shop exists and is not this service's"):
        planned(service(), observed)


def test_children_of_a_deleted_namesake_are_waited_for() -> None:
    observed = cluster(service())
    observed[THE_SERVICE]["metadata"]["ownerReferences"][0]["uid"] = "u-0"
    with pytest.raises(ConflictError, match="of the same name that was deleted"):
        planned(service(), observed)


def test_an_orphan_is_taken_back() -> None:
    observed = cluster(service())
    del observed[THE_SERVICE]["metadata"]["ownerReferences"]
    (action,) = planned(service(), observed)
    assert (action.child, action.why) == (THE_SERVICE, "drifted: metadata.ownerReferences")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("desired", "observed", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": 2}, "a"),
        ({"a": {"b": []}}, {"a": {}}, None),
        ({"a": {"b": False}}, {"a": {}}, None),
        ({"a": {"b": True}}, {"a": {}}, "a.b"),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, "a[0]"),
        ({"a": ["x"]}, {"a": ["x", "y"]}, "a"),
        ({"a": [{"name": "n", "v": 1}]}, {"a": [{"name": "m"}, {"name": "n", "v": 1}]}, None),
        ({"a": [{"name": "n", "v": 1}]}, {"a": [{"name": "m"}]}, "a[n]"),
        ({"a": {"resources": {"cpu": "0.1"}}}, {"a": {"resources": {"cpu": "100m"}}}, None),
        ({"a": {"resources": {"cpu": 1}}}, {"a": {"resources": {"cpu": "1"}}}, None),
        ({"a": {"resources": {"memory": "1e9"}}}, {"a": {"resources": {"memory": "1G"}}}, None),
        ({"a": {"resources": {"memory": "1Ki"}}}, {"a": {"resources": {"memory": "1024"}}}, None),
        ({"a": {"resources": {"memory": "1Ki"}}}, {"a": {"resources": {"memory": "1k"}}}, "a.resources.memory"),
        ({"a": {"resources": {"cpu": "nonsense"}}}, {"a": {"resources": {"cpu": "1"}}}, "a.resources.cpu"),
        ({"a": {"env": "0.1"}}, {"a": {"env": "100m"}}, "a.env"),
        ({"a": {"b": 1}}, {"a": "text"}, "a"),
        ({"a": [1]}, {"a": {"0": 1}}, "a"),
        ({"a": [{"name": "n", "v": 1}, {"name": "n", "v": 2}]}, {"a": [{"name": "n", "v": 2}]}, "a"),
    ],
)
def test_desired_is_compared_as_a_subset(desired: Any, observed: Any, where: str | None) -> None:
    assert difference(desired, observed) == where


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=12,
)


@given(json)
def test_everything_is_a_subset_of_itself(value: Any) -> None:
    assert difference(value, deepcopy(value)) is None


@given(st.dictionaries(st.text(min_size=1, max_size=5), json, min_size=1, max_size=3), json)
def test_what_others_add_never_makes_a_difference(value: dict[str, Any], extra: Any) -> None:
    assert difference(value, {**value, "somebody else's": extra}) is None


def test_the_fingerprint_moves_with_what_is_said_and_not_with_the_status() -> None:
    stored = cluster(service())[THE_DEPLOYMENT]
    moved = deepcopy(stored)
    moved["status"] = {"replicas": 2}
    moved["metadata"] |= {"resourceVersion": "8", "generation": 2, "managedFields": [{}]}
    moved["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "2"  # its controller counts
    assert fingerprint(moved) == fingerprint(stored)
    moved["metadata"]["annotations"]["team"] = "shop"
    assert fingerprint(moved) != fingerprint(stored)
    del moved["metadata"]["annotations"]["team"]
    moved["spec"]["replicas"] = 9
    assert fingerprint(moved) != fingerprint(stored)
