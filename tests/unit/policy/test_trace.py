"""Whose trace it is, and whether it is sampled: by the caller's word, else by the trace id."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.trace import MAX_EVENTS, Sampler, Span, encode

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
WELL_FORMED = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")


def context(flags: bytes = b"01", *, version: bytes = b"00", more: bytes = b"") -> bytes:
    return b"-".join((version, TRACE, PARENT, flags)) + more


def sampler(share: float = 0.5, seed: int = 1) -> Sampler:
    return Sampler(share, Random(seed))


@pytest.mark.parametrize("flags", [b"01", b"03", b"ff"])
def test_a_sampled_caller_gets_a_span_under_its_own(flags: bytes) -> None:
    span = sampler(0.0).follow(context(flags))

    assert isinstance(span, Span)
    assert (span.trace_id, span.parent) == (TRACE, PARENT)
    assert span.span_id != PARENT
    assert encode(span) == b"00-%b-%b-01" % (TRACE, span.span_id)


@pytest.mark.parametrize("flags", [b"00", b"02", b"fe"])
def test_a_caller_who_does_not_sample_is_passed_on(flags: bytes) -> None:
    assert sampler(1.0).follow(context(flags)) == context(flags)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """W3C Trace Context section 4.3: later versions only append."""
    later = context(version=b"01", more=b"-what-comes-then")

    assert isinstance(sampler().follow(later), Span)
    assert sampler().follow(context(b"00", version=b"cc", more=b"-x")) == context(b"00", version=b"cc", more=b"-x")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        context(version=b"ff"),
        context(more=b"-x"),
        context(more=b"x"),
        context().upper(),
        context() + b", " + context(),
        context().replace(TRACE, b"0" * 32),
        context().replace(PARENT, b"0" * 16),
        context().replace(b"4bf", b"4bg"),
        context()[:-1],
        b" " + context(),
    ],
)
def test_what_is_no_context_is_none(value: bytes) -> None:
    assert sampler().follow(value) is None


@given(st.binary(max_size=80))
def test_anything_may_arrive(value: bytes) -> None:
    found = sampler().follow(value)
    assert found is None or found == value or WELL_FORMED.fullmatch(encode(found))  # type: ignore[arg-type]  # a span


def begun(deciding: Sampler, count: int) -> list[bytes | Span]:
    """What a port makes of so many requests without a context: the context of one that is not sampled, or the span."""
    found: list[bytes | Span] = []
    for _ in range(count):
        line = deciding.ready.pop() if deciding.ready else deciding.draw()
        found.append(deciding.span() if line is None else line[len("traceparent: ") : -2])
    return found


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_share_of_new_traces_is_sampled(share: float) -> None:
    drawn = begun(sampler(share), 20_000)

    spans = [each for each in drawn if isinstance(each, Span)]
    others = [each for each in drawn if isinstance(each, bytes)]
    assert abs(len(spans) / len(drawn) - share) < 0.015
    assert all(span.parent is None for span in spans)
    assert all(WELL_FORMED.fullmatch(encode(span)) for span in spans)
    assert all(WELL_FORMED.fullmatch(each) and each.endswith(b"-00") for each in others)
    assert len({each[3:35] for each in others}) == len(others)
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == len(spans)


def test_decisions_drawn_ahead_are_bounded() -> None:
    deciding = sampler()
    most = 0
    for _ in range(2000):
        begun(deciding, 1)
        most = max(most, len(deciding.ready))
    assert most == 255


@pytest.mark.parametrize("share", [0.0, 1e-12, 0.3, 0.999, 1.0])
def test_the_decision_is_in_the_trace_id(share: float) -> None:
    """Its last 56 bits against the share: whoever looks at the id decides the same."""
    for each in begun(sampler(share), 2000):
        trace_id = each.trace_id if isinstance(each, Span) else each[3:35]
        assert (int(trace_id[-14:], 16) < round(share * 2**56)) == isinstance(each, Span)


def test_events_are_bounded() -> None:
    span = Span(TRACE, PARENT, None)
    assert span.events is None

    for attempt in range(MAX_EVENTS + 5):
        span.event(float(attempt), "nova.retry", "503", attempt)

    assert span.events is not None
    assert len(span.events) == MAX_EVENTS
