"""A pod template, and every field of every child changing, on an API server under Pod Security *restricted*."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_api import names
from nova_operator.kinds import POD
from tests.cluster.api import Api, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess

SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
TEMPLATE: Object = {
    "metadata": {"annotations": {"team.example/owner": "finance"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "migrate", "image": "registry.example/reports:7", "securityContext": SAFE}],
        "containers": [
            {"name": "reports", "image": "registry.example/reports:7", "securityContext": SAFE},
            {"name": "fonts", "image": "registry.example/fonts:2", "securityContext": SAFE},
        ],
        "volumes": [{"name": "work", "emptyDir": {}}],
    },
}


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    """A namespace that refuses every pod which breaks Pod Security *restricted*."""
    with api.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


def test_the_pods_of_a_template_get_the_sidecar(api: Api, namespace: str, operator: OperatorProcess) -> None:
    upstreams = [{"name": "ledger", "host": "ledger", "port": 80}]
    spec = {"image": None, "template": TEMPLATE, "appContainer": "reports", "upstreams": upstreams}
    api.service(namespace, "reports", **spec)
    (pod,) = until(lambda: api.list(POD, namespace, f"{names.LABEL_SERVICE}=reports"))
    assert [one["name"] for one in pod["spec"]["initContainers"]] == [names.SIDECAR_CONTAINER, "migrate"]
    assert [one["name"] for one in pod["spec"]["containers"]] == ["reports", "fonts"]
    assert pod["metadata"]["annotations"]["team.example/owner"] == "finance"
    assert pod["spec"]["securityContext"]["runAsUser"] == 1000
    assert pod["spec"]["serviceAccountName"] == "reports"
    image = {"spec": {**TEMPLATE["spec"], "containers": [TEMPLATE["spec"]["containers"][0] | {"image": "reports:8"}]}}
    api.change(namespace, "reports", template=TEMPLATE | image)

    def changed() -> None:
        containers = api.deployment(namespace, "reports")["spec"]["template"]["spec"]["containers"]
        assert [(one["name"], one["image"]) for one in containers] == [("reports", "reports:8")]

    eventually(changed)


def test_a_field_that_no_pod_has_is_said_by_the_api_server(api: Api, namespace: str, operator: OperatorProcess) -> None:
    spec = {"image": None, "template": {"spec": {"containers": [{"name": "a", "image": "i", "comand": ["x"]}]}}}
    api.service(namespace, "wrong", **spec)

    def refused() -> None:
        assert api.conditions(namespace, "wrong").get("Ready") == ("False", "ChildRejected")

    eventually(refused)
    assert "comand" in api.message(namespace, "wrong")


EVERYTHING: Object = {
    "image": "registry.example/app:1",
    "replicas": 2,
    "ports": [{"port": 80, "appPort": 8080}, {"name": "live", "port": 81, "appPort": 8081, "protocol": "websocket"}],
    "upstreams": [{"name": "auth", "host": "auth", "port": 9090, "tls": {"secret": "ca"}}],
    "sessionAffinity": {"type": "ClientIP", "timeout": "60s"},
    "autoscaling": {"maxReplicas": 5, "cpu": "70%"},
    "topologySpread": {"mode": "Required"},
    "networkPolicy": {"mode": "Enforce", "allowFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
    "ingress": {"className": "nginx", "host": "shop.example", "tlsSecret": "shop"},
    "podDisruptionBudget": {"maxUnavailable": 1},
    "serviceAccount": {"annotations": {"cloud.example/role": "shop"}, "automountToken": True},
    "sidecar": {"resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}},
}
OTHERWISE: Object = {
    "image": "registry.example/other:2",
    "replicas": 3,
    "ports": [{"name": "calls", "port": 90, "appPort": 9100, "protocol": "grpc"}],
    "upstreams": [{"name": "stock", "host": "stock.store", "port": 80}],
    "sessionAffinity": {"type": "Cookie", "cookie": {"secure": True}},
    "autoscaling": {"maxReplicas": 9, "memory": "50%"},
    "topologySpread": {"mode": "Off"},
    "networkPolicy": {"mode": "Enforce", "allowTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    "ingress": {"className": "traefik", "host": "other.example", "path": "/v2"},
    "podDisruptionBudget": {"maxUnavailable": 2},
    "serviceAccount": {"name": "default"},
    "sidecar": {"image": "registry.example/sidecar:2"},
}


def test_every_other_field_of_every_child_can_change(api: Api, namespace: str, operator: OperatorProcess) -> None:
    """From one spec to another that differs in all, field by field and at once, and back: nothing is refused."""
    api.service(namespace, "changing", **EVERYTHING)
    for spec in ({"image": EVERYTHING["image"]}, OTHERWISE, EVERYTHING):
        cleared = {name: None for name in EVERYTHING if name not in spec and name != "ports"}
        api.change(namespace, "changing", **cleared, **spec)

        def in_force() -> None:
            assert api.conditions(namespace, "changing").get("Ready") == ("False", "RollingOut")

        eventually(in_force)
    about = [
        line for line in operator.lines() if line.get("service") == "changing" and "cannot" in str(line.get("why"))
    ]
    assert about == []
