"""What is counted of coalescing, as metrics; only where it is or was on."""

from collections.abc import Sequence

from nova_sidecar.admin.families import CounterFamily, Family
from nova_sidecar.pipeline.stats import PortStats


def coalescing_metrics(ports: Sequence[PortStats]) -> Family:
    """Safe requests by what became of them."""
    requests = CounterFamily(
        "nova_coalescing_requests",
        "Safe requests by whose call to the app they got their response from.",
        labels=("direction", "name", "result"),
    )
    for port in ports:
        for result, count in port.policies.get("coalescing", {}).items():
            requests.add_metric((port.direction, port.name, result.value), count)
    return requests
