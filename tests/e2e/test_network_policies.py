"""NetworkPolicies on nodes that enforce them: those of services, of relays and of the operator let through what has to
pass, and nothing else. Pods are on two nodes, since policies meet packets on both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from nova_api import names
from nova_cli import chart
from nova_cli.cluster import toolchain
from nova_cli.cluster.provider import Provider
from nova_cli.console import Console
from nova_cli.demo.backend import stores
from nova_cli.demo.backend.stage import DATA, Backend
from nova_cli.demo.bring_up import SYSTEM_NAMESPACE, open_namespace
from nova_cli.demo.stage import CLIENT, Stage
from nova_cli.errors import CommandError, MissingRequirementError
from nova_cli.images.stores import build_stores
from nova_cli.repository import find_repository
from tests.e2e import test_adopted, test_injection
from tests.e2e.reach import DROPPED, OPEN, reached

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

WALLED: Final = "nova-walled"
OPERATOR: Final = ("deployment/nova-operator", f"--namespace={SYSTEM_NAMESPACE}")
API_SERVER: Final = "10.96.0.1:443"
DESK: Final = "http://desk:80/"
MANIFEST: Final = """\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: vault}
spec:
  image: nova/services:dev
  args: [catalog, --port=8081, --service-time-ms=5]
  ports: [{port: 80, appPort: 8081}]
  readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1, timeoutSeconds: 5}
  resources: {requests: {cpu: 10m, memory: 32Mi}}
  monitoring: {mode: "Off"}
  networkPolicy:
    mode: Enforce
    allowFrom: [{podSelector: {matchLabels: {nova.dev/service: desk}}}]
---
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: desk}
spec:
  image: nova/services:dev
  args: [storefront, --port=8081, --catalog-url=http://vault:80]
  replicas: 2
  topologySpread: {mode: Required, keys: [kubernetes.io/hostname]}
  ports: [{port: 80, appPort: 8081}]
  upstreams: [{name: vault, host: vault, port: 80, discovery: Endpoints}]
  readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1, timeoutSeconds: 5}
  resources: {requests: {cpu: 10m, memory: 32Mi}}
  rollout:
    strategy: Canary
    sticky: true
    steps: [{weight: 50, hold: 8s}, {weight: 100, hold: 1s}]
    checks: {minimumSamples: 20}
  networkPolicy:
    mode: Enforce
    allowFrom: [{podSelector: {matchLabels: {app: client}}}]
