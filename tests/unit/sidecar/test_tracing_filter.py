"""What the filter sets on an exchange for each kind of caller; traces as such are loopback tests."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.pipeline.tracing import TracingFilter
from nova_sidecar.policy.trace import Sampler

CONTEXT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


def touched(filter_: TracingFilter, **captured: bytes) -> Any:
    names = {name.encode(): value for name, value in captured.items()}
    exchange: Any = SimpleNamespace(head=SimpleNamespace(captured=names), trace=b"", span=None)
    filter_.on_request(exchange, 1.0)
    return exchange


def make(share: float) -> tuple[TracingFilter, Sampler]:
    sampler = Sampler(share, Random(1))
    log: Any = SimpleNamespace(record=None)
    return TracingFilter(sampler, log, PortStats("inbound", "web"), ("127.0.0.1", 80)), sampler


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_caller_decides(share: float) -> None:
    filter_, _ = make(share)

    plain = touched(filter_, traceparent=CONTEXT + b"00")
    assert (plain.trace, plain.span) == (b"traceparent: %b00\r\n" % CONTEXT, None)
    stated = touched(filter_, traceparent=CONTEXT + b"00", tracestate=b"a=1")
    assert (stated.trace, stated.span) == (b"traceparent: %b00\r\ntracestate: a=1\r\n" % CONTEXT, None)
    sampled = touched(filter_, traceparent=CONTEXT + b"01", tracestate=b"a=1")
    assert sampled.trace == b"traceparent: %b%b-01\r\ntracestate: a=1\r\n" % (CONTEXT[:36], sampled.span.span_id)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_garbage_begins_anew_and_costs_no_memory(share: float) -> None:
    filter_, sampler = make(share)
    for _ in range(1000):
        exchange = touched(filter_, traceparent=b"garbage", tracestate=b"a=1")
        assert exchange.trace.startswith(b"traceparent: 00-")
        assert b"tracestate" not in exchange.trace
        assert exchange.trace.endswith(b"-01\r\n" if exchange.span else b"-00\r\n")
        assert len(sampler.ready) < 256
