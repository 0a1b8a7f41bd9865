"""Who the pods are, where they go, and how they are found."""

from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_operator.desired.defaults import Platform
from nova_operator.desired.pod_monitor import pod_monitor
from nova_operator.desired.service import endpoints
from nova_operator.desired.service_account import identity, service_account
from nova_operator.desired.session_secret import needs_session_secret, session_secret
from nova_operator.desired.topology_spread import topology_spread
from tests.unit.test_operator_desired import build, service

CONTAINERS = [{"name": "app", "image": "a"}]


def test_the_operator_makes_an_account_without_a_token() -> None:
    manifest = service_account(service())
    assert manifest is not None
    assert manifest["automountServiceAccountToken"] is False
    assert identity(service()) == {"serviceAccountName": "shop", "automountServiceAccountToken": False}


def test_a_token_is_there_when_it_is_asked_for() -> None:
    one = service(serviceAccount={"automountToken": True, "annotations": {"cloud/role": "a"}})
    manifest = service_account(one)
    assert manifest is not None
    assert manifest["automountServiceAccountToken"] is True
    assert manifest["metadata"]["annotations"]["cloud/role"] == "a"
    assert identity(one)["automountServiceAccountToken"] is True


@pytest.mark.parametrize(
    "spec",
    [
        {"serviceAccount": {"name": "theirs"}},
        {"image": None, "template": {"spec": {"serviceAccountName": "theirs", "containers": CONTAINERS}}},
    ],
)
def test_an_account_that_exists_is_used(spec: dict[str, Any]) -> None:
    assert service_account(service(**spec)) is None
    assert identity(service(**spec))["serviceAccountName"] == "theirs"
    assert build("Deployment", **spec)["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"


def test_two_names_for_one_account_are_refused() -> None:
    template = {"spec": {"serviceAccountName": "one", "containers": CONTAINERS}}
    with pytest.raises(ConfigError, match="expected one, which the template names"):
        service_account(service(image=None, template=template, serviceAccount={"name": "other"}))


def test_pods_of_somebody_elses_deployment_keep_their_account() -> None:
    assert service_account(service(image=None, workloadRef={"name": "legacy"})) is None


def test_kubernetes_spreads_pods_by_itself() -> None:
    assert topology_spread(service(), Platform()) == {}


@pytest.mark.parametrize(("mode", "when"), [("Preferred", "ScheduleAnyway"), ("Required", "DoNotSchedule")])
def test_pods_are_spread_over_each_key_once(mode: str, when: str) -> None:
    keys = ["rack", "kubernetes.io/hostname", "rack"]
    one = service(topologySpread={"mode": mode, "keys": keys, "maxSkew": 2})
    constraints = topology_spread(one, Platform())["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in constraints] == ["rack", "kubernetes.io/hostname"]
    assert {constraint["whenUnsatisfiable"] for constraint in constraints} == {when}
    assert constraints[0]["matchLabelKeys"] == ["pod-template-hash"]
    (old, _) = topology_spread(one, Platform.of("1", "26"))["topologySpreadConstraints"]
    assert "matchLabelKeys" not in old


def test_the_constraints_of_a_template_stay() -> None:
    own = [{"maxSkew": 5, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}]
    template = {"spec": {"topologySpreadConstraints": own, "containers": CONTAINERS}}
    pod = build("Deployment", image=None, template=template, topologySpread={"mode": "Required"})
    assert pod["spec"]["template"]["spec"]["topologySpreadConstraints"] == own


def test_the_headless_service_has_the_pods_own_ports() -> None:
    ports = [{"name": "http", "port": 80, "appPort": 8080}, {"name": "calls", "port": 9000, "protocol": "grpc"}]
    manifest = endpoints(service(ports=ports))
    assert manifest["metadata"]["name"] == "shop-endpoints"
    assert manifest["spec"]["clusterIP"] == "None"
    found = [(port["name"], port["port"], port["targetPort"]) for port in manifest["spec"]["ports"]]
    assert found == [("http", 15100, 15100), ("calls", 15101, 15101)]


@pytest.mark.parametrize("type_", ["None", "ClientIP", "Cookie", "Redis"])
def test_the_service_remembers_addresses_only_when_it_is_told_to(type_: str) -> None:
    affinity = {"type": type_, "timeout": "90s", "redis": {"url": "redis://redis"}}
    spec = build("Service", sessionAffinity=affinity)["spec"]
    assert spec["sessionAffinity"] == ("ClientIP" if type_ == "ClientIP" else "None")
    assert ("sessionAffinityConfig" in spec) is (type_ == "ClientIP")


def test_a_monitor_where_there_are_monitors() -> None:
    assert pod_monitor(service(), Platform()) is None
    assert pod_monitor(service(monitoring={"mode": "Off"}), Platform(pod_monitors=True)) is None


@pytest.mark.parametrize(("interval", "said"), [("30s", "30s"), ("1m30s", "90s"), ("1500ms", "1500ms")])
def test_an_interval_as_prometheus_writes_it(interval: str, said: str) -> None:
    manifest = pod_monitor(service(monitoring={"interval": interval}), Platform(pod_monitors=True))
    assert manifest is not None
    assert manifest["spec"]["podMetricsEndpoints"][0]["interval"] == said


def test_labels_of_a_monitor_cannot_hide_it_from_the_operator() -> None:
    given = {"release": "prometheus", "nova.dev/service": "other"}
    manifest = pod_monitor(service(monitoring={"labels": given}), Platform(pod_monitors=True))
    assert manifest is not None
    labels = manifest["metadata"]["labels"]
    assert (labels["release"], labels["nova.dev/service"]) == ("prometheus", "shop")


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        ({}, False),
        ({"sessionAffinity": {"type": "ClientIP"}}, False),
        ({"sessionAffinity": {"type": "Cookie"}}, True),
        ({"sessionAffinity": {"type": "Redis", "redis": {"url": "redis://redis"}}}, True),
        ({"sessionAffinity": {"type": "Cookie", "cookie": {"secret": "own"}}}, False),
        ({"rollout": {"strategy": "Canary", "sticky": True}}, True),
        ({"rollout": {"strategy": "Canary"}}, False),
        ({"rollout": {"sticky": True}}, False),
    ],
)
def test_a_key_is_made_for_whoever_signs_and_has_none(spec: dict[str, Any], needs: bool) -> None:
    assert needs_session_secret(service(**spec)) is needs


def test_the_key_is_in_the_secret() -> None:
    manifest = session_secret(service(), b"0" * 32)
    assert manifest["metadata"]["name"] == "shop-session"
    assert manifest["data"] == {"key": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="}
