"""What is counted of rate limits, as metrics; only where they are on. Labels are the names of the limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily


def rate_limit_metrics(stats: Mapping[str, Any]) -> Iterator[Family]:
    """By limit what was admitted and refused, and how much is kept."""
    requests = CounterFamily(
        "nova_rate_limit_requests",
        "Requests that count for a limit, by what it said; in Shadow what it would have said.",
        labels=("limit", "result"),
    )
    fallbacks = CounterFamily(
        "nova_rate_limit_fallbacks",
        "Requests that a global limit counted here, with this pod's share, since Redis gave no answer.",
        labels=("limit",),
    )
    spared = CounterFamily(
        "nova_rate_limit_spared", "Refusals by a global limit that needed no round trip to Redis.", labels=("limit",)
    )
    for name, limit in stats.get("limits", {}).items():
        requests.add_metric((name, "admitted"), limit["admitted"])
        requests.add_metric((name, "refused"), limit["refused"])
        fallbacks.add_metric((name,), limit["fallbacks"])
        spared.add_metric((name,), limit["spared"])
    keys = GaugeFamily("nova_rate_limit_keys", "Clients, keys and subjects that have a bucket.", labels=())
    overflows = CounterFamily(
        "nova_rate_limit_overflows",
        "Requests counted in a bucket shared with others, since there are as many keys as allowed (maxKeys).",
        labels=(),
    )
    if stats:
        keys.add_metric((), stats["keys"])
        overflows.add_metric((), stats["overflows"])
    yield from (requests, fallbacks, spared, keys, overflows)
