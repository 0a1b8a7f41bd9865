"""The two filters that read other fields of a gRPC call than of a plain request."""

from nova_sidecar.pipeline.filters import NO_TIME, CorrelationFilter, DeadlineFilter
from nova_sidecar.pipeline.http2.call import Call
from nova_sidecar.policy import deadline
from nova_sidecar.policy.reasons import Reject

METADATA = b"correlation-id"
"""Where gRPC calls carry the id."""


class CallCorrelationFilter(CorrelationFilter):
    """Takes over the caller's id, from gRPC's metadata or the header, or makes one."""

    __slots__ = ()

    def on_request(self, exchange: Call, now: float) -> None:  # type: ignore[override]  # a chain for calls
        """Give the call its id."""
        captured = exchange.head.captured
        if not captured:
            exchange.correlation = self._ids.generate()
            self._stats.correlation_generated += 1
            return
        given = captured.get(METADATA) if exchange.head.is_grpc else None
        given = given or captured.get(self._header)
        exchange.correlation = taken = self._ids.adopt(given)
        if taken is given:
            self._stats.correlation_taken += 1
        else:
            self._stats.correlation_generated += 1


class CallDeadlineFilter(DeadlineFilter):
    """Sets the instant at which there must be a response, and the one at which the whole call is over."""

    __slots__ = ()

    def on_request(self, exchange: Call, now: float) -> Reject | None:  # type: ignore[override]  # a chain for calls
        """The port's budget or the caller's, where that is shorter. gRPC's own bounds all of the call, not only the
        time to its response; without one a call may stream for as long as something is said."""
        captured = exchange.head.captured
        if not captured:
            exchange.deadline_at = now + self._budget
            return None
        exchange.deadline_at = deadline.begin(now, self._budget, captured.get(deadline.HEADER))
        given = captured.get(deadline.GRPC_HEADER)
        if given is not None and exchange.head.is_grpc:
            seconds = deadline.parse_grpc(given)
            if seconds is not None:
                exchange.ends = ends = now + seconds
                exchange.deadline_at = min(exchange.deadline_at, ends)
        return None if exchange.deadline_at > now else NO_TIME
