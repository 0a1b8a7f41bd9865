"""The sidecar with one request policy on at a time, beside itself without one and beside Envoy's filter of the kind.

Every limit is far above the load: what is measured is the price of deciding, not that of refusing. With Global the
sidecar asks a Redis on the load's side for each request.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from . import tools
from .processes import Address, free_ports, running
from .proxies import Build, Proxy, envoy, envoy_bootstrap, nova

MANY = 1_000_000
"""Requests in a second that no load here reaches."""

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

GLOBAL: Mapping[str, Any] = {
    "redis": {"url": "redis://127.0.0.1:6379/0"},
    "rateLimit": {"mode": "Enforce", "limits": [{**_LIMIT, "scope": "Global"}]},
}
"""The same limit, counted in the Redis that a builder is given."""


def envoy_rate_limit(folder: Path, app: Address) -> Proxy:
    """Envoy's local rate limit: one token bucket for all requests of the listener, which is less than one for each
    client, and what it has without a rate limit service."""
    made = envoy(folder, app, policies=False)
    (address,) = made.rows.values()
    document = envoy_bootstrap(address, app, policies=False)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    whole = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    manager["http_filters"].insert(
        0,
        {
            "name": "local_ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "clients",
                "token_bucket": {"max_tokens": MANY, "tokens_per_fill": MANY, "fill_interval": "1s"},
                "filter_enabled": whole,
                "filter_enforced": whole,
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            },
        },
    )
    (folder / "envoy.json").write_text(json.dumps(document))
    return Proxy(command=made.command, rows={"envoy_rate_limit": address})


@contextlib.contextmanager
def redis(core: int, folder: Path) -> Iterator[Address]:
    """A Redis on this core that keeps nothing on disk. Raises `tools.Unavailable`."""
    (port,) = free_ports(1)
    command = [tools.program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, core=core, errors=folder / "redis.err"):
        yield Address("127.0.0.1", port)


def builders(python: tools.Interpreter, store: Address | None) -> Mapping[str, Build]:
    """In the order of the report."""
    found: dict[str, Build] = {
        "nova": partial(nova, python=python),
        "nova_rate_limit": partial(nova, python=python, row="nova_rate_limit", spec=RATE_LIMIT),
        "nova_tenancy": partial(nova, python=python, row="nova_tenancy", spec=TENANCY),
        "nova_cache": partial(nova, python=python, row="nova_cache", spec=CACHE),
        "nova_coalescing": partial(nova, python=python, row="nova_coalescing", spec=COALESCING),
    }
    if store is not None:
        found["nova_rate_limit_global"] = partial(
            nova, python=python, row="nova_rate_limit_global", spec=GLOBAL, redis=store
        )
    return found | {"envoy": partial(envoy, policies=False), "envoy_rate_limit": envoy_rate_limit}
