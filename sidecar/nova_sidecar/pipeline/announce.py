"""What the log says of breakers and endpoints that changed their state; rare, since each stays so for a while."""

from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.ejection import Health
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.endpoints import Endpoint


def breaker_moved(stats: PortStats, before: str, after: str, cause: str) -> None:
    """A breaker went from one state to another."""
    get_logger().warning(
        "breaker moved", direction=stats.direction, name=stats.name, from_state=before, to_state=after, cause=cause
    )


def endpoint_changed(stats: PortStats, endpoint: Endpoint, health: Health, *, enforced: bool) -> None:
    """An endpoint was taken out, would have been (Shadow), or is back."""
    address, direction, name = f"{endpoint[0]}:{endpoint[1]}", stats.direction, stats.name
    if not health.ejected:
        get_logger().warning("endpoint back", direction=direction, name=name, address=address)
    elif enforced:
        seconds = round(health.out_for, 3)
        get_logger().warning("endpoint ejected", direction=direction, name=name, address=address, seconds=seconds)
    else:
        get_logger().warning("endpoint would be ejected", direction=direction, name=name, address=address)
