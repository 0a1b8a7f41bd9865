"""The claims about services as they come up: what every one of them has without asking for it. And the list of all."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from nova_api import names
from nova_cli.demo.claim import CATALOG, STOREFRONT, Claim, Verdict, runs_everywhere
from nova_cli.demo.request_claims import cache, tenants, token
from nova_cli.demo.stage import Stage

CATALOG_DIRECT: Final = "http://catalog-direct:8080/items"
OVERLOAD_RATE: Final = 450
"""Requests a second, more than twice what both catalog pods can serve together (4 slots of 40 ms each: 200)."""
CALM_RATE: Final = 50


def correlation(stage: Stage) -> Verdict:
    """One id, given by the client, comes back and stands in the logs of both services and their sidecars."""
    wanted = f"demo-{uuid.uuid4()}"
    start = time.monotonic()
    (answer,) = stage.call(STOREFRONT, headers={"x-correlation-id": wanted})
    if answer["status"] != 200:
        return Verdict(False, f"storefront answered {answer['status']}: {answer['body'][:200]}")
    containers = (names.APP_CONTAINER, names.SIDECAR_CONTAINER)
    places = [(service, container) for service in ("storefront", "catalog") for container in containers]
    found: set[str] = set()

    def everywhere() -> bool:
        found.update(
            f"{service} {container}" for service, container in places if wanted in stage.logs(service, container)
        )
        return len(found) == len(places)

    complete = stage.eventually(everywhere, within=15)
    echoed = answer["headers"].get("x-correlation-id") == wanted
    figures = (
        f"{wanted} echoed: {'yes' if echoed else 'NO'}; found in {len(found)} of {len(places)} logs"
        f" ({', '.join(sorted(found))}) within {time.monotonic() - start:.1f} s"
    )
    return Verdict(complete and echoed, figures)


def breaker(stage: Stage) -> Verdict:
    """An upstream that fails: the breaker opens, callers get a fast 503 that says why; it half-opens and closes."""
    before = _transitions(stage)
    with _fault(stage, {"mode": "errors", "errorRate": 1.0}):
        failing = stage.load(STOREFRONT, rate=CALM_RATE, seconds=3)
        opened = stage.eventually(lambda: "open" in stage.breakers("storefront"), within=5)
    refused = failing["rejects"].get("circuit_open", 0)
    recovery = time.monotonic()

    def closed() -> bool:
        stage.load(STOREFRONT, rate=20, seconds=0.5)
        return set(stage.breakers("storefront")) == {"closed"}

    recovered = stage.eventually(closed, within=30)
    took = time.monotonic() - recovery
    moved = {step: count - before.get(step, 0) for step, count in _transitions(stage).items()}
    whole = all(moved.get(step, 0) > 0 for step in ("closed-open", "open-half_open", "half_open-closed"))
    fast = failing["refused"]["p50_ms"]
    figures = (
        f"{refused} of {failing['requests']} calls refused with circuit_open, median {fast:.1f} ms;"
        f" closed again {took:.1f} s after the upstream recovered; transitions {moved}"
    )
    return Verdict(opened and recovered and whole and refused > 0 and fast < 50, figures)


def overload(stage: Stage) -> Verdict:
    """Early rejection keeps the accepted requests' p99 flat, beside the same load without the sidecar."""
    calm = stage.load(CATALOG, rate=CALM_RATE, seconds=2)
    guarded = stage.load(CATALOG, rate=OVERLOAD_RATE, seconds=4)
    stage.settle("catalog")
    bare = stage.load(CATALOG_DIRECT, rate=OVERLOAD_RATE, seconds=4)
    refused = guarded["rejects"].get("overloaded", 0)
    flat, grown, base = guarded["accepted"]["p99_ms"], bare["accepted"]["p99_ms"], calm["accepted"]["p99_ms"]
    figures = (
        f"at {OVERLOAD_RATE} req/s accepted p99 {flat:.0f} ms with the sidecar ({guarded['accepted']['count']} served,"
        f" {refused} refused at once, median {guarded['refused']['p50_ms']:.1f} ms), {grown:.0f} ms without;"
        f" calm p99 {base:.0f} ms"
    )
    return Verdict(refused > 0 and flat < 500 and flat < grown / 3 and not guarded["failures"], figures)


