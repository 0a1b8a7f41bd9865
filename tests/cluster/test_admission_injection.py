"""Injection on a real API server: pods of somebody else's Deployment get the sidecar, those that missed it are found
and, where their service says so, replaced one by one."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE, POD, POD_DISRUPTION_BUDGET, SERVICE
from tests.cluster.api import Api, ApiError, Object, eventually, until
from tests.cluster.webhooks import Door, deployment, door, has_sidecar, make_ready, pod

UPSTREAMS = [{"name": "auth", "host": "auth", "port": 9090}]


@pytest.fixture
def place(api: Api) -> Iterator[str]:
    """A namespace of the test's own, so that its pods are all there are."""
    with api.namespace() as name:
        yield name


@pytest.fixture
def entrance(api: Api, apiserver: Path, place: str, tmp_path: Path) -> Iterator[Door]:
    with door(api, place, apiserver, tmp_path) as one:
        yield one


@pytest.fixture
def strict(api: Api, apiserver: Path, place: str, tmp_path: Path) -> Iterator[Door]:
    with door(api, place, apiserver, tmp_path, policy="Fail") as one:
        yield one


def inject_service(api: Api, namespace: str, name: str = "shop", **spec: Any) -> None:
    reference = {"name": "web", "mode": "Inject"}
    api.create(
        NOVA_SERVICE,
        namespace,
        {"metadata": {"name": name}, "spec": {"workloadRef": reference, "ports": [{"port": 8080}], **spec}},
    )


def pods(api: Api, namespace: str) -> list[Object]:
    return [one for one in api.list(POD, namespace) if "deletionTimestamp" not in one["metadata"]]


def with_sidecar(api: Api, namespace: str) -> tuple[int, int]:
    found = pods(api, namespace)
    return sum(map(has_sidecar, found)), len(found)


def test_pods_of_a_foreign_deployment_get_the_sidecar_and_the_deployment_stays(
    api: Api, place: str, entrance: Door
) -> None:
    with entrance.operator() as operator:
        until(entrance.trusts)
        inject_service(api, place, upstreams=UPSTREAMS)
        api.create(DEPLOYMENT, place, deployment("web", "shop", 2))
        until(lambda: with_sidecar(api, place) == (2, 2))
        one = pods(api, place)[0]
        assert one["metadata"]["labels"][names.LABEL_SERVICE] == "shop"
        assert one["spec"]["hostAliases"][0]["hostnames"][0] == "auth"
        assert one["spec"]["terminationGracePeriodSeconds"] == 45
        assert [container["name"] for container in one["spec"]["containers"]] == ["app"]

        until(lambda: api.find(SERVICE, place, "shop"))
        found = api.get(DEPLOYMENT, place, "web")
        assert not has_sidecar({"spec": found["spec"]["template"]["spec"]})
        assert api.find(DEPLOYMENT, place, "shop") is None
        assert operator.metric("nova_operator_uninjected_pods") == 0


def test_what_cannot_be_injected_runs_without_and_says_why(api: Api, place: str, entrance: Door) -> None:
    with entrance.operator():
        until(entrance.trusts)
        told = api.warned(POD, place, pod("nobody"))
        assert any("this pod runs without the sidecar: there is no NovaService nobody" in one for one in told)
        until(lambda: with_sidecar(api, place) == (0, 1))
        assert api.warned(POD, place, {**pod("nobody"), "metadata": {"name": "plain"}}) == []


def test_the_policy_fail_refuses_such_a_pod(api: Api, place: str, strict: Door) -> None:
    with strict.operator("--injection-policy=Fail"):
        until(strict.trusts)
        with pytest.raises(ApiError, match="no sidecar for this pod: there is no NovaService nobody"):
            api.create(POD, place, pod("nobody"))
        inject_service(api, place)
        asked = pod("shop")
        asked["spec"]["hostNetwork"] = True
        with pytest.raises(ApiError, match=r"go together: \$\.spec\.hostNetwork"):
            api.create(POD, place, asked)


def test_a_killed_operator_refuses_pods_where_the_policy_is_fail(api: Api, place: str, strict: Door) -> None:
    with strict.operator() as operator:
        until(strict.trusts)
        inject_service(api, place)
        assert has_sidecar(api.create(POD, place, pod("shop")))
        operator.end(signal.SIGKILL)
        with pytest.raises(ApiError, match="failed calling webhook"):
            api.create(POD, place, pod("shop"))
    with strict.operator():
        assert has_sidecar(api.create(POD, place, pod("shop")))


def test_pods_that_came_while_the_operator_was_down_are_told_of_and_replaced_one_by_one(
    api: Api, place: str, entrance: Door
) -> None:
    with entrance.operator() as operator:
        until(entrance.trusts)
        inject_service(api, place)
        operator.end(signal.SIGKILL)
        api.create(DEPLOYMENT, place, deployment("web", "shop", 2))
        until(lambda: with_sidecar(api, place) == (0, 2))

    with entrance.operator() as operator:
        eventually(lambda: told_of(api, place, "2 pods without the sidecar get no traffic"))
        assert operator.metric("nova_operator_uninjected_pods") == 2
        eventually(lambda: wrote(api, place, "SidecarMissing"))
        before = {one["metadata"]["uid"] for one in pods(api, place)}
        budget = {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 2}
        api.create(POD_DISRUPTION_BUDGET, place, {"metadata": {"name": "all"}, "spec": budget})
        api.patch(NOVA_SERVICE, place, "shop", {"metadata": {"annotations": {names.ANNOTATION_REPAIR: "true"}}})

        make_ready(api, place)
        eventually(lambda: told_of(api, place, "repair waits for a PodDisruptionBudget"))
        assert {one["metadata"]["uid"] for one in pods(api, place)} == before

        api.patch(POD_DISRUPTION_BUDGET, place, "all", {"spec": {"minAvailable": 1}})
        until(lambda: with_sidecar(api, place)[0] == 1)
        eventually(lambda: told_of(api, place, "1 pod without the sidecar gets no traffic"))
        assert len({one["metadata"]["uid"] for one in pods(api, place)} & before) == 1

        def both() -> bool:
            make_ready(api, place)
            return with_sidecar(api, place) == (2, 2)

        until(both, 40)
        until(lambda: operator.metric("nova_operator_uninjected_pods") == 0)
        assert operator.metric("nova_operator_repaired_pods_total") == 2
        eventually(lambda: is_quiet(api, place))


def told_of(api: Api, namespace: str, words: str) -> None:
    assert api.conditions(namespace, "shop").get("Degraded") == ("True", "SidecarMissing")
    assert words in api.message(namespace, "shop", "Degraded")


def wrote(api: Api, namespace: str, reason: str) -> None:
    assert reason in list(api.events(namespace, "shop"))


def is_quiet(api: Api, namespace: str) -> None:
    assert api.conditions(namespace, "shop").get("Degraded", ("", ""))[1] != "SidecarMissing"
