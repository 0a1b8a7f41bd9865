"""What is counted of session affinity, as metrics; only where it is on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily
from nova_sidecar.pipeline.stats import PortStats


def affinity_metrics(ports: Sequence[PortStats], stats: Mapping[str, Any]) -> Iterator[Family]:
    """Requests by what became of them, and what is known of the service's pods."""
    requests = CounterFamily(
        "nova_affinity_requests",
        "Requests by what session affinity made of them.",
        labels=("direction", "name", "result"),
    )
    for port in ports:
        for result, count in (port.affinity or {}).items():
            requests.add_metric((port.direction, port.name, result.value), count)
    yield requests
    siblings = GaugeFamily("nova_affinity_siblings", "Other pods of the service that are known.", labels=())
    if stats:
        siblings.add_metric((), stats["siblings"])
    yield siblings