def restart(stage: Stage) -> Verdict:
    """A rolling restart of both services under load: no request fails."""
    with stage.background_load(STOREFRONT, rate=CALM_RATE, seconds=stage.restart_seconds) as running:
        begin = time.monotonic()
        stage.kubectl("rollout", "restart", "deployment/storefront", "deployment/catalog")
        for name in ("storefront", "catalog"):
            stage.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s", patience=130)
        took = time.monotonic() - begin
        result = running.result()
    failed = result["requests"] - result["statuses"].get("200", 0)
    figures = (
        f"{failed} of {result['requests']} requests failed while every pod was replaced in {took:.1f} s;"
        f" p99 {result['accepted']['p99_ms']:.0f} ms"
    )
    if failed:
        figures += f"; {result['statuses']} {result['failures']} {result['rejects']}"
    return Verdict(failed == 0 and took < result["seconds"], figures)


def reload(stage: Stage) -> Verdict:
    """A changed threshold runs in every sidecar within seconds, and no pod restarts."""
    before = stage.pods("catalog")
    old = stage.spec("catalog")["backpressure"]["maxConcurrency"]
    try:
        begin = time.monotonic()
        stage.patch("catalog", {"spec": {"backpressure": {"maxConcurrency": old + 1}}})
        applied = stage.eventually(lambda: runs_everywhere(stage, "catalog"), within=20, every=0.05)
        took = time.monotonic() - begin
        proven = stage.eventually(lambda: _converged(stage, "catalog"), within=20)
    finally:
        stage.patch("catalog", {"spec": {"backpressure": {"maxConcurrency": old}}})
        stage.eventually(lambda: runs_everywhere(stage, "catalog"), within=20)
    same = {pod.uid: pod.restarts for pod in before} == {pod.uid: pod.restarts for pod in stage.pods("catalog")}
    figures = (
        f"maxConcurrency {old} -> {old + 1} ran in all {len(before)} sidecars after {took:.1f} s;"
        f" Converged: {'yes' if proven else 'NO'}; pods restarted: {'none' if same else 'SOME'}"
    )
    return Verdict(applied and proven and same and took < 5, figures)


CLAIMS: Final = (
    Claim("correlation", "a correlation id followed from the client through two services and back", correlation),
    Claim("breaker", "a failing upstream: fast refusals that say why, then recovery", breaker),
    Claim("overload", "overload: accepted requests stay fast", overload),
    Claim("restart", "a rolling restart under load: nothing fails", restart),
    Claim("reload", "a changed threshold: running everywhere in seconds, no pod restarted", reload),
    Claim("token", "a token is asked for: with one requests pass, without or with a forged one they do not", token),
    Claim("cache", "a cached answer: the app is asked once", cache),
    Claim("tenants", "a tenant above its quota is refused, the other one notices nothing", tenants),
)


@contextmanager
def _fault(stage: Stage, fault: dict[str, Any]) -> Iterator[None]:
    urls = [f"http://{pod.ip}:8081/faults" for pod in stage.pods("catalog")]
    json_body = {"content-type": "application/json"}
    stage.call(*urls, method="POST", headers=json_body, data=json.dumps(fault))
    try:
        yield
    finally:
        stage.call(*urls, method="POST", headers=json_body, data=json.dumps({"mode": "off"}))


def _transitions(stage: Stage) -> dict[str, int]:
    """Breaker transitions of all storefront sidecars, counted by ``from-to``."""
    counts: dict[str, int] = {}
    for name, labels, value in stage.metrics("storefront"):
        if name == "nova_breaker_transitions_total":
            step = f"{labels['from']}-{labels['to']}"
            counts[step] = counts.get(step, 0) + int(value)
    return counts


def _converged(stage: Stage, service: str) -> bool:
    document = json.loads(stage.kubectl("get", "novaservice", service, "-o", "json"))
    conditions = {c["type"]: c for c in document.get("status", {}).get("conditions", [])}
    current = conditions.get("Converged", {})
    return bool(
        current.get("status") == "True" and current.get("observedGeneration") == document["metadata"]["generation"]
    )
