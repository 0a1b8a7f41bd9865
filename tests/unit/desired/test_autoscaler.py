"""What the autoscaler looks at, and when it cannot."""

from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_operator.desired.autoscaler import autoscaler, autoscaling_warnings
from nova_operator.desired.defaults import Platform
from tests.unit.test_operator_desired import build, kinds, service

NEW, OLD = Platform(), Platform.of("1", "29")


def metrics(platform: Platform = NEW, **spec: Any) -> list[Any]:
    manifest = autoscaler(service(**spec), platform)
    assert manifest is not None
    return list(manifest["spec"]["metrics"])


def cpu_of(container: str, utilization: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": utilization}
    return {
        "type": "ContainerResource",
        "containerResource": {"name": "cpu", "container": container, "target": target},
    }


def template(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"image": None, "template": {"spec": {"containers": list(containers)}}}


def test_without_a_goal_it_is_most_of_the_cpu() -> None:
    assert metrics(autoscaling={"maxReplicas": 3}) == [cpu_of("app", 80)]


def test_concurrency_alone_is_a_goal() -> None:
    (metric,) = metrics(autoscaling={"maxReplicas": 3, "concurrency": 40})
    assert metric["pods"]["metric"]["name"] == "nova_requests_in_flight"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "40"}


def test_all_goals_together() -> None:
    goals = {"maxReplicas": 3, "cpu": "70%", "memory": "0.4%", "concurrency": 40}
    found = metrics(autoscaling=goals)
    assert [metric["type"] for metric in found] == ["ContainerResource", "ContainerResource", "Pods"]
    assert found[1]["containerResource"]["target"]["averageUtilization"] == 1  # the API server refuses 0


def test_an_old_server_looks_at_the_whole_pod() -> None:
    assert [metric["type"] for metric in metrics(OLD, autoscaling={"maxReplicas": 3})] == ["Resource"]


def test_the_container_of_a_template_is_the_app() -> None:
    spec = template({"name": "web", "image": "a"}, {"name": "helper", "image": "b"})
    assert metrics(autoscaling={"maxReplicas": 3}, appContainer="web", **spec) == [cpu_of("web", 80)]


@pytest.mark.parametrize(("named", "type_"), [(None, "Resource"), ("web", "ContainerResource")])
def test_of_somebody_elses_deployment_the_container_is_known_when_it_is_named(named: str | None, type_: str) -> None:
    spec: dict[str, Any] = {"image": None, "workloadRef": {"name": "legacy"}, "appContainer": named}
    manifest = autoscaler(service(autoscaling={"maxReplicas": 3}, **spec), NEW)
    assert manifest is not None
    assert manifest["spec"]["scaleTargetRef"]["name"] == "legacy"
    assert manifest["spec"]["metrics"][0]["type"] == type_


def test_the_deployment_says_no_number_while_an_autoscaler_does() -> None:
    assert build("Deployment", replicas=4)["spec"]["replicas"] == 4
    assert "replicas" not in build("Deployment", replicas=4, autoscaling={"maxReplicas": 3})["spec"]


@pytest.mark.parametrize(("fewest", "has"), [(1, False), (2, True)])
def test_a_budget_counts_the_fewest_pods_of_the_autoscaler(fewest: int, has: bool) -> None:
    spec = {"autoscaling": {"minReplicas": fewest, "maxReplicas": 9}, "replicas": 9 if fewest == 1 else 1}
    assert ("PodDisruptionBudget" in kinds(**spec)) is has


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, []),
        ({"autoscaling": {"maxReplicas": 3}}, ["autoscaling.cpu"]),
        ({"autoscaling": {"maxReplicas": 3, "concurrency": 9}}, []),
        ({"autoscaling": {"maxReplicas": 3, "memory": "80%"}}, ["autoscaling.memory"]),
        ({"autoscaling": {"maxReplicas": 3}, "resources": {"requests": {"cpu": "1"}}}, []),
        ({"autoscaling": {"maxReplicas": 3}, "resources": {"limits": {"cpu": "1"}}}, []),  # a limit is a request, too
        ({"autoscaling": {"maxReplicas": 3}, **template({"name": "a", "image": "a"})}, ["autoscaling.cpu"]),
        (
            {
                "autoscaling": {"maxReplicas": 3},
                **template({"name": "a", "image": "a", "resources": {"requests": {"cpu": "1"}}}),
            },
            [],
        ),
        ({"autoscaling": {"maxReplicas": 3}, "image": None, "workloadRef": {"name": "theirs"}}, []),
    ],
)
def test_a_goal_that_can_be_compared_with_nothing_is_told(spec: dict[str, Any], told: list[str]) -> None:
    assert [warning.partition(":")[0] for warning in autoscaling_warnings(service(**spec))] == told


def test_a_template_without_an_app_is_refused() -> None:
    spec = template({"name": "a", "image": "a"}, {"name": "b", "image": "b"})
    with pytest.raises(ConfigError, match="appContainer"):
        autoscaler(service(autoscaling={"maxReplicas": 3}, **spec), NEW)
