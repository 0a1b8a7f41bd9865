"""A canary on a real node under load: a good version loses no request, and a bad one is taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from nova_cli.demo.stage import Stage

pytestmark = pytest.mark.alone

URL = "http://canary-e2e:80/items"
RATE = 40
SECONDS_TO_ROLL_BACK = 60.0
SERVICE = """\
apiVersion: nova.dev/v1alpha1
kind: NovaService
metadata:
  name: canary-e2e
spec:
  image: nova/services:dev
  args: [catalog, --port=8081, --slots={slots}, --service-time-ms=5]
  replicas: 2
  ports:
    - {{port: 80, appPort: 8081}}
  readinessProbe: {{httpGet: {{path: /healthz, port: 8081}}, periodSeconds: 2}}
  shutdown: {{preStop: 5s, gracePeriod: 30s}}
  resources: {{requests: {{cpu: 20m, memory: 48Mi}}}}
  rollout:
    strategy: Canary
    steps: [{{weight: 50, hold: {hold}}}, {{weight: 100, hold: {hold}}}]
    checks: {{minimumSamples: 50}}
"""


@pytest.fixture
def service(stage: Stage) -> Iterator[None]:
    """Two pods of the first version."""
    apply(stage, slots=8)
    try:
        stage.kubectl("wait", "--for=condition=Ready", "nsvc/canary-e2e", "--timeout=100s", patience=110)
        assert stage.eventually(lambda: stage.call(URL)[0]["status"] == 200, within=30)
        yield
    finally:
        stage.kubectl("delete", "nsvc", "canary-e2e", "--ignore-not-found")


def apply(stage: Stage, *, slots: int, hold: str = "5s") -> None:
    stage.kubectl("apply", "-f", "-", text=SERVICE.format(slots=slots, hold=hold))


def rollout(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.get("nsvc", "canary-e2e")["status"]["rollout"]
    return found


def test_a_good_version_comes_into_force_without_a_lost_request(stage: Stage, service: None) -> None:
    with stage.load_meanwhile(URL, rate=RATE, fresh=True) as end:
        apply(stage, slots=9)
        assert stage.eventually(lambda: rollout(stage)["phase"] == "Promoted", within=120)
        meanwhile = end()
    assert meanwhile["statuses"] == {"200": meanwhile["requests"]}, meanwhile
    assert stage.eventually(lambda: len(stage.pods("canary-e2e")) == 2, within=60)


def test_a_bad_version_is_taken_back_and_the_stable_one_is_not_harmed(stage: Stage, service: None) -> None:
    stable = {pod.uid for pod in stage.pods("canary-e2e")}
    with stage.load_meanwhile(URL, rate=RATE, fresh=True) as end:
        apply(stage, slots=9, hold="10m")
        assert stage.eventually(lambda: bool(rollout(stage)["holdSince"]), within=60)
        (canary,) = (pod for pod in stage.pods("canary-e2e") if pod.uid not in stable)
        answer = stage.call(f"http://{canary.ip}:8081/faults", method="POST", data='{"mode": "errors"}')
        assert answer[0]["status"] < 300, answer
        began = time.monotonic()
        assert stage.eventually(lambda: rollout(stage)["phase"] == "Aborted", within=SECONDS_TO_ROLL_BACK)
        assert stage.eventually(lambda: canary.uid not in _uids(stage), within=SECONDS_TO_ROLL_BACK)
        assert time.monotonic() - began < SECONDS_TO_ROLL_BACK
        meanwhile = end()
    ended = rollout(stage)
    assert "of the canary's requests" in ended["message"]
    assert ended["stableFigures"]["failed"] == 0
    assert set(meanwhile["statuses"]) == {"200", "500"}, meanwhile  # nothing was lost, and only the canary failed
    after = stage.load(URL, rate=RATE, seconds=5)
    assert after["statuses"] == {"200": after["requests"]}, after


def _uids(stage: Stage) -> set[str]:
    return {pod.uid for pod in stage.pods("canary-e2e")}
