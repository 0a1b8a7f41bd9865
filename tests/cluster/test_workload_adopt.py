"""A Deployment that somebody else made: adopted, kept, shared with its owner, and given back as it was."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from nova_api import names
from nova_operator.adoption import FINALIZER
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, POD, SERVICE, SERVICE_ACCOUNT
from nova_operator.kube import path_of
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.workload import (
    UPSTREAMS,
    adopt,
    adopted,
    apply,
    delete,
    has_sidecar,
    is_adopted,
    managers,
    pod_of,
    said,
    web,
)

SECONDS_FOR_DRIFT = 5.0


def ready(api: Api, namespace: str, service: str, status: str, reason: str) -> None:
    def holds() -> None:
        assert api.conditions(namespace, service).get("Ready") == (status, reason)

    eventually(holds)


def test_the_sidecar_is_added_and_nothing_else_changes(api: Api, namespace: str, operator: OperatorProcess) -> None:
    before = adopted(api, namespace, "added", upstreams=UPSTREAMS)
    after = api.deployment(namespace, "added")
    assert "ownerReferences" not in after["metadata"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    pod, was = pod_of(after), pod_of(before)
    assert pod["containers"][0]["image"] == was["containers"][0]["image"]
    assert [one["name"] for one in pod["containers"][0]["env"]][-1] == "MODE"
    assert pod["terminationGracePeriodSeconds"] == 45
    assert {alias["ip"] for alias in pod["hostAliases"]} == {"127.77.0.1", "127.77.0.2"}
    assert after["spec"]["template"]["metadata"]["labels"] == {"app": "added", names.LABEL_SERVICE: "added-nova"}
    unchanged = ("replicas", "selector", "strategy", "revisionHistoryLimit")
    assert {key: after["spec"][key] for key in unchanged} == {key: before["spec"][key] for key in unchanged}
    pods = until(lambda: api.list(POD, namespace, f"{names.LABEL_SERVICE}=added-nova"))
    assert pods[0]["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    service = api.get(SERVICE, namespace, "added-nova")
    assert (service["spec"]["selector"], service["spec"]["ports"][0]["targetPort"]) == (
        {names.LABEL_SERVICE: "added-nova"},
        15100,
    )
    assert api.find(CONFIG_MAP, namespace, "added-nova-nova") is not None
    assert api.find(SERVICE_ACCOUNT, namespace, "added-nova") is None
    ready(api, namespace, "added-nova", "False", "RollingOut")
    assert "of 2 pods" in api.message(namespace, "added-nova")


def test_it_is_given_back_as_it_was(api: Api, namespace: str, operator: OperatorProcess) -> None:
    before = adopted(api, namespace, "back", upstreams=UPSTREAMS)
    assert api.get(NOVA_SERVICE, namespace, "back-nova")["metadata"]["finalizers"] == [FINALIZER]
    delete(api, namespace, "back")
    after = api.deployment(namespace, "back")
    assert said(after) == said(before)
    assert names.OPERATOR_NAME not in managers(after)


DRIFTS: dict[str, Any] = {
    "the sidecar": {"spec": {"template": {"spec": {"initContainers": None}}}},
    "the host aliases": {"spec": {"template": {"spec": {"hostAliases": None}}}},
    "the label of the pods": {"spec": {"template": {"metadata": {"labels": {names.LABEL_SERVICE: None}}}}},
    "the label by which it is watched": {"metadata": {"labels": {names.LABEL_SERVICE: None}}},
}


@pytest.mark.parametrize("change", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_put_back_within_seconds(api: Api, namespace: str, operator: OperatorProcess, change: Any) -> None:
    if api.find(NOVA_SERVICE, namespace, "drift-nova") is None:
        adopted(api, namespace, "drift", upstreams=UPSTREAMS)
    before = said(api.deployment(namespace, "drift"))
    assert said(api.patch(DEPLOYMENT, namespace, "drift", change)) != before

    def put_back() -> None:
        assert said(api.deployment(namespace, "drift")) == before

    eventually(put_back, SECONDS_FOR_DRIFT)


def test_what_its_owner_changes_stays_and_comes_back_with_it(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    before = adopted(api, namespace, "owner", upstreams=UPSTREAMS)
    change: Object = {
        "metadata": {"annotations": {"team.example/release": "2"}},
        "spec": {
            "replicas": 5,
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 120,
                    "containers": [{"name": "web", "image": "registry.example/web:2"}],
                    "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["db"]}],
                }
            },
        },
    }
    path = path_of(DEPLOYMENT, namespace, "owner")
    api.call("PATCH", path, change, "application/strategic-merge-patch+json")  # as kubectl apply and Helm 3 do
    expected = deepcopy(before)
    expected["spec"]["replicas"] = 5
    pod_of(expected)["containers"][0]["image"] = "registry.example/web:2"
    pod_of(expected).update(terminationGracePeriodSeconds=120, hostAliases=[{"ip": "10.0.0.9", "hostnames": ["db"]}])
    expected["metadata"]["annotations"] = {
        **(expected["metadata"].get("annotations") or {}),
        "team.example/release": "2",
    }
    api.change(namespace, "owner-nova", shutdown={"preStop": "7s"})

    def changed() -> None:
        assert "'seconds': 7" in str(pod_of(api.deployment(namespace, "owner")))

    eventually(changed)
    live = api.deployment(namespace, "owner")
    assert (live["spec"]["replicas"], pod_of(live)["terminationGracePeriodSeconds"]) == (5, 120)
    delete(api, namespace, "owner")
    assert said(api.deployment(namespace, "owner")) == said(expected)


def test_its_owner_goes_on_applying_it(api: Api, namespace: str, operator: OperatorProcess) -> None:
    theirs = web("applied", terminationGracePeriodSeconds=30)
    apply(api, namespace, theirs)
    before = api.deployment(namespace, "applied")
    adopt(api, namespace, "applied", upstreams=UPSTREAMS)
    until(lambda: is_adopted(api.deployment(namespace, "applied")))
    apply(api, namespace, theirs)
    pod_of(theirs)["containers"][0] |= {"name": "shop", "image": "registry.example/shop:3", "env": []}
    theirs["spec"]["replicas"] = 4
    apply(api, namespace, theirs)

    def laid_over_anew() -> None:
        live = api.deployment(namespace, "applied")
        (app,) = pod_of(live)["containers"]
        assert (app["name"], app["image"], live["spec"]["replicas"]) == ("shop", "registry.example/shop:3", 4)
        assert [one["name"] for one in app.get("env", ())] == ["NOVA_UPSTREAM_AUTH_URL", "NOVA_UPSTREAM_STOCK_URL"]
        assert has_sidecar(live)

    eventually(laid_over_anew)
    delete(api, namespace, "applied")
    after = api.deployment(namespace, "applied")
    assert pod_of(after)["terminationGracePeriodSeconds"] == 30
    assert pod_of(after).keys() == pod_of(before).keys()
    apply(api, namespace, theirs)
