"""Pods of a Deployment that Nova did not build, on a real node: injected when somebody answers, else found later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nova_api import names
from nova_cli.demo.stage import Stage

pytestmark = pytest.mark.alone  # the operator is taken away from everybody for a while

OPERATOR_NAMESPACE = "nova-system"
SERVICE = """\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata: {name: orders}
spec:
  workloadRef: {name: orders-app, mode: Inject}
  ports: [{port: 8080, appPort: 8081}]
  shutdown: {preStop: 1s, gracePeriod: 10s}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders-app}
spec:
  replicas: 2
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders, nova.dev/inject: orders}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: web
          image: nova/services:dev
          args: [catalog, --port=8081]
          readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}
          resources: {requests: {cpu: 10m, memory: 32Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""
URL = "http://orders:8080/healthz"


@pytest.fixture
def orders(stage: Stage) -> Iterator[None]:
    """The NovaService, without pods yet."""
    stage.kubectl("apply", "-f", "-", text=SERVICE)
    yield
    stage.kubectl("delete", "deployment/orders-app", "novaservice/orders", "--ignore-not-found")


def pods(stage: Stage) -> list[dict[str, Any]]:
    found = stage.get("pods", "-l", "app=orders")["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def with_sidecar(stage: Stage) -> tuple[int, int]:
    """Ready pods that have it, and ready pods."""
    ready = [one for one in pods(stage) if _condition(one, "Ready").get("status") == "True"]
    names_of = [[container["name"] for container in one["spec"].get("initContainers", [])] for one in ready]
    return sum(names.SIDECAR_CONTAINER in found for found in names_of), len(ready)


def test_a_foreign_deployment_is_protected_and_what_missed_it_is_repaired(stage: Stage, orders: None) -> None:
    """Under Pod Security *restricted*: with the operator there, without it, and with it back."""
    stage.kubectl("apply", "-f", "-", text=DEPLOYMENT)
    assert stage.eventually(lambda: with_sidecar(stage) == (2, 2), within=60)
    assert stage.eventually(lambda: stage.call(URL)[0]["status"] == 200, within=20)
    answered = [value for name, _, value in stage.metrics("orders") if name == "nova_requests_total"]
    assert sum(answered) >= 1
    assert stage.eventually(lambda: _service(stage, "Converged").get("status") == "True", within=30)
    stage.kubectl("delete", "deployment/orders-app")

    operator = ["-n", OPERATOR_NAMESPACE, "deployment/nova-operator"]
    stage.kubectl("scale", *operator, "--replicas=0")
    stage.kubectl(
        "wait", "-n", OPERATOR_NAMESPACE, "pod", "--for=delete", "-l", "app.kubernetes.io/name=nova", patience=90
    )
    try:
        stage.kubectl("apply", "-f", "-", text=DEPLOYMENT)
        assert stage.eventually(lambda: with_sidecar(stage) == (0, 2), within=60)
    finally:
        stage.kubectl("scale", *operator, "--replicas=2")
    assert stage.eventually(lambda: _service(stage, "Degraded").get("reason") == "SidecarMissing", within=90)
    stage.kubectl("annotate", "novaservice/orders", f"{names.ANNOTATION_REPAIR}=true")
    assert stage.eventually(lambda: with_sidecar(stage) == (2, 2), within=120)
    assert stage.eventually(lambda: stage.call(URL)[0]["status"] == 200, within=20)


def _service(stage: Stage, kind: str) -> dict[str, Any]:
    return _condition(stage.get("novaservice", "orders"), kind)


def _condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})