"""


@pytest.fixture(scope="module")
def walled(cluster: Provider, stage: Stage) -> Iterator[Stage]:
    """A namespace with two services of which `desk` calls `vault`, and a client that may call `desk`."""
    try:
        cluster.up(nodes=2, network_policies=True)
    except MissingRequirementError as error:
        pytest.skip(str(error))
    here = dataclasses.replace(stage, namespace=WALLED)
    open_namespace(here, "")
    here.kubectl("apply", "-f", "-", text=MANIFEST)
    for name in ("vault", "desk"):
        here.kubectl("wait", "--for=condition=Ready", f"nsvc/{name}", "--timeout=120s", patience=130)
    here.kubectl("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=60s", patience=70)
    yield here
    here.kubectl("delete", "nsvc", "--all", "--timeout=60s", patience=70)
    here.kubectl("delete", "namespace", WALLED, "--wait=false")  # its pods take half a minute to leave


def ip(stage: Stage, service: str) -> str:
    """The address of one of its pods."""
    return stage.pods(service)[0].ip


def test_who_is_named_comes_in_by_the_sidecar_and_nobody_else_does(stage: Stage, walled: Stage) -> None:
    assert walled.eventually(
        lambda: walled.call(DESK)[0]["status"] == 200, within=30
    )  # and desk reaches vault, by name
    desk, vault = ip(walled, "desk"), ip(walled, "vault")
    assert reached(walled, CLIENT, "desk:80", f"{desk}:15100", f"{desk}:8081", f"{desk}:15020") == {
        "desk:80": OPEN, f"{desk}:15100": OPEN, f"{desk}:8081": DROPPED, f"{desk}:15020": OPEN,
    }  # fmt: skip
    unnamed = ("vault:80", f"{vault}:15100", f"{vault}:8081", f"{vault}:15020")  # with monitoring Off
    assert reached(walled, CLIENT, *unnamed) == dict.fromkeys(unnamed, DROPPED)
    elsewhere = (f"desk.{WALLED}:80", f"{desk}:15100")  # of the same labels, in another namespace
    assert reached(stage, CLIENT, *elsewhere) == dict.fromkeys(elsewhere, DROPPED)


def test_pods_reach_their_upstreams_and_nothing_else(walled: Stage) -> None:
    vault, (pod, _) = ip(walled, "vault"), walled.pods("desk")
    places = {
        f"{vault}:15100": OPEN,
        "kube-dns.kube-system.svc.cluster.local:53": OPEN,
        f"{vault}:8081": DROPPED,
        "catalog.nova-demo:8080": DROPPED,
        API_SERVER: DROPPED,
        f"{walled.get('pod', CLIENT)['status']['podIP']}:80": DROPPED,
    }
    assert reached(walled, pod.name, *places, container=names.APP_CONTAINER) == places


def test_a_policy_goes_and_comes_with_its_mode(walled: Stage) -> None:
    def becomes(mode: str, outcome: str) -> bool:
        walled.patch("vault", {"spec": {"networkPolicy": {"mode": mode}}})
        return walled.eventually(lambda: reached(walled, CLIENT, "vault:80") == {"vault:80": outcome}, within=20)

    assert becomes("Off", OPEN)
    assert becomes("Enforce", DROPPED)


@pytest.mark.parametrize(
    ("name", "service", "deployment"),
    [
        ("ledger-nova", test_adopted.SERVICE, test_adopted.LEDGER),
        ("orders", test_injection.SERVICE, test_injection.DEPLOYMENT),
    ],
    ids=["adopted", "injected"],
)
def test_a_deployment_that_was_there_is_walled_in_too(
    stage: Stage, walled: Stage, name: str, service: str, deployment: str
) -> None:
    """A pod whose review took longer than the API server waits is replaced."""
    walled.kubectl("apply", "-f", "-", text=service)
    policy = {"mode": "Enforce", "allowFrom": [{"podSelector": {}}]}
    repair = {"annotations": {names.ANNOTATION_REPAIR: "true"}}
    walled.patch(name, {"metadata": repair, "spec": {"networkPolicy": policy}})
    walled.kubectl("apply", "-f", "-", text=deployment)
    try:
        walled.kubectl("wait", "--for=condition=Ready", f"nsvc/{name}", "--timeout=120s", patience=130)
        assert walled.eventually(lambda: walled.pods(name) != [], within=30)
        places = (f"{ip(walled, name)}:15100", f"{ip(walled, name)}:8081")
        assert reached(walled, CLIENT, *places) == dict(zip(places, (OPEN, DROPPED), strict=True))
        assert reached(stage, CLIENT, *places) == dict.fromkeys(places, DROPPED)
    finally:
        walled.kubectl("delete", "nsvc", name, "--timeout=60s", patience=70)
        walled.kubectl("delete", "-f", "-", "--ignore-not-found", text=deployment)


def test_a_canary_is_judged_and_pods_of_both_versions_hand_clients_over(walled: Stage) -> None:
    """Its pods become ready, too: the kubelet's probes come in."""
    before = walled.pods("desk")
    (first, cookie), (second, _) = (_at(walled, pod.ip) for pod in before)
    assert {first, second} == {pod.name for pod in before}
    assert walled.eventually(lambda: _at(walled, before[1].ip, cookie)[0] == first, within=20)

    with walled.load_meanwhile(DESK, rate=20, fresh=True) as end:
        walled.patch("desk", {"spec": {"args": ["storefront", "--port=8081", "--catalog-url=http://vault:80/"]}})
        known = {pod.uid for pod in before}
        assert walled.eventually(lambda: bool(_rollout(walled).get("holdSince")), within=60)
        (canary,) = (pod for pod in walled.pods("desk") if pod.uid not in known)
        new, theirs = _at(walled, canary.ip)
        assert new == canary.name
        stable = [pod for pod in walled.pods("desk") if pod.uid in known]
        assert walled.eventually(lambda: _at(walled, stable[0].ip, theirs)[0] == new, within=20)
        assert walled.eventually(lambda: _rollout(walled)["phase"] == "Promoted", within=90)
        report = end()
    assert report["statuses"] == {"200": report["requests"]}, report


def _at(stage: Stage, address: str, cookie: str = "") -> tuple[str, str]:
    """Which pod serves what comes to the sidecar there, and the cookie that it gives."""
    headers = {"cookie": cookie} if cookie else None
    (answer,) = stage.call(f"http://{address}:{names.INBOUND_PORT_BASE}/", headers=headers)
    assert answer["status"] == 200, answer
    return json.loads(answer["body"])["servedBy"], answer["headers"].get("set-cookie", "").partition(";")[0]


