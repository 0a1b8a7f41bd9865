"""Two nodes and what can happen to them, for tests: where pods are, and who is cut off from whom.

Packets are dropped by rules in the nodes' own networks, before and after everything that kube-proxy does, so that
nobody is told anything: neither a reset nor an unreachable host, as with a cable that was pulled somewhere in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nova_api import names
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import Provider
from nova_cli.demo import bring_up
from nova_cli.demo.stage import CLIENT, Stage


@dataclass(frozen=True)
class Nodes:
    """The cluster's nodes: `first` has the control plane and the client, `second` is the one that things happen to."""

    cluster: Provider
    stage: Stage
    first: str
    second: str

    def of(self, service: str) -> list[str]:
        """The nodes of the service's pods that are not on their way out."""
        return sorted(pod["spec"]["nodeName"] for pod in self._pods(service))

    def pod_on(self, node: str, service: str) -> dict[str, Any]:
        """The one pod of the service there."""
        (found,) = (pod for pod in self._pods(service) if pod["spec"]["nodeName"] == node)
        return found

    def ready(self, node: str) -> bool:
        """Whether the control plane thinks that the node runs."""
        conditions = self.stage.get("node", node)["status"]["conditions"]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    @contextmanager
    def cut_off(self, node: str) -> Iterator[None]:
        """Nothing enters the node or leaves it; what is on it goes on."""
        with self._dropping(node, ("raw", "PREROUTING", "-i", "eth0"), ("mangle", "POSTROUTING", "-o", "eth0")):
            yield

    @contextmanager
    def silenced(self, pod: dict[str, Any]) -> Iterator[None]:
        """Nothing that the pod sends arrives, wherever it is sent to."""
        with self._dropping(pod["spec"]["nodeName"], ("raw", "PREROUTING", "-s", pod["status"]["podIP"])):
            yield

    @contextmanager
    def _dropping(self, node: str, *rules: tuple[str, ...]) -> Iterator[None]:
        for rule in rules:
            self._iptables(node, "--insert", *rule)
        try:
            yield
        finally:
            for rule in rules:
                self._iptables(node, "--delete", *rule)

    def _iptables(self, node: str, verb: str, table: str, chain: str, *match: str) -> None:
        command = ["iptables", "--table", table, verb, chain, *match, "--jump", "DROP"]
        run(self.cluster.inside(command, node=node))

    def _pods(self, service: str) -> list[dict[str, Any]]:
        items = self.stage.get("pods", "-l", f"{names.LABEL_SERVICE}={service}")["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"] and "nodeName" in item["spec"]]


def client_on(stage: Stage, node: str, others: list[str]) -> None:
    """See that the client is on that node, so that it survives what happens to the others."""
    if stage.get("pod", CLIENT)["spec"]["nodeName"] == node:
        return
    stage.kubectl("delete", "pod", CLIENT)
    for other in others:
        stage.kubectl("cordon", other)
    try:
        stage.kubectl("apply", "-f", str(Path(bring_up.__file__).with_name("client.yaml")))
        stage.kubectl("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=60s", patience=70)
    finally:
        for other in others:
            stage.kubectl("uncordon", other)


def leader(stage: Stage) -> str:
    """The name of the operator's pod that acts; empty while none does."""
    system = f"--namespace={bring_up.SYSTEM_NAMESPACE}"
    lease = json.loads(stage.kubectl("get", "lease", names.OPERATOR_NAME, system, "-o", "json"))
    return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
