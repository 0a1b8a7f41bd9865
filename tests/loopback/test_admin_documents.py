"""What docs/admin.md promises about /stats and exit codes is what there is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nova_api.policies import TracingPolicy
from nova_api.proxy import Store, encode
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimit, RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_api.units import Duration
from nova_sidecar.pipeline.desks import MAKERS

from .conftest import StartApp, StartSidecar
from .support.fleet import STORED
from .support.sidecar import document, inbound, outbound
from .support.tokens import of, policy
from .test_process import command

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "admin.md"
BY_NAME = {"inbound", "outbound", "limits", "tenants"}
"""Sections whose keys are names of the configuration."""
BY_REASON = {
    "transitions", "transitionsByCause", "suppressed", "refusedByPriority", "raised", "turnedAway", "wouldTurnAway",
    "calls", "reports", "lookups", "fetches", "redis", "refused",
}  # fmt: skip
"""Sections whose keys are of the lists that docs/metrics.md has."""


def keys(value: Any, under: str = "") -> Iterator[str]:
    """Every key of a document that says what something is, and not whose."""
    if isinstance(value, list):
        for each in value:
            yield from keys(each)
    elif isinstance(value, dict) and under not in BY_REASON and under != "rejected":
        for key, inner in value.items():
            if under not in BY_NAME:
                yield key
            yield from keys(inner, "" if under in BY_NAME else key)


def test_every_field_of_stats_is_documented_and_no_other(start: StartSidecar, app: StartApp) -> None:
    served = app().address
    sidecar = start(
        document(inbound(served), inbound(served, "live", protocol="websocket"),
                 inbound(served, "rpc", protocol="grpc"), outbound(served), affinity=STORED,
                 store=Store(url="redis://127.0.0.1:9/0", timeout=Duration(0.1)),
                 jwt=policy(issuers=[of(None, jwksUrl="http://127.0.0.1:9/keys")]),
                 rate_limit=RateLimitPolicy(mode="Enforce", limits=(RateLimit(name="clients", rate=5),)),
                 tenancy=TenancyPolicy(mode="Enforce"), cache=CachePolicy(mode="Enforce", tier="Redis"),
                 coalescing=CoalescingPolicy(mode="Enforce"),
                 pool_guard=PoolGuardPolicy(mode="Shadow"), idempotency=IdempotencyPolicy(mode="Shadow"))
    )  # fmt: skip
    assert len(sidecar.stats()["policies"]) == len(MAKERS) + 1  # each that keeps something is on, and the store
    section = DOCUMENT.read_text().partition("\n## /stats\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    words = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    values = {"compiled", "pure", "grpc", "serving", "leaving", "closing", "drained"}

    assert words - values == set(keys(sidecar.stats()))


def test_the_exit_codes(tmp_path: Path) -> None:
    """Those that no other test has; test_process and test_start_errors hold the rest."""
    file = tmp_path / "config.json"
    file.write_bytes(encode(document(inbound(("127.0.0.1", 9)), tracing=TracingPolicy())))

    good = command("--config", file, "--explain", "GET /")
    assert (good.returncode, good.stderr) == (0, "")
    assert "1. correlation: Enforce" in good.stdout
    bad = command("--config", file, "--explain", "GET http://elsewhere/")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("nova-sidecar: --explain: expected an upstream of the document, got elsewhere:80")
    assert command("--explain", "GET /").returncode == 2
