"""What one exchange leaves behind for the access log, and for the trace it belongs to where that is sampled.

The data path fills an `AccessEntry` once per exchange and hands it over; formatting and writing happen in batches
outside of it. No field ever holds a query string, a header value other than the correlation id, or a body.
"""

from typing import NamedTuple

import msgspec

from nova_sidecar.policy.trace import Span


class AccessEntry(msgspec.Struct, gc=False):
    """One finished exchange, downstream's view. Field order is the order in the line."""

    time: float
    """End of the exchange, seconds since the epoch."""
    direction: str
    """``inbound`` (to the app) or ``outbound`` (from the app to an upstream)."""
    name: str
    """Name of the port or of the upstream."""
    method: str
    path: str
    """Path without the query string; ``-`` where the request could not be read."""
    status: int
    """Status sent downstream; 0 where the connection ended before a response head."""
    reason: str
    """Why Nova refused or broke off; empty for an answer of the app or upstream that was passed on whole."""
    duration_ms: float
    upstream_ms: float
    """From the first byte sent of the last attempt to the head of its response; 0 where there was no attempt."""
    attempts: int
    bytes_in: int
    """Request body bytes read from downstream."""
    bytes_out: int
    """Response body bytes written downstream."""
    correlation_id: str
    downstream: str
    """IP address of the client."""
    upstream: str
    """``ip:port`` of the last attempt; empty where there was none."""
    grpc_status: int | msgspec.UnsetType = msgspec.UNSET
    """Code of a gRPC call, -1 where it got none; not in the line of what is no gRPC call."""


class AffinityEntry(AccessEntry, gc=False):
    """The same for a port with session affinity."""

    affinity: str = ""
    """What became of it there; empty where it was refused before."""

    @classmethod
    def of(cls, entry: AccessEntry, affinity: str) -> "AffinityEntry":
        """The entry, and this."""
        return cls(*(*msgspec.structs.astuple(entry), affinity))


class SpanEntry(NamedTuple):
    """What one sampled exchange leaves behind for the exporter. No query string, header value or body in it."""

    span: Span
    time: float
    """End of the exchange, seconds since the epoch."""
    now: float
    """The same instant on the monotonic clock, which the span's events are noted by."""
    seconds: float
    """Length of the exchange."""
    direction: str
    name: str
    server: tuple[str, int]
    """Host and port that the exchange was for: the app or the upstream, as configured."""
    method: str
    path: str
    status: int
    reason: str
    attempts: int
    correlation_id: str
    client: str
    endpoint: str
    """``ip:port`` of the last attempt; empty where there was none."""
    grpc_status: int | None = None
    """Code of a gRPC call, -1 where it got none; None for what is no gRPC call."""
