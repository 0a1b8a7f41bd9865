"""Two nodes: pods spread over them, and callers hardly notice when one is drained, cut off, or dies.

The order is that of the file: the last test leaves all pods on the first node.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from nova_api import names
from nova_cli.cluster.provider import Provider
from nova_cli.demo.bring_up import SYSTEM_NAMESPACE
from nova_cli.demo.stage import CLIENT, Stage
from nova_cli.errors import CommandError
from tests.e2e import chat
from tests.e2e.nodes import Nodes, client_on, leader

pytestmark = pytest.mark.alone

RATE = 20
SPREAD = {"mode": "Required", "keys": ["kubernetes.io/hostname"]}
SERVICES = ("stock", "till", "talk")
TILL = "http://till:80/"
TALK = "http://talk:80/healthz"
"""Says which pod answers."""
NOTICED = 5.0
"""Seconds until a caller's sidecar has learnt, from requests that time out after two, that a pod is not there."""
HAND_OVER = 15.0
RECOVERED = 60.0


def service(name: str, **spec: object) -> str:
    common = {
        "image": "nova/services:dev",
        "replicas": 2,
        "topologySpread": SPREAD,
        "ports": [{"port": 80, "appPort": 8081}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 1},
        "shutdown": {"preStop": "4s", "gracePeriod": "30s"},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "sidecar": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
    }
    meta = {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": {"name": name}}
    return yaml.safe_dump({**meta, "spec": {**common, **spec}})


STOCK = {"name": "stock", "host": "stock", "port": 80, "discovery": "Endpoints", "attemptTimeout": "2s"}
MANIFEST = "---\n".join(
    [
        service("stock", args=["catalog", "--port=8081", "--slots=16", "--service-time-ms=5"]),
        service(
            "till",
            args=["storefront", "--port=8081", "--catalog-url=http://stock:80"],
            upstreams=[{**STOCK, "retry": {"budget": "100%"}}],
        ),
        service(
            "talk",
            command=["python3", "-c", chat.APP],
            ports=[{"port": 80, "appPort": 8081, "protocol": "websocket"}],
            webSocket={"spread": "3s"},
        ),
    ]
)


@pytest.fixture(scope="module")
def nodes(cluster: Provider, stage: Stage) -> Iterator[Nodes]:
    """Two nodes with the three services on them; the client is on the first."""
    try:
        cluster.up(nodes=2)
    except CommandError as error:
        pytest.skip(str(error))
    first, second, *_ = cluster.nodes
    client_on(stage, first, others=[second])
    stage.kubectl("apply", "-f", "-", text=MANIFEST)
    for name in SERVICES:
        stage.kubectl("wait", "--for=condition=Ready", f"nsvc/{name}", "--timeout=120s", patience=130)
    assert stage.eventually(lambda: stage.call(TILL)[0]["status"] == 200, within=30)
    yield Nodes(cluster, stage, first, second)
    cluster.up()
    stage.kubectl("uncordon", second)
    stage.kubectl("delete", "nsvc", *SERVICES, "--ignore-not-found")


def test_pods_are_spread_over_both_nodes(nodes: Nodes) -> None:
    for name in SERVICES:
        assert nodes.of(name) == [nodes.first, nodes.second]
    nodes.stage.patch("stock", {"spec": {"replicas": 4}})
    assert nodes.stage.eventually(lambda: len(nodes.of("stock")) == 4, within=60)
    assert nodes.of("stock") == [nodes.first] * 2 + [nodes.second] * 2
    nodes.stage.patch("stock", {"spec": {"replicas": 2}})
    assert nodes.stage.eventually(lambda: len(nodes.of("stock")) == 2, within=60)
    nodes.stage.kubectl("rollout", "restart", "deployment/stock")
    nodes.stage.kubectl("rollout", "status", "deployment/stock", "--timeout=100s", patience=110)
    assert nodes.stage.eventually(lambda: nodes.of("stock") == [nodes.first, nodes.second], within=30)


def test_an_operator_that_is_cut_off_is_replaced_and_comes_back_as_the_other(nodes: Nodes) -> None:
    stage = nodes.stage
    acting = leader(stage)
    pod = json.loads(stage.kubectl("get", "pod", acting, f"--namespace={SYSTEM_NAMESPACE}", "-o", "json"))
    with stage.load_meanwhile(TILL, rate=RATE, fresh=True) as meanwhile:
        with nodes.silenced(pod):
            began = time.monotonic()
            assert stage.eventually(lambda: leader(stage) not in ("", acting), within=HAND_OVER)
            print(f"another operator acts {time.monotonic() - began:.1f} s after the first was cut off")
            stage.patch("stock", {"spec": {"backpressure": {"maxConcurrency": 77}}})
            assert stage.eventually(lambda: _converged(stage, "stock"), within=20)
        successor = leader(stage)
        assert stage.eventually(lambda: _operators_ready(stage) == 2, within=60)
        assert leader(stage) == successor
        result = meanwhile()
    assert result["statuses"] == {"200": result["requests"]}, str(result)


def test_a_node_that_is_cut_off_is_avoided_at_once_and_used_again_afterwards(nodes: Nodes) -> None:
    stage, url = nodes.stage, _on_the_first(nodes)
    before = {pod.uid for pod in stage.pods("stock")}
    with nodes.cut_off(nodes.second):
        _avoided(nodes, url)
    assert stage.eventually(lambda: nodes.ready(nodes.second), within=60)

    def both() -> bool:
        return len({json.loads(answer["body"])["catalog"]["servedBy"] for answer in stage.call(*[url] * 8)}) == 2

    began = time.monotonic()
    assert stage.eventually(both, within=30)
    print(f"both pods serve again {time.monotonic() - began:.1f} s after the node was back")
    assert {pod.uid for pod in stage.pods("stock")} == before
    after = stage.load(TILL, rate=RATE, seconds=3, fresh=True)
    assert after["statuses"] == {"200": after["requests"]}, str(after)


def test_a_lost_node_is_avoided_at_once_and_its_services_recover_within_a_minute(nodes: Nodes) -> None:
    """Callers with a sidecar go on. Others come through the Service's one address, behind which Kubernetes chooses: for
    them it takes until the control plane has missed the node for long enough."""
    stage, url = nodes.stage, _on_the_first(nodes)
    began = time.monotonic()
    nodes.cluster.lose(nodes.second)
    _avoided(nodes, url)

    def serves() -> bool:
        asked = stage.load(TILL, rate=RATE, seconds=1, fresh=True)
        return bool(asked["statuses"] == {"200": asked["requests"]})

    assert stage.eventually(serves, within=RECOVERED)
    print(f"the Service's address leads to pods that live {time.monotonic() - began:.1f} s after the loss")
    assert time.monotonic() - began < RECOVERED
    nodes.cluster.up()
    for name in SERVICES:
        assert stage.eventually(lambda name=name: nodes.of(name) == [nodes.first, nodes.second], within=60)
        stage.kubectl("wait", "--for=condition=Ready", f"nsvc/{name}", "--timeout=100s", patience=110)


def test_a_drain_under_load_loses_no_request_and_no_message(nodes: Nodes) -> None:
    """No message of a client: what an app says in the moment of a close may be lost (docs/websocket.md)."""
    stage = nodes.stage
    assert stage.eventually(lambda: len({stage.call(TALK)[0]["body"] for _ in range(8)}) == 2, within=60)
    talk = ["python3", "-c", chat.CLIENTS, "http://talk:80/live", "20", "0.05"]
    with _talking(stage, talk) as said_meanwhile, stage.load_meanwhile(TILL, rate=RATE, fresh=True) as meanwhile:
        began = time.monotonic()
        stage.kubectl(
            "drain", nodes.second, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s",
            patience=110,
        )  # fmt: skip
        took = time.monotonic() - began
        result, said = meanwhile(), said_meanwhile()
    print(f"drained in {took:.1f} s; {result['requests']} requests; {said}")
    assert result["statuses"] == {"200": result["requests"]}, str(result)
    assert (said["lost"], said["more"]) == ([], []), str(said)
    assert said["sent"] > 1000
    assert said["codes"].get("1012", 0) >= 1, str(said)  # the drain did meet some
    for name in SERVICES:
        assert nodes.of(name) == [nodes.first] * 2


@contextmanager
def _talking(stage: Stage, program: list[str]) -> Iterator[Callable[[], dict[str, Any]]]:
    """The clients of the chat, while the block takes; what it is given ends them and says how it was."""
    command, pipe = stage.command("exec", "--stdin", CLIENT, "--", *program), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield lambda: json.loads(process.communicate(timeout=60)[0])
        finally:
            process.kill()


def _avoided(nodes: Nodes, url: str) -> None:
    """The caller's sidecar takes the pod it cannot reach out of rotation; after that no request is late or fails."""
    stage, began = nodes.stage, time.monotonic()
    first = stage.load(url, rate=RATE, seconds=NOTICED)
    assert first["statuses"].get("200", 0) / first["requests"] > 0.5, str(first)
    assert stage.eventually(lambda: _ejected(nodes) == 1, within=NOTICED)
    print(f"first {NOTICED} s after the loss: {first['statuses']}, slowest {first['accepted']['max_ms']:.0f} ms")
    then = stage.load(url, rate=RATE, seconds=5)
    print(f"then: {then['statuses']}, p99 {then['accepted']['p99_ms']:.0f} ms; {time.monotonic() - began:.1f} s in all")
    assert then["statuses"] == {"200": then["requests"]}, str(then)
    assert then["accepted"]["p99_ms"] < 500, str(then)


def _on_the_first(nodes: Nodes) -> str:
    """A way to the till's pod on the first node, without a Service that might choose the other."""
    pod = nodes.pod_on(nodes.first, "till")
    url = f"http://{pod['status']['podIP']}:{names.INBOUND_PORT_BASE}/"
    assert nodes.stage.eventually(lambda: nodes.stage.call(url)[0]["status"] == 200, within=20)
    return url


def _ejected(nodes: Nodes) -> float:
    address = nodes.pod_on(nodes.first, "till")["status"]["podIP"]
    (answer,) = nodes.stage.call(f"http://{address}:{names.STATUS_PORT}/metrics")
    sample = 'nova_endpoints_ejected{direction="outbound",name="stock"} '
    return next(float(line.removeprefix(sample)) for line in answer["body"].splitlines() if line.startswith(sample))


def _converged(stage: Stage, name: str) -> bool:
    found = stage.get("novaservice", name)
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
    current = conditions.get("Converged", {})
    return bool(current.get("status") == "True" and current["observedGeneration"] == found["metadata"]["generation"])


def _operators_ready(stage: Stage) -> int:
    found = stage.kubectl("get", "deployment", names.OPERATOR_NAME, f"--namespace={SYSTEM_NAMESPACE}", "-o", "json")
    return int(json.loads(found)["status"].get("readyReplicas", 0))
