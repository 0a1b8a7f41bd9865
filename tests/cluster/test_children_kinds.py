"""Each kind of child on a real API server: made as it should be, put back as it was, gone with its field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nova_api import names
from nova_operator.kinds import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.definitions import POD_MONITOR_SPEC, http_route_spec, installed
from tests.cluster.operator_process import OperatorProcess, running

SECONDS_FOR_DRIFT = 10.0


class Case(NamedTuple):
    """A field, the child it makes, how it is told apart, a drift, and what takes it away again."""

    kind: Kind
    on: Object
    drift: Object
    off: Object


CASES = {
    "autoscaling": Case(
        HORIZONTAL_POD_AUTOSCALER,
        {
            "autoscaling": {
                "minReplicas": 2,
                "maxReplicas": 5,
                "cpu": "70%",
                "memory": "90%",
                "concurrency": 40,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
            }
        },
        {"spec": {"maxReplicas": 50}},
        {"autoscaling": None},
    ),
    "networkPolicy": Case(
        NETWORK_POLICY,
        {
            "networkPolicy": {
                "mode": "Enforce",
                "allowFrom": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}],
                "allowTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            },
            "upstreams": [{"name": "auth", "host": "auth.identity.svc", "port": 80}],
        },
        {"spec": {"ingress": []}},
        {"networkPolicy": {"mode": "Off"}},
    ),
    "ingress": Case(
        INGRESS,
        {
            "ingress": {"className": "nginx", "host": "shop.example.com", "tlsSecret": "shop-tls"},
            "sessionAffinity": {"type": "Cookie"},
        },
        {"metadata": {"annotations": {"nginx.ingress.kubernetes.io/affinity": None}}},
        {"ingress": None},
    ),
    "gateway": Case(
        HTTP_ROUTE,
        {
            "gateway": {"parentRefs": [{"name": "public", "namespace": "edge"}], "hostnames": ["shop.example.com"]},
            "sessionAffinity": {"type": "Cookie", "timeout": "720h"},
        },
        {"spec": {"hostnames": ["evil.example.com"]}},
        {"gateway": None},
    ),
    "monitoring": Case(
        POD_MONITOR,
        {"monitoring": {"interval": "15s", "labels": {"release": "prometheus"}}},
        {"spec": {"jobLabel": "job"}},
        {"monitoring": {"mode": "Off"}},
    ),
    "podDisruptionBudget": Case(
        POD_DISRUPTION_BUDGET,
        {"podDisruptionBudget": {"maxUnavailable": 2}, "replicas": 3},
        {"spec": {"maxUnavailable": 100}},
        {"podDisruptionBudget": {"mode": "Off"}},
    ),
    "serviceAccount": Case(
        SERVICE_ACCOUNT,
        {"serviceAccount": {"annotations": {"cloud.example/role": "reader"}, "automountToken": True}},
        {"metadata": {"annotations": {"cloud.example/role": "admin"}}},
        {"serviceAccount": {"name": "default"}},
    ),
}


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    routes = installed(api, HTTP_ROUTE, http_route_spec(persistence=True))
    with routes, installed(api, POD_MONITOR, POD_MONITOR_SPEC):
        arguments = (f"--namespace={namespace}", "--discovery=0.5", "--leader-election-namespace=default")
        with running(apiserver, log, *arguments) as process:
            yield process


@pytest.mark.parametrize(("field", "case"), CASES.items(), ids=CASES)
def test_a_field_makes_its_object_keeps_it_and_takes_it_away(
    api: Api, namespace: str, operator: OperatorProcess, field: str, case: Case
) -> None:
    name = f"one-{field.lower()}"
    api.service(namespace, name, **case.on)
    made = until(lambda: api.find(case.kind, namespace, name))
    assert made["metadata"]["ownerReferences"][0]["kind"] == "NovaService"

    changed = api.patch(case.kind, namespace, name, case.drift)
    assert said(changed) != said(made)

    def put_back() -> None:
        assert said(api.get(case.kind, namespace, name)) == said(made)

    eventually(put_back, SECONDS_FOR_DRIFT)
    api.change(namespace, name, **case.off)
    until(lambda: api.find(case.kind, namespace, name) is None)
    assert not [line for line in operator.lines() if line["level"] == "error"]


def said(manifest: Object) -> Any:
    metadata = {key: manifest["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences")}
    return metadata, manifest.get("spec"), manifest.get("automountServiceAccountToken")


def test_what_the_api_server_has_of_each_field(api: Api, namespace: str, operator: OperatorProcess) -> None:
    """All at once: the objects do not stand in each other's way, and nothing of what was applied is lost."""
    spec: Object = {}
    for case in CASES.values():
        spec |= case.on
    api.service(namespace, "all", **spec, resources={"requests": {"cpu": "100m"}})
    until(lambda: api.find(DEPLOYMENT, namespace, "all"))

    metrics = api.get(HORIZONTAL_POD_AUTOSCALER, namespace, "all")["spec"]["metrics"]
    assert {metric["type"] for metric in metrics} == {"ContainerResource", "Pods"}
    policy = api.get(NETWORK_POLICY, namespace, "all")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    annotations = api.get(INGRESS, namespace, "all")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/session-cookie-name"] == "nova-session-edge"
    (rule,) = api.get(HTTP_ROUTE, namespace, "all")["spec"]["rules"]
    assert rule["sessionPersistence"]["sessionName"] == "nova-session-edge"
    assert rule["backendRefs"][0]["name"] == "all"
    (endpoint,) = api.get(POD_MONITOR, namespace, "all")["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "nova-status", "path": "/metrics", "interval": "15s"}
    account = api.get(SERVICE_ACCOUNT, namespace, "all")
    assert (account["metadata"]["annotations"]["cloud.example/role"], account["automountServiceAccountToken"]) == (
        "reader",
        True,
    )


def test_the_headless_service_is_always_there(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "plain")
    headless = until(lambda: api.find(SERVICE, namespace, names.endpoints("plain")))
    assert headless["spec"]["clusterIP"] == "None"
    assert [(port["name"], port["port"]) for port in headless["spec"]["ports"]] == [("http", 15100)]
    api.delete(SERVICE, namespace, names.endpoints("plain"))
    again = until(lambda: api.find(SERVICE, namespace, names.endpoints("plain")))
    assert again["metadata"]["uid"] != headless["metadata"]["uid"]


def test_pods_are_spread_as_they_are_told_to(api: Api, namespace: str, operator: OperatorProcess) -> None:
    spread = {"mode": "Required", "maxSkew": 2, "keys": ["kubernetes.io/hostname"]}
    api.service(namespace, "spread", topologySpread=spread)
    (constraint,) = until(lambda: api.find(DEPLOYMENT, namespace, "spread"))["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    assert (constraint["maxSkew"], constraint["whenUnsatisfiable"]) == (2, "DoNotSchedule")
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    api.change(namespace, "spread", topologySpread={"mode": "Off"})

    def gone() -> None:
        assert "topologySpreadConstraints" not in api.deployment(namespace, "spread")["spec"]["template"]["spec"]

    eventually(gone)


def test_what_people_write_freely_is_refused_as_a_whole(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "wrong", networkPolicy={"mode": "Enforce", "allowFrom": [{"podSelektor": {}}]})

    def refused() -> None:
        assert api.conditions(namespace, "wrong").get("Ready") == ("False", "ChildRejected")

    eventually(refused)
    assert "NetworkPolicy/wrong" in api.message(namespace, "wrong")
    assert api.find(SERVICE, namespace, "wrong") is None
    assert api.find(DEPLOYMENT, namespace, "wrong") is None
