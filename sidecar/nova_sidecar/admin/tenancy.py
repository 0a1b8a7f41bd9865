"""What is counted of tenants, as metrics; only where they are told apart.

Labels are names of the configuration. All others are ``other``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily


def tenancy_metrics(stats: Mapping[str, Any]) -> Iterator[Family]:
    """By tenant what was admitted, refused, and is under way."""
    requests = CounterFamily(
        "nova_tenancy_requests",
        "Requests by tenant and what became of them: admitted or the reason of the refusal; in Shadow what would have.",
        labels=("tenant", "result"),
    )
    in_flight = GaugeFamily("nova_tenancy_in_flight", "Requests under way, by tenant.", labels=("tenant",))
    for name, tenant in stats.get("tenants", {}).items():
        requests.add_metric((name, "admitted"), tenant["admitted"])
        for reason, count in tenant["refused"].items():
            requests.add_metric((name, reason), count)
        in_flight.add_metric((name,), tenant["inFlight"])
    active = GaugeFamily("nova_tenancy_active", "Tenants with requests under way.", labels=())
    if stats:
        active.add_metric((), stats["active"])
    yield from (requests, in_flight, active)
