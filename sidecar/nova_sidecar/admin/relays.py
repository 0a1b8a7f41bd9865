"""What is counted of relayed TCP connections, as metrics; only ports of protocol tcp have any."""

from collections.abc import Sequence

from nova_sidecar.admin.families import CounterFamily, Family
from nova_sidecar.pipeline.stats import PortStats


def relay_metrics(ports: Sequence[PortStats]) -> Family:
    """Connections that are over, by how they ended."""
    family = CounterFamily(
        "nova_tcp_connections_closed",
        "Relayed TCP connections that are over, by how they ended.",
        labels=("direction", "name", "reason"),
    )
    for port in ports:
        for how, count in (port.relays or {}).items():
            family.add_metric((port.direction, port.name, how.value), count)
    return family
