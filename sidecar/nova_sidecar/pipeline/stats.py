"""Counters of the data path: plain integers and lists, there from the start with zero, read when metrics are scraped.

Nothing here knows the metrics library; a collector above turns these into metrics. The label sets are bounded: ports
and upstreams of the configuration, reasons of one table, status classes.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from nova_sidecar.policy.closing import Closed
from nova_sidecar.policy.fallback import Kind
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import Suppressed
from nova_sidecar.transport.seat import CloseReason
from nova_sidecar.transport.tls import TlsStats

if TYPE_CHECKING:  # what only some ports have is imported there
    from nova_sidecar.policy.affinity import Result
    from nova_sidecar.transport.relay import RelayEnd

Direction = Literal["inbound", "outbound"]

CLOSE_REASONS: Final[tuple[CloseReason, ...]] = get_args(CloseReason)
DURATION_BOUNDS: Final[tuple[float, ...]] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the duration histogram, seconds; one more bucket holds what is longer."""


WEB_SOCKET_BOUNDS: Final[tuple[float, ...]] = (
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    4 * 3600.0,
    12 * 3600.0,
    24 * 3600.0,
)
"""The same for WebSockets, which live for minutes to days."""


OTHER_CODE: Final = 17
"""Where gRPC codes are counted that are not in its list of 0 to 16."""


class Histogram:
    """Counts per bucket, not cumulated, and the sum of what was observed."""

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: tuple[float, ...] = DURATION_BOUNDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class WebSocketStats:
    """What is counted of a port's WebSockets."""

    __slots__ = ("closed", "duration", "opened", "possible", "reconnects")

    def __init__(self) -> None:
        self.possible = False
        """Whether the port passes upgrades on."""
        self.opened = 0
        self.closed: dict[Closed, int] = dict.fromkeys(Closed, 0)
        self.duration = Histogram(WEB_SOCKET_BOUNDS)
        self.reconnects = 0
        """Those whose session was seen before."""

    @property
    def open(self) -> int:
        """Those there are now."""
        return self.opened - sum(self.closed.values())

    def close(self, reason: Closed, seconds: float) -> None:
        """Count the end of one that lived so long."""
        self.closed[reason] += 1
        self.duration.observe(seconds)


class HandedOver:
    """Exchanges that another pod of the service answered; they are counted by the port as well."""

    __slots__ = ("duration", "responses")

    def __init__(self) -> None:
        self.responses = [0] * 6
        self.duration = Histogram()

    def count(self, status: int, seconds: float) -> None:
        """Count one."""
        self.responses[status // 100] += 1
        self.duration.observe(seconds)


class PortStats:
    """Everything counted for one inbound port or one upstream. It lives as long as the process: counters never fall."""

    __slots__ = (
        "affinity", "bytes_in", "bytes_out", "connect_failures", "connections_closed", "connections_opened",
        "correlation_generated", "correlation_taken", "direction", "downstream_active", "downstream_total",
        "duration", "fallbacks", "grpc", "handed_over", "in_flight", "name", "policies", "rejected", "relays",
        "responses", "retries", "retries_suppressed", "shadow_fallbacks", "shadow_rejected", "tls", "web_sockets",
    )  # fmt: skip

    def __init__(self, direction: Direction, name: str) -> None:
        self.direction: Direction = direction
        self.name = name
        self.responses = [0] * 6
        """Finished exchanges by status class: index 2 is 2xx; index 0 those that ended before a response head."""
        self.duration = Histogram()
        """Whole exchanges, first byte of the request to last of the response; upgrades are not in it."""
        self.in_flight = 0
        """Exchanges now."""
        self.rejected: dict[Reason, int] = dict.fromkeys(Reason, 0)
        """Refusals and break-offs sent downstream, by reason."""
        self.shadow_rejected: dict[Reason, int] = dict.fromkeys(Reason, 0)
        """What policies in Shadow mode would have refused."""
        self.retries = 0
        """Attempts after the first one."""
        self.retries_suppressed: dict[Suppressed, int] = dict.fromkeys(Suppressed, 0)
        """Retries that policy wanted and something forbade."""
        self.fallbacks: dict[Kind, int] = dict.fromkeys(Kind, 0)
        """Answers in place of the upstream's."""
        self.shadow_fallbacks: dict[Kind, int] = dict.fromkeys(Kind, 0)
        """Those that a policy in Shadow mode would have given."""
        self.connections_opened = 0
        self.connect_failures = 0
        self.connections_closed: dict[CloseReason, int] = dict.fromkeys(CLOSE_REASONS, 0)
        self.tls = TlsStats()
        self.grpc: list[int] | None = None
        """gRPC responses by code, `OTHER_CODE` for one that is none; only on ports of that protocol."""
        self.relays: dict[RelayEnd, int] | None = None
        """Relayed connections that are over, by how they ended; only on ports of protocol tcp."""
        self.affinity: dict[Result, int] | None = None
        """Requests by what session affinity made of them; only on ports that have it."""
        self.handed_over: HandedOver | None = None
        """Those that went to another pod; only on such ports."""
        self.policies: dict[str, Any] = {}
        """What request policies count, by their field; only of those that are or were on."""
        self.downstream_active = 0
        """Downstream connections now."""
        self.downstream_total = 0
        self.web_sockets = WebSocketStats()
        self.bytes_in = 0
        """Request body bytes."""
        self.bytes_out = 0
        """Response body bytes."""
        self.correlation_taken = 0
        self.correlation_generated = 0

    def shadow_circuit_open(self) -> None:
        """The breaker, in Shadow mode, would have refused."""
        self.shadow_rejected[Reason.CIRCUIT_OPEN] += 1

    def __repr__(self) -> str:
        return f"<PortStats {self.direction} {self.name} in_flight={self.in_flight} responses={self.responses}>"


class ProxyStats:
    """All ports that were ever configured in this process."""

    __slots__ = ("ports",)

    def __init__(self) -> None:
        self.ports: dict[tuple[Direction, str], PortStats] = {}

    def port(self, direction: Direction, name: str) -> PortStats:
        """The counters of a port; made on first use and kept through every reload."""
        key = (direction, name)
        found = self.ports.get(key)
        if found is None:
            found = self.ports[key] = PortStats(direction, name)
        return found
