"""The sidecar with one request policy on at a time, beside itself without one and beside Envoy's filters of the kind.

Every limit is far above the load: what is measured is the price of deciding, not that of refusing. With Global the
sidecar asks a Redis on the load's side for each request. All rows get the same requests, which carry a token, since
those of some must.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from . import tools
from .processes import Address, free_ports, running
from .proxies import Build, Proxy, envoy, envoy_bootstrap, nova
from .tokens import Tokens

MANY = 1_000_000
"""Requests in a second that no load here reaches."""
REMEMBERED = 4096
"""Tokens that a proxy with a memory for them has room for: more than there are."""

_LIMIT = {"name": "clients", "rate": MANY}
RATE_LIMIT: Mapping[str, Any] = {"rateLimit": {"mode": "Enforce", "limits": [_LIMIT]}}
TENANCY: Mapping[str, Any] = {
    "tenancy": {
        "mode": "Enforce",
        "tenants": [{"name": "acme", "maxConcurrency": 100, "rate": MANY}],
        "default": {"maxShare": "100%", "rate": MANY},
    }
}
CACHE: Mapping[str, Any] = {"cache": {"mode": "Enforce"}}
COALESCING: Mapping[str, Any] = {"coalescing": {"mode": "Enforce"}}
POOL_GUARD: Mapping[str, Any] = {"poolGuard": {"mode": "Enforce"}}

_REDIS = {"url": "redis://127.0.0.1:6379/0"}
"""For the API's sake: a builder is given another one."""
GLOBAL: Mapping[str, Any] = {
    "redis": _REDIS,
    "rateLimit": {"mode": "Enforce", "limits": [{**_LIMIT, "scope": "Global"}]},
}
"""The same limit, counted in Redis."""
IDEMPOTENCY: Mapping[str, Any] = {"idempotency": {"mode": "Enforce"}}
KEYED: Final = ("nova_idempotency", "nova_idempotency_global")
"""Rows that are shown requests with keys, the answers kept in the sidecar's memory, or in Redis."""


def _rate_limit_of_envoy() -> dict[str, Any]:
    """One token bucket for all requests of the listener, which is less than one for each client, and what Envoy has
    without a rate limit service."""
    whole = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "name": "local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "clients",
            "token_bucket": {"max_tokens": MANY, "tokens_per_fill": MANY, "fill_interval": "1s"},
            "filter_enabled": whole,
            "filter_enforced": whole,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        },
    }


def envoy_with(folder: Path, app: Address, *, row: str, http_filter: dict[str, Any]) -> Proxy:
    """Envoy as in its own row, and this filter before its router."""
    made = envoy(folder, app, policies=False)
    (address,) = made.rows.values()
    document = envoy_bootstrap(address, app, policies=False)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].insert(0, http_filter)
    (folder / "envoy.json").write_text(json.dumps(document))
    return Proxy(command=made.command, rows={row: address})


@contextlib.contextmanager
def redis(core: int, folder: Path) -> Iterator[Address]:
    """A Redis on this core that keeps nothing on disk. Raises `tools.Unavailable`."""
    (port,) = free_ports(1)
    command = [tools.program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, core=core, errors=folder / "redis.err"):
        yield Address("127.0.0.1", port)


def builders(python: tools.Interpreter, store: Address | None, tokens: Tokens) -> Mapping[str, Build]:
    """In the order of the report."""
    ours = {
        "nova_rate_limit": RATE_LIMIT,
        "nova_tenancy": TENANCY,
        "nova_cache": CACHE,
        "nova_coalescing": COALESCING,
        "nova_pool_guard": POOL_GUARD,
        "nova_idempotency": IDEMPOTENCY,
        "nova_jwt": tokens.nova(REMEMBERED),
        "nova_jwt_verified": tokens.nova(0),
    }
    theirs = {
        "envoy_rate_limit": _rate_limit_of_envoy(),
        "envoy_jwt": tokens.envoy(REMEMBERED),
        "envoy_jwt_verified": tokens.envoy(0),
    }
    found: dict[str, Build] = {"nova": partial(nova, python=python)}
    found |= {row: partial(nova, python=python, row=row, spec=spec) for row, spec in ours.items()}
    if store is not None:
        shared = {"nova_rate_limit_global": GLOBAL, "nova_idempotency_global": {**IDEMPOTENCY, "redis": _REDIS}}
        found |= {row: partial(nova, python=python, row=row, spec=spec, redis=store) for row, spec in shared.items()}
    found["envoy"] = partial(envoy, policies=False)
    return found | {row: partial(envoy_with, row=row, http_filter=one) for row, one in theirs.items()}
