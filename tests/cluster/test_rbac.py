"""The operator with the permissions that the chart gives it: they are enough for all it does, and none is for nothing.

It runs with a token of the chart's ServiceAccount behind a proxy that writes down each request, and is led through
everything: all kinds of children made, put back, made anew and pruned, adoption, repair, leader election. Then the
requests are compared with the rules, verb by verb.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from nova_api import names
from nova_cli.chart import template
from nova_cli.cluster import toolchain
from nova_cli.console import Console
from nova_operator.kinds import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    HTTP_ROUTE,
    NOVA_SERVICE,
    POD,
    POD_DISRUPTION_BUDGET,
    POD_MONITOR,
    PROMETHEUS_RULE,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from nova_operator.kube import path_of
from tests.cluster.api import CRDS, REPOSITORY, Api, Object, eventually, until
from tests.cluster.definitions import POD_MONITOR_SPEC, PROMETHEUS_RULE_SPEC, http_route_spec, installed
from tests.cluster.gate import Call, Gate
from tests.cluster.jobs import complete, job
from tests.cluster.operator_process import running
from tests.cluster.scene import Scene, scene
from tests.cluster.test_workload_immutable import headless, immutable, make_anew, other_selector
from tests.cluster.webhooks import deployment, make_ready
from tests.cluster.workload import adopted, has_sidecar, is_adopted
from tests.cluster.workload import delete as give_back

CHART = REPOSITORY / "charts" / "nova"
Right = tuple[str, str, str]
"""API group, resource with subresource, verb."""

NOT_SEEN_HERE: dict[Right, str] = {
    ("nova.dev", "novaservices/finalizers", "update"): "asked for by the admission plugin "
    "OwnerReferencesPermissionEnforcement, which is off by default, for owner references that block deletion",
}
EVERYTHING: Object = {
    "replicas": 2,
    "autoscaling": {"minReplicas": 2, "maxReplicas": 5, "cpu": "70%"},
    "networkPolicy": {"mode": "Enforce"},
    "ingress": {"className": "nginx", "host": "shop.example.com"},
    "gateway": {"parentRefs": [{"name": "public"}], "hostnames": ["shop.example.com"]},
    "monitoring": {"interval": "15s"},
    "sessionAffinity": {"type": "Cookie"},
    "database": {"secretRef": "shop-db", "softDelete": {}, "outbox": {"brokers": ["kafka:9092"]}},
}
NOTHING: Object = {
    "replicas": 1,
    "autoscaling": None,
    "networkPolicy": {"mode": "Off"},
    "ingress": None,
    "gateway": None,
    "monitoring": {"mode": "Off"},
    "database": None,
    "serviceAccount": {"name": "default"},
}


@pytest.fixture(scope="module")
def optional_kinds(api: Api) -> Iterator[None]:
    routes, monitors = http_route_spec(persistence=True), POD_MONITOR_SPEC
    rules = installed(api, PROMETHEUS_RULE, PROMETHEUS_RULE_SPEC)
    with installed(api, HTTP_ROUTE, routes), installed(api, POD_MONITOR, monitors), rules:
        yield


@contextmanager
def chart(api: Api, namespace: str, *, chosen: bool) -> Iterator[tuple[Object, list[str]]]:
    """The chart's account and roles in force; the ServiceAccount, and the operator's arguments."""
    options = ["--set=webhooks.enabled=false,rbac.aggregate=false", f"--namespace={namespace}"]
    options += [f"--set=operator.namespaces={{{namespace}}}"] if chosen else []
    manifests = [one for one in yaml.safe_load_all(template(toolchain.helm(Console()), CHART, *options)) if one]
    manifests = [one for one in manifests if "helm.sh/hook" not in one["metadata"].get("annotations", {})]
    accesses = [one for one in manifests if "rbac" in one["apiVersion"] or one["kind"] == "ServiceAccount"]
    for one in accesses:
        api.call("PATCH", f"{_path(one)}?fieldManager=tests&force=true", one, "application/apply-patch+yaml")
    (account,) = (one for one in accesses if one["kind"] == "ServiceAccount")
    (pod,) = (one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "Deployment")
    arguments = [one for one in pod["containers"][0]["args"] if not one.startswith("--metrics-port")]
    try:
        yield account, arguments
    finally:
        for one in accesses:
            if one["kind"].startswith("ClusterRole"):
                api.call("DELETE", _path(one))


def _path(manifest: Object) -> str:
    root = "/api/v1" if manifest["apiVersion"] == "v1" else f"/apis/{manifest['apiVersion']}"
    namespace = manifest["metadata"].get("namespace")
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{manifest['kind'].lower()}s/{manifest['metadata']['name']}"


def granted(api: Api, namespace: str, *, chosen: bool) -> set[Right]:
    """The rights in the roles, as they stand in the API server."""
    kinds = [f"/namespaces/{namespace}/roles", *([] if chosen else ["/clusterroles"])]
    lists = (api.call("GET", f"/apis/rbac.authorization.k8s.io/v1{kind}")["items"] for kind in kinds)
    mine = (role for roles in lists for role in roles if role["metadata"]["name"].startswith("nova-operator"))
    rules = (rule for role in mine for rule in role["rules"])
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def used(calls: Iterable[Call]) -> set[Right]:
    """The rights that requests took. A server-side apply of what is not there takes `create`, too, and counts as such
    when it made something."""
    return {right for call in calls for right in _rights(call)}


def _rights(call: Call) -> Iterator[Right]:
    _, kind, *rest = call.path.split("/")
    if kind not in {"api", "apis"} or call.path.count("/") < (3 if kind == "api" else 4):  # discovery: all may ask
        return
    group, rest = ("", rest[1:]) if kind == "api" else (rest[0], rest[2:])
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:3]])
    one = len(rest) > 1
    verbs = {"GET": "get" if one else "watch" if call.watch else "list", "POST": "create", "PUT": "update"}
    yield group, resource, {"PATCH": "patch", "DELETE": "delete", **verbs}[call.method]
    if call.method == "PATCH" and call.status == 201:
        yield group, resource, "create"


def lead_through_everything(api: Api, namespace: str, calls: list[Call]) -> None:
    """Everything an operator does to a namespace, and the look at all of it that it takes when it is in doubt."""
    with scene(api, namespace) as shop:
        shop.create(**EVERYTHING)
        complete(shop, job(shop))
        shop.converges()
        kinds = (*CHILDREN, HTTP_ROUTE, POD_MONITOR)
        until(lambda: all(shop.find(kind) for kind in kinds))
        until(lambda: all(relays(shop, kind) for kind in OF_RELAYS))
        shop.change(backpressure={"maxConcurrency": 7})  # touches pods
        shop.converges()
        make_anew(api, SERVICE, namespace, shop.name, headless)
        make_anew(api, CONFIG_MAP, namespace, names.config_map(shop.name), immutable)
        make_anew(api, DEPLOYMENT, namespace, shop.name, other_selector)
        until(lambda: _is_right(shop))
        looks = {(kind.api_version.rpartition("/")[0], kind.plural, "get") for kind in (*kinds, *OF_RELAYS)}
        taken_away(shop, POD_DISRUPTION_BUDGET)
        shop.becomes("Ready", "False", "Conflict")
        api.delete(POD_DISRUPTION_BUDGET, namespace, shop.name)
        shop.change(backpressure={"maxConcurrency": 8})
        until(lambda: looks <= used(calls))
        shop.change(**NOTHING)
        until(lambda: {kind for kind in kinds if shop.find(kind)} == {CONFIG_MAP, SERVICE, DEPLOYMENT})
        until(lambda: not any(relays(shop, kind) for kind in OF_RELAYS))
    adopted(api, namespace, "web")
    until(lambda: is_adopted(api.deployment(namespace, "web")))
    give_back(api, namespace, "web")
    until(lambda: not has_sidecar(api.deployment(namespace, "web")))
    repair(api, namespace)


def taken_away(shop: Scene, kind: Kind) -> None:
    """Somebody makes a child theirs: then the service is in doubt."""
    theirs = {"metadata": {"ownerReferences": None, "labels": {kind.label: None}}}
    shop.api.patch(kind, shop.namespace, shop.name, theirs)


OF_RELAYS = (DEPLOYMENT, POD_MONITOR, PROMETHEUS_RULE)


def relays(shop: Scene, kind: Kind) -> Object | None:
    return shop.api.find(kind, shop.namespace, names.relay(shop.name))


def _is_right(shop: Scene) -> bool:
    service, config_map, workload = (shop.find(kind) for kind in (SERVICE, CONFIG_MAP, DEPLOYMENT))
    return bool(
        service
        and service["spec"]["clusterIP"] != "None"
        and config_map
        and not config_map.get("immutable")
        and workload
        and "app" not in workload["spec"]["selector"]["matchLabels"]
    )


def repair(api: Api, namespace: str) -> None:
    """Pods that came without the sidecar they asked for are evicted, one after the other."""
    api.create(DEPLOYMENT, namespace, deployment("theirs", "theirs-nova", 2))
    metadata = {"name": "theirs-nova", "annotations": {names.ANNOTATION_REPAIR: "true"}}
    spec = {"workloadRef": {"name": "theirs", "mode": "Inject"}, "ports": [{"port": 8080}]}
    api.create(NOVA_SERVICE, namespace, {"metadata": metadata, "spec": spec})
    before = until(lambda: api.list(POD, namespace, "app=theirs"))

    def evicted() -> None:
        make_ready(api, namespace)
        names_now = {pod["metadata"]["name"] for pod in api.list(POD, namespace, "app=theirs")}
        assert not {pod["metadata"]["name"] for pod in before} <= names_now

    eventually(evicted, 40)


@pytest.mark.timeout(180)  # an operator is led through all it can do, on a machine that may be busy
@pytest.mark.parametrize("chosen", [False, True], ids=["cluster-wide", "namespaced"])
def test_the_charts_permissions_are_enough_and_none_is_for_nothing(
    api: Api, apiserver: Path, optional_kinds: None, tmp_path: Path, chosen: bool
) -> None:
    assert api.find(CRDS, None, "novaservices.nova.dev")
    with api.namespace() as namespace, Gate(apiserver, tmp_path) as gate:
        with chart(api, namespace, chosen=chosen) as (account, arguments):
            path = f"{path_of(SERVICE_ACCOUNT, namespace, account['metadata']['name'])}/token"
            asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            (tmp_path / "token").write_text(api.call("POST", path, asked)["status"]["token"])
            options = (*arguments, "--sidecar-poll=0.3", "--resync=2", "--discovery=1", "--injection-poll=0.5")
            with running(gate.kubeconfig(tokenFile="token"), tmp_path / "log", *options):
                lead_through_everything(api, namespace, gate.calls)
            rights = granted(api, namespace, chosen=chosen)
        refused = {(call.method, call.path) for call in gate.calls if call.status in {401, 403}}
    assert refused == set()
    taken = used(gate.calls)
    assert taken <= rights, json.dumps(sorted(taken - rights), indent=1)
    assert rights - taken == NOT_SEEN_HERE.keys()
