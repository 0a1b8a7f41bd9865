"""A client's cookie on a real node, without any ingress: whichever pod is asked, the client's own answers; when that is
gone, another one takes over and says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from nova_api import names
from nova_cli.demo.stage import Stage
from tests.e2e import chat

pytestmark = pytest.mark.alone

NAME = "carts"
SERVICE = {
    "apiVersion": "nova.dev/v1alpha1",
    "kind": "NovaService",
    "metadata": {"name": NAME},
    "spec": {
        "image": "nova/services:dev",
        "command": ["python3", "-c", chat.APP],
        "replicas": 3,
        "ports": [{"port": 80, "appPort": 8081}],
        "sessionAffinity": {"type": "Cookie"},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 1},
        "shutdown": {"preStop": "1s", "gracePeriod": "10s"},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    },
}


@pytest.fixture
def carts(stage: Stage) -> Iterator[None]:
    stage.kubectl("apply", "-f", "-", text=yaml.safe_dump(SERVICE))
    try:
        stage.kubectl("wait", "--for=condition=Ready", f"nsvc/{NAME}", "--timeout=100s", patience=110)
        yield
    finally:
        stage.kubectl("delete", "nsvc", NAME, "--ignore-not-found")


def asked(stage: Stage, cookie: str) -> list[dict[str, Any]]:
    """What each pod's sidecar answers; the app says its pod's name."""
    urls = [f"http://{pod.ip}:{names.INBOUND_PORT_BASE}/healthz" for pod in stage.pods(NAME) if pod.ip]
    return stage.call(*urls, headers={"cookie": cookie})


def test_the_pod_of_the_cookie_answers_and_when_it_is_gone_another_takes_over(stage: Stage, carts: None) -> None:
    assert stage.eventually(lambda: stage.call(f"http://{NAME}:80/healthz")[0]["status"] == 200, within=30)
    (first,) = stage.call(f"http://{NAME}:80/healthz")
    cookie, home = first["headers"]["set-cookie"].partition(";")[0], first["body"]
    assert stage.eventually(lambda: [one["body"] for one in asked(stage, cookie)] == [home] * 3, within=30)
    assert all("set-cookie" not in one["headers"] for one in asked(stage, cookie))

    stage.kubectl("delete", "pod", home, "--grace-period=0", "--force")

    def taken_over() -> bool:
        served = [one for one in asked(stage, cookie) if one["status"] == 200]
        return len(served) >= 2 and all(one["body"] != home and "set-cookie" in one["headers"] for one in served)

    assert stage.eventually(taken_over, within=60)
