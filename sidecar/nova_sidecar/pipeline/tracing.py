"""Where tracing touches an exchange: its context on the way in, its span at the end."""

import time
from typing import Protocol

from nova_sidecar.pipeline.exchange import Exchange
from nova_sidecar.pipeline.refusals import REFUSALS
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.trace import TRACEPARENT, TRACESTATE, Sampler, Span, encode
from nova_sidecar.telemetry.entry import SpanEntry


class SpanLog(Protocol):
    """Takes one entry per sampled exchange; never blocks and never raises."""

    def record(self, entry: SpanEntry) -> None:
        """Keep an entry for export. Called on the event loop, so it only appends."""
        ...


class TracingFilter:
    """Takes over the caller's trace or begins one; `exchange.trace` is what goes on in place of the caller's fields."""

    __slots__ = ("_begin", "_follow", "_record", "_server", "_stats")

    def __init__(self, sampler: Sampler, log: SpanLog, stats: PortStats, server: tuple[str, int]) -> None:
        self._begin = sampler.begin
        self._follow = sampler.follow
        self._record = log.record
        self._stats = stats
        self._server = server

    def on_request(self, exchange: Exchange, now: float) -> None:
        """Decide, and set what is passed on."""
        captured = exchange.head.captured
        given = captured.get(TRACEPARENT)
        found = self._begin() if given is None else self._follow(given)
        state = captured.get(TRACESTATE) if given is not None else None
        if found is None:
            found, state = self._begin(), None
        if isinstance(found, Span):
            exchange.span = found
            found = encode(found)
        if state is None:
            exchange.trace = b"traceparent: %b\r\n" % found
        else:
            exchange.trace = b"traceparent: %b\r\ntracestate: %b\r\n" % (found, state)

    def on_complete(self, exchange: Exchange, now: float) -> None:
        """Hand over the span, where there is one."""
        span = exchange.span
        if span is None:
            return
        stats, head, reason = self._stats, exchange.head, exchange.reason
        self._record(
            SpanEntry(
                span,
                time.time(),
                now,
                now - exchange.started,
                stats.direction,
                stats.name,
                self._server,
                head.verb,
                head.path,
                exchange.status,
                "" if reason is None else reason.value,
                exchange.attempts,
                exchange.correlation.decode("ascii"),
                exchange.downstream.client,
                exchange.endpoint or "",
                _grpc_status(exchange),
            )
        )


def _grpc_status(exchange: Exchange) -> int | None:
    """Calls over HTTP/2 have one; exchanges over HTTP/1.1, which share this filter, do not know the attribute."""
    if not getattr(exchange.head, "is_grpc", False):
        return None
    code: int = getattr(exchange, "grpc_status", -1)
    if code < 0 and isinstance(exchange.reason, Reason):
        code = REFUSALS[exchange.reason].code
    return code
