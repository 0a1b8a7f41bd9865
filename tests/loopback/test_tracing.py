"""Traces across sidecars: what is passed on, what is exported, and that a collector is nobody's problem."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from nova_api.policies import BreakerPolicy, RetryPolicy, TracingPolicy
from nova_api.proxy import Outbound
from nova_api.units import Share

from .conftest import StartApp, StartSidecar
from .support.app import App
from .support.certificates import Authority
from .support.collector import Collector
from .support.grpcapp import GrpcApp, GrpcClient
from .support.grpcapp import request as grpc_request
from .support.message import Message, request, response
from .support.sidecar import Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually

SOON = 20.0
"""Seconds for spans to arrive: the packages are imported first, which takes a second or more of a busy machine."""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SAMPLED = f"traceparent: 00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"traceparent: 00-{TRACE}-{CALLER}-00"


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def to(collector: Collector, sample: float = 0.0) -> TracingPolicy:
    return TracingPolicy(mode="Enforce", endpoint=collector.endpoint, sample=Share(sample))


def upstream(app: App, **fields: Any) -> Outbound:
    return outbound(app.address, **fields)


def ask(sidecar: Sidecar, *lines: str, target: str = "/", name: str | None = None) -> Message:
    with sidecar.connect(name) as client:
        return client.exchange(request("GET", target, *lines))


def test_a_trace_is_joined_across_two_sidecars(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    served = app()
    callee = start(document(inbound(served.address), service="callee", tracing=to(collector)))
    caller = start(document(outbound(callee.address(), "callee"), service="caller", tracing=to(collector)))

    ask(caller, SAMPLED, "tracestate: a=1", "tracestate: b=2", "X-Correlation-Id: abc", target="/users?token=hidden")

    eventually(lambda: len(collector.spans) == 2, within=SOON)
    ours, theirs = sorted(collector.spans, key=lambda span: span.service)
    assert (ours.service, ours.kind, ours.parent) == ("callee", "SERVER", theirs.span_id)
    assert (theirs.service, theirs.kind, theirs.parent) == ("caller", "CLIENT", CALLER)
    assert {ours.trace_id, theirs.trace_id} == {TRACE}
    assert collector.paths == {"/v1/traces"}
    arrived = served.requests[-1]
    assert arrived.get("traceparent") == f"00-{TRACE}-{ours.span_id}-01"
    assert ", ".join(arrived.all("tracestate")) == "a=1, b=2"
    host, port = served.address
    assert (
        ours.attributes
        | {
            "http.request.method": "GET",
            "url.path": "/users",
            "url.scheme": "http",
            "http.response.status_code": 200,
            "server.address": host,
            "server.port": port,
            "client.address": "127.0.0.1",
            "nova.correlation_id": "abc",
            "nova.attempts": 1,
        }
        == ours.attributes
    )
    assert theirs.attributes["network.peer.address"] == "127.0.0.1"
    assert 0 < ours.nanoseconds < theirs.nanoseconds < 10e9


def test_secrets_never_leave(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    sidecar = start(document(inbound(app().address), tracing=to(collector)))

    ask(
        sidecar,
        SAMPLED,
        "Authorization: Bearer hidden-1",
        "Cookie: session=hidden-2",
        "tracestate: vendor=hidden-3",
        target="/a?token=hidden-4",
    )

    eventually(lambda: len(collector.spans) == 1, within=SOON)
    assert b"hidden" not in b"".join(collector.bodies)


def test_callers_who_do_not_sample_are_followed(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    """Their context goes on as it came, though every other request is sampled."""
    served = app()
    sidecar = start(document(inbound(served.address), tracing=to(collector, 1.0)))

    ask(sidecar, UNSAMPLED, "tracestate: a=1")
    ask(sidecar, SAMPLED)

    eventually(lambda: len(collector.spans) == 1, within=SOON)
    assert collector.spans[0].parent == CALLER
    assert served.requests[0].get("traceparent") == UNSAMPLED.partition(": ")[2]
    assert served.requests[0].get("tracestate") == "a=1"


def test_traces_begin_here_where_the_caller_has_none(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    served = app()
    sidecar = start(document(inbound(served.address), tracing=to(collector, 1.0)))

    ask(sidecar)
    ask(sidecar, f"traceparent: 00-{TRACE}-{CALLER}", "tracestate: a=1")

    eventually(lambda: len(collector.spans) == 2, within=SOON)
    for arrived, span in zip(served.requests, collector.spans, strict=True):
        assert arrived.get("traceparent") == f"00-{span.trace_id}-{span.span_id}-01"
        assert span.parent == ""
        assert arrived.get("tracestate") is None
    assert collector.spans[0].trace_id != collector.spans[1].trace_id != TRACE


def test_what_is_not_sampled_tells_those_who_follow(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    served = app()
    sidecar = start(document(inbound(served.address), tracing=to(collector, 0.0)))

    for _ in range(3):
        ask(sidecar)

    contexts = [arrived.get("traceparent") or "" for arrived in served.requests]
    assert all(context.startswith("00-") and context.endswith("-00") for context in contexts)
    assert len(set(contexts)) == 3
    assert sidecar.stats()["tracing"]["pending"] == 0


def test_off_passes_the_context_on_as_it_came(start: StartSidecar, app: StartApp) -> None:
    served = app()
    sidecar = start(document(inbound(served.address)))

    ask(sidecar, SAMPLED, "Tracestate: a=1", "tracestate: b=2")

    lines = served.requests[-1].lines
    assert [line for line in lines if line[0].lower().startswith("trace")] == [
        ("traceparent", SAMPLED.partition(": ")[2]),
        ("Tracestate", "a=1"),
        ("tracestate", "b=2"),
    ]
    assert not any(line[0] == "traceparent" for line in _arrived_without(sidecar, served))


def _arrived_without(sidecar: Sidecar, served: App) -> list[tuple[str, str]]:
    ask(sidecar)
    return served.requests[-1].lines


def test_retries_and_refusals_are_events(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    failing = app(lambda _: response("503 Service Unavailable"))
    sidecar = start(
        document(
            upstream(failing, retry=RetryPolicy(attempts=2), circuit_breaker=BreakerPolicy(failure_threshold=2)),
            tracing=to(collector),
        )
    )

    assert [ask(sidecar, SAMPLED).status for _ in range(2)] == [503, 503]

    eventually(lambda: len(collector.spans) == 2, within=SOON)
    tried, refused = collector.spans
    assert tried.events == [("nova.retry", {"nova.reason": "503", "nova.attempt": 2})]
    assert tried.attributes["http.request.resend_count"] == 1
    assert tried.attributes["error.type"] == "503"
    assert refused.events == [("nova.breaker_refused", {"nova.reason": "circuit_open"})]
    assert refused.attributes["nova.reason"] == refused.attributes["error.type"] == "circuit_open"
    assert tried.failed
    assert refused.failed


@pytest.mark.parametrize("trouble", ["down", "refuses", "stalls"])
def test_a_collector_in_trouble_costs_spans_and_nothing_else(
    start: StartSidecar, app: StartApp, collector: Collector, trouble: str
) -> None:
    policy = to(collector)
    if trouble == "down":
        policy = TracingPolicy(mode="Enforce", endpoint="http://127.0.0.1:1", sample=Share(1.0))
    collector.status = 400
    if trouble == "stalls":
        collector.answering.clear()
    sidecar = start(document(inbound(app().address), tracing=policy))

    began = time.monotonic()
    assert [ask(sidecar, SAMPLED).status for _ in range(20)] == [200] * 20
    assert time.monotonic() - began < 5

    eventually(lambda: sidecar.metric("nova_spans_total", outcome="failed") == 20, within=SOON)
    eventually(lambda: any(line["event"] == "spans are not exported" for line in sidecar.log))
    assert sidecar.stats()["tracing"]["exported"] == 0


def test_a_collector_must_prove_who_it_is(
    start: StartSidecar, app: StartApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own variable names further certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)  # they would count instead
    authority = Authority()
    pair = authority.issue("localhost")
    for name, text in {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}.items():
        (tmp_path / name).write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    collector = Collector(context)
    try:
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca"))
            sidecar = start(document(inbound(app().address), tracing=to(collector)))
            ask(sidecar, SAMPLED)
            outcome = "exported" if trusted else "failed"
            eventually(lambda: sidecar.metric("nova_spans_total", outcome=outcome) == 1, within=SOON)  # noqa: B023 - called before the loop goes on
    finally:
        collector.close()
    assert len(collector.spans) == 1


def test_the_end_does_not_wait_for_a_collector_that_hangs(
    start: StartSidecar, app: StartApp, collector: Collector
) -> None:
    collector.answering.clear()
    sidecar = start(document(inbound(app().address), tracing=to(collector)))
    ask(sidecar, SAMPLED)

    began = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - began < 8


def test_the_last_spans_are_flushed(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    sidecar = start(document(inbound(app().address), tracing=to(collector)))
    ask(sidecar, SAMPLED)

    assert sidecar.stop() == 0

    assert len(collector.spans) == 1


def test_a_reload_switches_it_on_and_off(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    config = document(inbound(app().address))
    sidecar = start(config)
    ask(sidecar, SAMPLED)

    sidecar.reload(with_fields(config, tracing=to(collector)))
    eventually(lambda: sidecar.stats()["tracing"]["enabled"])
    ask(sidecar, SAMPLED)
    eventually(lambda: len(collector.spans) == 1, within=SOON)

    sidecar.reload(config)
    eventually(lambda: not sidecar.stats()["tracing"]["enabled"])
    ask(sidecar, SAMPLED)
    counts = sidecar.stats()["tracing"]
    assert (counts["exported"], counts["dropped"], counts["pending"]) == (1, 0, 0)


def test_deadlines_and_traces_live_together(start: StartSidecar, app: StartApp, collector: Collector) -> None:
    """Everything that Nova adds to a head is there, once."""
    served = app()
    sidecar = start(document(inbound(served.address), tracing=to(collector)))

    ask(sidecar, SAMPLED, "x-nova-deadline-ms: 500")
    names = [name.lower() for name, _ in served.requests[-1].lines]
    assert sorted(names) == sorted(set(names))
    assert {"traceparent", "x-nova-deadline-ms", "x-correlation-id", "x-forwarded-for"} <= set(names)


def test_grpc_calls_are_traced_alike(start: StartSidecar, collector: Collector) -> None:
    """Over HTTP/2, across two sidecars: the context goes on as metadata, and the call's own status counts."""
    server = GrpcApp()
    try:
        callee = start(document(inbound(server.address, protocol="grpc"), service="callee", tracing=to(collector)))
        caller = start(
            document(outbound(callee.address(), "callee", protocol="grpc"), service="caller", tracing=to(collector))
        )
        context = [("traceparent", SAMPLED.partition(": ")[2]), ("tracestate", "a=1")]
        with GrpcClient(caller.address()) as client:
            seen = dict(client.inspect(metadata=context)["metadata"])
            with pytest.raises(grpc.RpcError):
                client.unary(grpc_request(status=5), metadata=context, timeout=10)
        eventually(lambda: len(collector.spans) == 4, within=SOON)
    finally:
        server.stop()

    spans = sorted(collector.spans, key=lambda span: (span.service, span.attributes["rpc.grpc.status_code"]))
    assert [(span.service, span.kind, span.attributes["rpc.grpc.status_code"], span.failed) for span in spans] == [
        ("callee", "SERVER", 0, False), ("callee", "SERVER", 5, False),
        ("caller", "CLIENT", 0, False), ("caller", "CLIENT", 5, True),
    ]  # fmt: skip
    assert {span.name for span in spans} == {"grpc.testing.TestService/UnaryCall"}
    assert {span.attributes["rpc.service"] for span in spans} == {"grpc.testing.TestService"}
    assert (spans[0].parent, spans[2].parent) == (spans[2].span_id, CALLER)
    assert seen["traceparent"] == f"00-{TRACE}-{spans[0].span_id}-01"
    assert seen["tracestate"] == "a=1"
