"""A Deployment that its owner runs is adopted under load, serves through the sidecar, and is given back under load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nova_cli.demo.stage import Stage

pytestmark = pytest.mark.alone

RATE = 20
OWN, NOVA = "http://ledger:80/items", "http://ledger-nova:80/items"
LEDGER = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ledger
spec:
  replicas: 2
  selector: {matchLabels: {app: ledger}}
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  template:
    metadata:
      labels: {app: ledger}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: ledger
          image: nova/services:dev
          args: [catalog, --port=8081, --slots=8, --service-time-ms=5]
          ports: [{name: http, containerPort: 8081}]
          readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 2}
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          resources: {requests: {cpu: 20m, memory: 48Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata:
  name: ledger
spec:
  selector: {app: ledger}
  ports: [{name: http, port: 80, targetPort: http}]
"""
SERVICE = """\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata:
  name: ledger-nova
spec:
  workloadRef: {name: ledger}
  ports:
    - {port: 80, appPort: 8081}
  shutdown: {preStop: 5s, gracePeriod: 30s}
"""


@contextmanager
def owned(stage: Stage) -> Iterator[dict[str, Any]]:
    """The owner's Deployment, running, as it is without Nova."""
    stage.kubectl("apply", "-f", "-", text=LEDGER)
    try:
        rolled_out(stage)
        assert stage.eventually(lambda: stage.call(OWN)[0]["status"] == 200, within=30)
        yield stage.get("deployment", "ledger")
    finally:
        stage.kubectl("delete", "novaservice", "ledger-nova", "--ignore-not-found", "--timeout=60s", patience=70)
        stage.kubectl("delete", "-f", "-", "--ignore-not-found", text=LEDGER)


def rolled_out(stage: Stage) -> None:
    stage.kubectl("rollout", "status", "deployment/ledger", "--timeout=240s", patience=250)


def test_it_is_adopted_and_given_back_without_a_lost_request(stage: Stage) -> None:
    with owned(stage) as before:
        with stage.load_meanwhile(OWN, rate=RATE) as end:
            stage.kubectl("apply", "-f", "-", text=SERVICE)
            stage.kubectl("wait", "--for=condition=Ready", "novaservice/ledger-nova", "--timeout=240s", patience=250)
            assert stage.eventually(lambda: stage.call(NOVA)[0]["status"] == 200, within=30)
            meanwhile = end()
        assert meanwhile["statuses"] == {"200": meanwhile["requests"]}, meanwhile

        through = stage.load(NOVA, rate=RATE, seconds=3)
        assert through["statuses"] == {"200": through["requests"]}, through
        samples = stage.metrics("ledger-nova")
        seen = sum(value for name, _, value in samples if name == "nova_requests_total")
        assert seen >= through["requests"]

        with stage.load_meanwhile(OWN, rate=RATE) as end:
            stage.kubectl("delete", "novaservice", "ledger-nova", "--timeout=60s", patience=70)
            rolled_out(stage)
            meanwhile = end()
        assert meanwhile["statuses"] == {"200": meanwhile["requests"]}, meanwhile
        after = stage.get("deployment", "ledger")
        assert after["spec"] == before["spec"]
        assert stage.eventually(lambda: not stage.pods("ledger-nova"), within=60)
        assert stage.call(OWN)[0]["status"] == 200
