"""What dies comes back, and what runs is not disturbed by it."""

import json
import re

import pytest

from nova_cli.demo.claims import STOREFRONT
from nova_cli.demo.stage import Stage
from nova_cli.errors import CommandError

pytestmark = pytest.mark.alone

OPERATOR_NAMESPACE = "nova-system"
WRONG = {
    "spec": {
        "upstreams": [
            {
                "name": "catalog",
                "host": "catalog",
                "port": 8080,
                "circuitBreaker": {"openDuration": "10m", "maxOpenDuration": "1m"},
            }
        ]
    }
}


def _ready(stage: Stage, service: str) -> bool:
    conditions = stage.get("novaservice", service).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_a_killed_pod_is_replaced_and_callers_hardly_notice(stage: Stage) -> None:
    victim = stage.pods("catalog")[0]
    with stage.background_load(STOREFRONT, rate=40, seconds=15) as running:
        stage.kubectl("delete", "pod", victim.name, "--grace-period=0", "--force")
        result = running.result()
    ok = result["statuses"].get("200", 0)
    assert ok / result["requests"] > 0.95, result
    assert stage.eventually(lambda: _ready(stage, "catalog"), within=60)
    assert victim.uid not in {pod.uid for pod in stage.pods("catalog")}
    after = stage.load(STOREFRONT, rate=40, seconds=3)
    assert after["statuses"] == {"200": after["requests"]}, after


def test_traffic_and_convergence_survive_a_killed_operator(stage: Stage) -> None:
    before = stage.spec("catalog")["backpressure"]["acquireTimeout"]
    with stage.load_meanwhile(STOREFRONT, rate=40) as end:
        stage.kubectl(
            "delete", "pods", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=nova",
            "--grace-period=0", "--force",
        )  # fmt: skip
        stage.patch("catalog", {"spec": {"backpressure": {"acquireTimeout": "1500ms"}}})
        wanted = stage.wanted_hash("catalog")
        try:
            assert stage.eventually(lambda: _status(stage, "catalog").get("configHash") == wanted, within=60)
            assert stage.eventually(lambda: _condition(stage, "catalog", "Converged") == "True", within=60)
        finally:
            stage.patch("catalog", {"spec": {"backpressure": {"acquireTimeout": before}}})
        result = end()
    assert result["statuses"] == {"200": result["requests"]}, result


def test_a_wrong_spec_is_refused_at_once_and_leaves_what_runs_untouched(stage: Stage) -> None:
    """By the webhook; what the operator makes of a spec that got past it is tested against the API server alone."""
    pods = {pod.uid for pod in stage.pods("storefront")}
    before = stage.spec("storefront")
    rule = r"\$\.spec\.upstreams\[0\]\.circuitBreaker: openDuration must not be longer than maxOpenDuration"
    assert stage.eventually(lambda: re.search(rule, _said_to_wrong_spec(stage)), within=60)  # the webhooks answer again
    try:
        with pytest.raises(CommandError, match=rule):
            stage.patch("storefront", WRONG)
    finally:
        stage.patch("storefront", {"spec": {"upstreams": before["upstreams"]}})
    assert stage.spec("storefront") == before
    answer = stage.load(STOREFRONT, rate=40, seconds=1)
    assert answer["statuses"] == {"200": answer["requests"]}, answer
    assert {pod.uid for pod in stage.pods("storefront")} == pods
    assert _ready(stage, "storefront")


def _said_to_wrong_spec(stage: Stage) -> str:
    """What the API server answers, without storing it."""
    try:
        return stage.kubectl("patch", "nsvc", "storefront", "--type=merge", "--dry-run=server", "-p", json.dumps(WRONG))
    except CommandError as error:
        return str(error)


def _status(stage: Stage, service: str) -> dict[str, object]:
    status: dict[str, object] = stage.get("novaservice", service).get("status", {})
    return status


def _condition(stage: Stage, service: str, kind: str) -> str:
    document = stage.get("novaservice", service)
    for condition in document.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["observedGeneration"] == document["metadata"]["generation"]:
            return str(condition["status"])
    return "Unknown"
