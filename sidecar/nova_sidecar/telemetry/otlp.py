"""From what an exchange leaves behind to spans of the OpenTelemetry SDK and its OTLP/HTTP exporter.

Imported only in the exporting thread, and only when tracing is on: the packages take 15 MB. Everything goes through
the SDK's public API. The ids were given by the data path when the context went on, so an `IdGenerator` hands them in.
Names follow the semantic conventions for HTTP and gRPC spans (https://opentelemetry.io/docs/specs/semconv/);
`url.full` and `url.query` are left out, since queries carry secrets; methods and paths stand there in their clean form.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from nova_api.hygiene import OTHER_METHOD, Cleaned, clean_method, clean_path
from nova_sidecar.telemetry.entry import SpanEntry
from nova_sidecar.telemetry.tracing import EXPORT_TIMEOUT

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SERVER_FAULTS: Final = frozenset((2, 4, 12, 13, 14, 15))
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS (semantic conventions for gRPC)."""
_KNOWN_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)


class OtlpExporter:
    """Sends spans to one collector. All but `shutdown` belongs to one thread."""

    def __init__(self, endpoint: str, *, service: str, namespace: str, version: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the tracer says it once, and counts
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_TIMEOUT)
        self._paths = Cleaned(clean_path)
        self._ids = _Given()
        self._ended = _Ended()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            id_generator=self._ids,
            resource=Resource.create({"service.name": service, "service.namespace": namespace}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("nova-sidecar", version)

    def export(self, entries: Sequence[SpanEntry]) -> bool:
        """Whether the collector took them."""
        for entry in entries:
            self._replay(entry._replace(method=clean_method(entry.method), path=self._paths[entry.path]))
        spans, self._ended.spans = self._ended.spans, []
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    def _replay(self, entry: SpanEntry) -> None:
        """Live the exchange again, at the times it had."""
        end = int(entry.time * 1e9)
        self._ids.trace_id, self._ids.span_id = int(entry.span.trace_id, 16), int(entry.span.span_id, 16)
        server = entry.direction == "inbound"
        span = self._tracer.start_span(
            _name(entry),
            context=_parent(entry),
            kind=SpanKind.SERVER if server else SpanKind.CLIENT,
            attributes=attributes(entry),
            start_time=end - int(entry.seconds * 1e9),
        )
        for at, name, reason, attempt in entry.span.events or ():
            details: dict[str, str | int] = {"nova.reason": reason, "nova.attempt": attempt}
            span.add_event(name, details, end - int((entry.now - at) * 1e9))
        if entry.reason:
            refused = "nova.breaker_refused" if entry.reason == "circuit_open" else "nova.rejected"
            span.add_event(refused, {"nova.reason": entry.reason}, end)
        if entry.reason or _failed(entry):
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)


def attributes(entry: SpanEntry) -> dict[str, Any]:
    """What a span says about its exchange."""
    server = entry.direction == "inbound"
    said: dict[str, Any] = {
        "http.request.method": entry.method if entry.method in _KNOWN_METHODS else OTHER_METHOD,
        "url.path": entry.path,
        "server.address": entry.server[0],
        "server.port": entry.server[1],
        "nova.direction": entry.direction,
        "nova.name": entry.name,
        "nova.attempts": entry.attempts,
    }
    if server:
        said["url.scheme"] = "http"
        said["client.address"] = entry.client
    elif entry.endpoint:
        said["network.peer.address"] = entry.endpoint.rpartition(":")[0]
    if entry.status:
        said["http.response.status_code"] = entry.status
    if entry.attempts > 1:
        said["http.request.resend_count"] = entry.attempts - 1
    if entry.correlation_id:
        said["nova.correlation_id"] = entry.correlation_id
    if entry.reason:
        said["nova.reason"] = said["error.type"] = entry.reason
    elif _failed(entry):
        said["error.type"] = str(entry.grpc_status or entry.status)
    if entry.grpc_status is not None:
        service, _, said["rpc.method"] = entry.path.removeprefix("/").rpartition("/")
        said |= {"rpc.system": "grpc", "rpc.service": service}
        if entry.grpc_status >= 0:
            said["rpc.grpc.status_code"] = entry.grpc_status
    return said


def _name(entry: SpanEntry) -> str:
    """A name of few values: the method, or that of a gRPC call."""
    if entry.grpc_status is not None:
        return entry.path.removeprefix("/")
    return entry.method if entry.method in _KNOWN_METHODS else "HTTP"


def _failed(entry: SpanEntry) -> bool:
    """Whether the answer is an error to the side that the span is of: a caller's fault is none of the server's."""
    server = entry.direction == "inbound"
    if entry.grpc_status is not None and entry.status < 400:
        return entry.grpc_status in _SERVER_FAULTS if server else entry.grpc_status > 0
    return entry.status >= (500 if server else 400)


def _parent(entry: SpanEntry) -> Context:
    """The caller's span, as the context of ours."""
    if entry.span.parent is None:
        return Context()
    context = SpanContext(
        int(entry.span.trace_id, 16), int(entry.span.parent, 16), is_remote=True, trace_flags=_SAMPLED
    )
    return trace.set_span_in_context(NonRecordingSpan(context))


class _Given(IdGenerator):
    """Hands in ids that are known already."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Ended(SpanProcessor):
    """Collects spans as they end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
