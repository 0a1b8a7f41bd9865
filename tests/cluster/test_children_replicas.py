"""Who says how many pods there are: the operator, an autoscaler, and the moment in which it changes."""

import asyncio
from pathlib import Path

import pytest

from nova_api import names
from nova_operator.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, NOVA_SERVICE
from nova_operator.kube import path_of
from nova_operator.replicas import MANAGER
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.scene import Scene
from tests.cluster.test_operator_crash import MOST_CALLS, live, lives_until_done

SCALE: Object = {"autoscaling": {"minReplicas": 2, "maxReplicas": 20}}


class Scaled:
    """A Deployment and who says how many pods it has."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self.api, self.namespace, self.name = api, namespace, name

    def replicas(self) -> int:
        return int(self.api.deployment(self.namespace, self.name)["spec"]["replicas"])

    def managers(self) -> set[tuple[str, str]]:
        """Who has the replicas: manager and operation."""
        fields = self.api.deployment(self.namespace, self.name)["metadata"]["managedFields"]
        return {
            (entry["manager"], entry["operation"])
            for entry in fields
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }

    def autoscaler_says(self, replicas: int) -> None:
        """As the controller does: by the scale subresource."""
        body = {"spec": {"replicas": replicas}}
        self.api.patch(DEPLOYMENT, self.namespace, self.name, body, subresource="scale")


def test_a_service_of_ten_pods_keeps_them_when_it_gets_an_autoscaler(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    api.service(namespace, "ten", replicas=10)
    until(lambda: api.find(DEPLOYMENT, namespace, "ten"))
    ten = Scaled(api, namespace, "ten")
    assert ten.managers() == {("nova-operator", "Apply")}
    watched = api.deployment(namespace, "ten")["metadata"]["resourceVersion"]

    api.change(namespace, "ten", **SCALE)
    until(lambda: ten.managers() == {(MANAGER, "Apply")})
    until(lambda: api.find(HORIZONTAL_POD_AUTOSCALER, namespace, "ten"))
    assert numbers_since(api, namespace, "ten", watched) == {10}

    ten.autoscaler_says(12)
    api.change(namespace, "ten", env=[{"name": "A", "value": "1"}])
    until(lambda: "env" in api.deployment(namespace, "ten")["spec"]["template"]["spec"]["containers"][0])
    assert ten.replicas() == 12
    assert (MANAGER, "Apply") not in ten.managers()

    api.change(namespace, "ten", autoscaling=None)
    eventually(lambda: same(ten.replicas(), 10))
    until(lambda: api.find(HORIZONTAL_POD_AUTOSCALER, namespace, "ten") is None)
    api.change(namespace, "ten", **SCALE)
    until(lambda: ten.managers() == {(MANAGER, "Apply")})
    assert numbers_since(api, namespace, "ten", watched) == {10, 12}


def same(one: int, other: int) -> None:
    assert one == other


def numbers_since(api: Api, namespace: str, name: str, version: str) -> set[int]:
    """Every number of pods that a Deployment was told to have since a resource version."""
    query = f"?watch=true&fieldSelector=metadata.name={name}&resourceVersion={version}&timeoutSeconds=1"
    events = api.lines(f"/apis/apps/v1/namespaces/{namespace}/deployments{query}")
    return {event["object"]["spec"]["replicas"] for event in events}


def test_an_autoscaler_of_ones_own_sizes_the_service(api: Api, namespace: str, operator: OperatorProcess) -> None:
    """By the subresource `scale`, whose selector tells it which pods to measure."""
    api.service(namespace, "own")
    until(lambda: api.conditions(namespace, "own"))
    scale = api.call("GET", f"{path_of(NOVA_SERVICE, namespace, 'own')}/scale")
    assert scale["status"]["selector"] == f"{names.LABEL_SERVICE}=own"
    api.patch(NOVA_SERVICE, namespace, "own", {"spec": {"replicas": 4}}, subresource="scale")
    eventually(lambda: same(Scaled(api, namespace, "own").replicas(), 4))


def test_with_an_autoscaler_it_begins_with_the_fewest_pods(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "begins", autoscaling={"minReplicas": 3, "maxReplicas": 5})
    until(lambda: api.find(DEPLOYMENT, namespace, "begins"))
    begins = Scaled(api, namespace, "begins")
    eventually(lambda: same(begins.replicas(), 3), 5)
    assert begins.managers() == {(MANAGER, "Apply")}


def test_what_the_autoscaler_says_is_no_drift(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "free", **SCALE)
    until(lambda: api.find(DEPLOYMENT, namespace, "free"))
    free = Scaled(api, namespace, "free")
    until(lambda: free.managers() == {(MANAGER, "Apply")})  # the number it begins with
    free.autoscaler_says(7)
    drift = {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}
    api.patch(DEPLOYMENT, namespace, "free", drift)

    def put_back() -> None:
        strategy = api.deployment(namespace, "free")["spec"]["strategy"]
        assert strategy["rollingUpdate"]["maxUnavailable"] == 0

    eventually(put_back)
    assert free.replicas() == 7


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_it_may_be_killed_at_any_call_of_the_hand_over(apiserver: Path, api: Api, after: bool) -> None:
    with api.namespace() as unserved:
        shop = Scene(api, unserved)
        shop.create(replicas=10)
        assert asyncio.run(live(apiserver, shop, MOST_CALLS, after=False))
        version = api.deployment(unserved, shop.name)["metadata"]["resourceVersion"]
        shop.change(**SCALE)
        assert lives_until_done(apiserver, shop, after=after) > 5
        assert Scaled(api, unserved, shop.name).managers() == {(MANAGER, "Apply")}
        assert numbers_since(api, unserved, shop.name, version) == {10}
