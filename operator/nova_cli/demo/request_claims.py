"""The claims about request policies, which are off until a service asks for them: each is switched on in the catalog's
NovaService for the time of its claim, in pods that go on running.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from nova_cli.demo.claim import CATALOG, Verdict, runs_everywhere
from nova_cli.demo.issuer import Issuer, bearer
from nova_cli.demo.stage import Stage
from nova_cli.errors import CommandError

ASKED: Final = 6
"""How often the same is asked of the cache."""
QUOTAS: Final = (
    {"name": "acme", "rate": 10, "maxConcurrency": 3},
    {"name": "globex", "rate": 50},
)
"""Of each catalog pod: requests a second, and half of the places for acme at most, however its requests bunch up."""
GREEDY_RATE: Final = 60
"""Requests a second of acme, three times what both pods allow it."""
MODEST_RATE: Final = 8
"""Requests a second of globex, which keeps to its quota even if one pod gets all of them."""
_SECONDS: Final = 3


def token(stage: Stage) -> Verdict:
    """Once `jwt` is on nobody is served without a token, or with one that somebody else has signed."""
    issuer = Issuer()
    good, forged = (bearer(one.token("jane", "catalog")) for one in (issuer, Issuer()))
    before = stage.pods("catalog")
    with _switched_on(stage, {"jwt": issuer.policy("catalog")}) as took:
        (none,), (wrong,), (right,) = (stage.call(CATALOG, headers=one) for one in ({}, forged, good))
    (after,) = stage.call(CATALOG)
    same = {pod.uid: pod.restarts for pod in before} == {pod.uid: pod.restarts for pod in stage.pods("catalog")}
    why = none["headers"].get("x-nova-reject")
    figures = (
        f"without a token {none['status']} ({why}), with a forged one {wrong['status']}, with a good one"
        f" {right['status']}; in force {took:.1f} s after the change of the manifest, and off again:"
        f" {after['status']}; pods restarted: {'none' if same else 'SOME'}"
    )
    statuses = [answer["status"] for answer in (none, wrong, right, after)]
    return Verdict(statuses == [401, 401, 200, 200] and why == "unauthenticated" and same, figures)


def cache(stage: Stage) -> Verdict:
    """Once `cache` is on the app is asked once for what it lets others have; all further answers are the sidecar's."""
    with _switched_on(stage, {"cache": {"mode": "Enforce"}}):
        before = _answered(stage)
        first, *others = stage.call(*[CATALOG] * ASKED)
        asked = _answered(stage) - before
    hits = [one for one in others if _is_hit(one) and one["body"] == first["body"]]
    median = statistics.median(one["ms"] for one in others)
    figures = (
        f"{len(hits)} of {len(others)} repeated requests answered by the sidecar, with Age"
        f" {hits[-1]['headers']['age'] if hits else '-'} and median {median:.1f} ms instead of {first['ms']:.0f} ms;"
        f" the app answered {asked} of {ASKED}"
    )
    return Verdict(first["status"] == 200 and len(hits) == len(others) and asked == 1, figures)


def tenants(stage: Stage) -> Verdict:
    """A tenant, known by its token, that asks for more than its rate is refused the rest; another one is served as if
    it were alone."""
    issuer = Issuer()
    greedy, modest = (bearer(issuer.token("jane", "catalog", tenant=name)) for name in ("acme", "globex"))
    tenancy = {"mode": "Enforce", "by": "Claim", "claim": "tenant", "tenants": list(QUOTAS)}
    with (
        _switched_on(stage, {"jwt": issuer.policy("catalog"), "tenancy": tenancy}),
        stage.background_load(CATALOG, rate=GREEDY_RATE, seconds=_SECONDS, headers=greedy) as running,
    ):
        calm = stage.load(CATALOG, rate=MODEST_RATE, seconds=_SECONDS, headers=modest)
        flood = running.result()
    refused = flood["statuses"].get("429", 0)
    served = calm["statuses"].get("200", 0)
    figures = (
        f"acme asked {flood['requests']} times in {flood['seconds']:.1f} s and was refused {refused} times (429,"
        f" {flood['rejects']}, median {flood['refused']['p50_ms']:.1f} ms); of globex' {calm['requests']} requests"
        f" {served} were served, p99 {calm['accepted']['p99_ms']:.0f} ms"
    )
    if served < calm["requests"]:
        figures += f"; {calm['statuses']} {calm['failures']} {calm['rejects']}"
    others = {status for status in flood["statuses"] if status not in ("200", "429")}
    bounded = refused > flood["requests"] / 3 and not others and not flood["failures"]
    return Verdict(bounded and served == calm["requests"], figures)


@contextmanager
def _switched_on(stage: Stage, policies: dict[str, Any]) -> Iterator[float]:
    """The catalog with these policies, which its example leaves alone; gives the seconds that it took.

    Raises CommandError where they do not come into force."""
    begin = time.monotonic()
    try:
        stage.patch("catalog", {"spec": policies})
        if not stage.eventually(lambda: runs_everywhere(stage, "catalog"), within=20, every=0.05):
            raise CommandError(f"the catalog's sidecars do not take over {', '.join(policies)}; see their logs")
        yield time.monotonic() - begin
    finally:
        stage.patch("catalog", {"spec": dict.fromkeys(policies)})
        stage.eventually(lambda: runs_everywhere(stage, "catalog"), within=20)


def _answered(stage: Stage) -> int:
    """Requests for items that the catalog's apps have had, as they say themselves."""
    urls = [f"http://{pod.ip}:8081/answered" for pod in stage.pods("catalog")]
    return sum(json.loads(answer["body"])["answered"] for answer in stage.call(*urls))


def _is_hit(answer: dict[str, Any]) -> bool:
    """By what the sidecar says of it (RFC 9211)."""
    headers = answer["headers"]
    return answer["status"] == 200 and "age" in headers and headers.get("cache-status", "").startswith("nova; hit")
