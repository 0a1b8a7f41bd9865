"""Webhook configurations that lead to operators on this machine, as the chart's lead to its Service."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from nova_api import names
from nova_operator.admission_metrics import WEBHOOKS
from nova_operator.kinds import MUTATING_WEBHOOKS, NETWORK_POLICY, POD, SECRET, VALIDATING_WEBHOOKS
from nova_operator.kube import path_of
from tests.cluster.api import Api, ApiError, Object, until
from tests.cluster.operator_process import OperatorProcess, running

HOST = "127.0.0.1"


class Door:
    """The webhooks of one namespace: its Secret, its configurations, and the operators that answer."""

    def __init__(self, api: Api, namespace: str, kubeconfig: Path, directory: Path) -> None:
        self.api = api
        self.namespace = namespace
        self.port = free_port()
        self.name = f"nova-{namespace}"
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._replicas = 0

    @contextlib.contextmanager
    def operator(self, *arguments: str, port: int | None = None, ready: bool = True) -> Iterator[OperatorProcess]:
        """A replica that answers; it is `ready` when it has a certificate."""
        self._replicas += 1
        given = [
            f"--namespace={self.namespace}",
            f"--webhook-port={port or self.port}",
            f"--webhook-name={HOST}",
            f"--webhook-secret={self.namespace}/{self.name}",
            f"--webhook-configuration={self.name}",
            "--webhook-certificate-poll=0.2",
            "--injection-poll=0.5",
            "--webhook-certificate-lifetime=3600",
            *arguments,
        ]
        log = self._directory / f"operator-{self._replicas}.log"
        with running(self._kubeconfig, log, *given, ready=ready) as one:
            yield one

    def trusts(self) -> bool:
        """Whether the API server has been told whom to trust."""
        kinds = (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)
        hooks = [hook for kind in kinds for hook in self.api.get(kind, None, self.name)["webhooks"]]
        return all(hook["clientConfig"].get("caBundle") for hook in hooks)


@contextlib.contextmanager
def door(api: Api, namespace: str, kubeconfig: Path, directory: Path, *, policy: str = "Ignore") -> Iterator[Door]:
    """Configurations and an empty Secret, taken away in the end; `policy` is that of both webhooks."""
    one = Door(api, namespace, kubeconfig, directory)
    api.create(SECRET, namespace, {"metadata": {"name": one.name}})
    validating, mutating = _hooks(one, policy)
    api.create(VALIDATING_WEBHOOKS, None, {"metadata": {"name": one.name}, "webhooks": [validating]})
    api.create(MUTATING_WEBHOOKS, None, {"metadata": {"name": one.name}, "webhooks": [mutating]})
    try:
        yield one
    finally:
        api.delete(VALIDATING_WEBHOOKS, None, one.name)
        api.delete(MUTATING_WEBHOOKS, None, one.name)
        api.delete(SECRET, namespace, one.name)


@contextlib.contextmanager
def calls(review: Callable[[], object]) -> Iterator[list[str]]:
    """Calls one after the other, in the background; each gives its error, empty where there was none."""
    said: list[str] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                review()
            except ApiError as error:
                said.append(str(error))
            else:
                said.append("")

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield said
    finally:
        done.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def network_policies_unheard(api: Api, namespace: str) -> Iterator[None]:
    """Somebody's webhook for NetworkPolicies is down: the API server answers each write of one with 500."""
    name = f"unheard-{namespace}"
    hook = _common(namespace, "Fail") | {
        "name": "unheard.example.com",
        "clientConfig": {"url": f"https://{HOST}:1/"},
        "rules": [_rule("networking.k8s.io", "v1", NETWORK_POLICY.plural, "CREATE", "UPDATE")],
    }
    api.create(VALIDATING_WEBHOOKS, None, {"metadata": {"name": name}, "webhooks": [hook]})
    try:
        until(lambda: _is_unheard(api, namespace))
        yield
    finally:
        api.delete(VALIDATING_WEBHOOKS, None, name)


def _is_unheard(api: Api, namespace: str) -> bool:
    about = {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.kind}
    document = about | {"metadata": {"name": "asked"}, "spec": {"podSelector": {}}}
    try:
        api.call("POST", path_of(NETWORK_POLICY, namespace) + "?dryRun=All", document)
    except ApiError as error:
        return error.code == 500
    return False


def _hooks(one: Door, policy: str) -> tuple[Object, Object]:
    common = _common(one.namespace, policy)
    services, pods = WEBHOOKS
    validating = common | {
        "name": f"{services}.nova.dev",
        "clientConfig": {"url": f"https://{HOST}:{one.port}/validate"},
        "rules": [_rule("nova.dev", "v1alpha1", "novaservices", "CREATE", "UPDATE")],
    }
    mutating = common | {
        "name": f"{pods}.nova.dev",
        "clientConfig": {"url": f"https://{HOST}:{one.port}/inject"},
        "rules": [_rule("", "v1", "pods", "CREATE")],
        "objectSelector": {"matchExpressions": [{"key": names.LABEL_INJECT, "operator": "Exists"}]},
        "reinvocationPolicy": "IfNeeded",
    }
    return validating, mutating


def _common(namespace: str, policy: str) -> Object:
    return {
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "failurePolicy": policy,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }


def _rule(group: str, version: str, resource: str, *operations: str) -> Object:
    return {"apiGroups": [group], "apiVersions": [version], "resources": [resource], "operations": list(operations)}


def pod(service: str, **labels: str) -> Object:
    """A pod that asks for the sidecar of a service."""
    metadata = {"generateName": f"{service}-", "labels": {names.LABEL_INJECT: service, **labels}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]}}


def deployment(name: str, service: str, replicas: int) -> Object:
    """A Deployment that Nova did not build, whose pods ask for the sidecar."""
    template = pod(service, app=name)
    del template["metadata"]["generateName"]
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def has_sidecar(found: Object) -> bool:
    """Whether a pod has it."""
    return any(one["name"] == names.SIDECAR_CONTAINER for one in found["spec"].get("initContainers", []))


def make_ready(api: Api, namespace: str) -> None:
    """What kubelets do, as far as repair looks: every pod becomes ready that is not gone by then."""
    for found in api.list(POD, namespace):
        conditions = (found.get("status") or {}).get("conditions") or []
        if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            try:
                api.patch(POD, namespace, found["metadata"]["name"], {"status": status}, subresource="status")
            except ApiError as error:
                if error.code != 404:
                    raise


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
