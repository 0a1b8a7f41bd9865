"""Where tracing touches an exchange: its context on the way in, its span at the end."""

import time
from typing import Final, Protocol

from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.refusals import grpc_status
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.trace import TRACEPARENT, TRACESTATE, Sampler, Span, encode
from nova_sidecar.telemetry.entry import SpanEntry

_UNSAMPLED: Final = b"-00"
"""End of a context that is not sampled, from its 53rd byte on; it goes on unread."""


class SpanLog(Protocol):
    """Takes one entry per sampled exchange; never blocks and never raises."""

    def record(self, entry: SpanEntry) -> None:
        """Keep an entry for export. Called on the event loop, so it only appends."""
        ...


class TracingFilter:
    """Takes over the caller's trace or begins one; `exchange.trace` is what goes on in place of the caller's fields."""

    __slots__ = ("_draw", "_ready", "_record", "_sampler", "_server", "_stats")

    def __init__(self, sampler: Sampler, log: SpanLog, stats: PortStats, server: tuple[str, int]) -> None:
        self._sampler = sampler
        self._ready = sampler.ready
        self._draw = sampler.draw
        self._record = log.record
        self._stats = stats
        self._server = server

    def on_request(self, exchange: Handled, now: float) -> None:
        """Decide, and set what is passed on."""
        captured = exchange.head.captured
        given = captured.get(TRACEPARENT)
        if given is None:
            ready = self._ready
            line = ready.pop() if ready else self._draw()
            exchange.trace = line if line is not None else self._sample(exchange)
        elif given[52:] == _UNSAMPLED and TRACESTATE not in captured:
            exchange.trace = b"traceparent: " + given + b"\r\n"
        else:
            self._follow(exchange, given, captured.get(TRACESTATE))

    def _sample(self, exchange: Handled) -> bytes:
        exchange.span = span = self._sampler.span()
        return _lines(encode(span), None)

    def _follow(self, exchange: Handled, given: bytes, state: bytes | None) -> None:
        found = self._sampler.follow(given)
        if found is None:  # no context: the trace begins anew, and what belongs to the old one is dropped
            line = self._ready.pop() if self._ready else self._draw()
            exchange.trace = line if line is not None else self._sample(exchange)
            return
        if isinstance(found, Span):
            exchange.span = found
            found = encode(found)
        exchange.trace = _lines(found, state)

    def on_complete(self, exchange: Handled, now: float) -> None:
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
                grpc_status(exchange),
            )
        )


def _lines(context: bytes, state: bytes | None) -> bytes:
    line = b"traceparent: " + context + b"\r\n"
    return line if state is None else b"%btracestate: %b\r\n" % (line, state)