def _rollout(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.get("nsvc", "desk")["status"].get("rollout", {})
    return found


@pytest.fixture
def operator(walled: Stage) -> Iterator[Stage]:
    """The operator under the chart's policy, begun anew under it; the stage is its namespace."""
    here = dataclasses.replace(walled, namespace=SYSTEM_NAMESPACE)
    options = ("--set=networkPolicy.enabled=true", "--show-only=templates/networkpolicy.yaml")
    policy = chart.template(toolchain.helm(Console()), find_repository() / "charts" / "nova", *options)
    here.kubectl("apply", "-f", "-", text=policy)
    try:
        here.kubectl("rollout", "restart", *OPERATOR)
        here.kubectl("rollout", "status", *OPERATOR, "--timeout=120s", patience=130)
        yield here
    finally:
        here.kubectl("delete", "-f", "-", text=policy)


def test_the_operator_does_all_of_its_work_behind_its_policy(walled: Stage, operator: Stage) -> None:
    walled.patch("vault", {"spec": {"backpressure": {"maxConcurrency": 77}}})
    assert walled.eventually(lambda: _converged(walled), within=60)  # every sidecar has told it so
    upstream = {"name": "x", "host": "x", "port": 80, "circuitBreaker": {"openDuration": "9m", "maxOpenDuration": "1m"}}
    with pytest.raises(CommandError, match="openDuration must not be longer"):  # by the webhook
        walled.patch("vault", {"spec": {"upstreams": [upstream]}})

    pods = operator.get("pods", "-l", "app.kubernetes.io/name=nova")["items"]
    pod = next(one for one in pods if "deletionTimestamp" not in one["metadata"])
    vault, own = ip(walled, "vault"), pod["status"]["podIP"]
    places = {
        API_SERVER: OPEN,
        f"{vault}:15020": OPEN,
        "kube-dns.kube-system.svc.cluster.local:53": OPEN,
        f"{vault}:15100": DROPPED,
        "catalog.nova-demo:8080": DROPPED,
    }
    assert reached(operator, pod["metadata"]["name"], *places) == places
    assert reached(walled, CLIENT, f"{own}:8080", f"{own}:80") == {f"{own}:8080": OPEN, f"{own}:80": DROPPED}


def _converged(stage: Stage) -> bool:
    found = stage.get("nsvc", "vault")
    conditions = {one["type"]: one for one in found["status"]["conditions"]}
    told = conditions.get("Converged", {})
    current = told.get("observedGeneration") == found["metadata"]["generation"]
    return current and told.get("status") == "True" and found["status"].get("configHash") == stage.wanted_hash("vault")


TILL: Final = f"""\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {{name: till}}
spec:
  image: nova/services:dev
  args: [catalog, --port=8081]
  ports: [{{port: 80, appPort: 8081}}]
  upstreams: [{{name: database, host: postgres.{DATA}.svc, port: 5432, protocol: tcp}}]
  resources: {{requests: {{cpu: 10m, memory: 32Mi}}}}
  database:
    secretRef: till-db
    outbox: {{brokers: ["kafka.{DATA}.svc:9092"], replicas: 1}}
  monitoring: {{mode: "Off"}}
  networkPolicy: {{mode: Enforce}}
"""


def test_relays_reach_postgresql_and_kafka_and_nothing_else(cluster: Provider, walled: Stage) -> None:
    backend = Backend(walled.kubectl_path, walled.kubeconfig, namespace=WALLED)
    cluster.load([build_stores(Console())])
    stores.apply(backend)
    with Console(quiet=True).step("stores") as step:
        stores.wait(backend, step)
    stores.make_databases(backend, ["till"])
    walled.kubectl("apply", "-f", "-", text=TILL)
    walled.kubectl("wait", "--for=condition=OutboxRelayReady", "nsvc/till", "--timeout=120s", patience=130)
    backend.sql("till", "SELECT nova_outbox_append('walled', '7', 'tried', '{\"through\": \"the wall\"}')")
    assert backend.messages("walled", containing="the wall", within=30)

    relay = walled.get("pods", "-l", f"app.kubernetes.io/name={names.relay('till')}")["items"][0]
    vault = ip(walled, "vault")
    places = {f"postgres.{DATA}:5432": OPEN, f"kafka.{DATA}:9092": OPEN, f"{vault}:15100": DROPPED, API_SERVER: DROPPED}
    assert reached(walled, relay["metadata"]["name"], *places) == places
    metrics = f"{relay['status']['podIP']}:{names.METRICS_PORT}"  # with monitoring Off
    assert reached(walled, CLIENT, metrics) == {metrics: DROPPED}
