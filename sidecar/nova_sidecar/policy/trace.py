"""W3C trace context: whose trace a request belongs to, and whether it is sampled (W3C Trace Context, sections 2 and 3).

    traceparent: 00-<trace id, 32 hex digits>-<parent's span id, 16>-<flags, 2; bit 0: sampled>

A caller that sends one has decided: its decision is followed, so that a trace is whole or not there at all. Without
one the decision is taken here, once, from the trace id that is made here, and goes on as the flag; whoever comes later
follows it. A sampled request gets a span of the sidecar's own, whose id takes the place of the parent's on the way on.
A request that is not sampled goes on under its caller's context as it came.

What is not a context is none: the trace begins anew and `tracestate`, which belongs to the old one, is dropped.
"""

import re
from random import Random
from typing import Final

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
CONTEXT: Final = frozenset((TRACEPARENT, TRACESTATE))
"""The fields that tracing takes out of a head and writes anew."""

MAX_EVENTS: Final = 32
"""Events of one span; further ones are left out."""

_CONTEXT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_UNSAMPLED: Final = b"-00"
_LENGTH: Final = 55
_DECIDING_BITS: Final = 56  # the random part of a trace id (W3C Trace Context level 2, section 3.2.2.3.1)


class Span:
    """The sidecar's own part in a sampled trace."""

    __slots__ = ("events", "parent", "span_id", "trace_id")

    def __init__(self, trace_id: bytes, span_id: bytes, parent: bytes | None) -> None:
        self.trace_id = trace_id
        """32 hexadecimal digits."""
        self.span_id = span_id
        """16 hexadecimal digits."""
        self.parent = parent
        """The caller's span id; None where the trace begins here."""
        self.events: list[tuple[float, str, str, int]] | None = None
        """What happened on the way: monotonic seconds, name, reason, attempt."""

    def event(self, now: float, name: str, reason: str, attempt: int) -> None:
        """Note something, `MAX_EVENTS` times at most."""
        if self.events is None:
            self.events = []
        if len(self.events) < MAX_EVENTS:
            self.events.append((now, name, reason, attempt))

    def __repr__(self) -> str:
        return f"<Span {self.trace_id.decode()} {self.span_id.decode()}>"


class Sampler:
    """Decides for one port. `share` is that of the requests without a caller's decision, 0 to 1."""

    __slots__ = ("_getrandbits", "_head", "_tail", "_threshold")

    def __init__(self, share: float, rng: Random) -> None:
        self._getrandbits = rng.getrandbits
        self._threshold = round(share * (1 << _DECIDING_BITS))
        # what is not sampled leaves no span, so all of it may say the same one, and share the first digits of its trace
        self._head = b"%018x" % (rng.getrandbits(72) | 1)
        self._tail = b"-%016x-00" % (rng.getrandbits(64) | 1)

    def begin(self) -> bytes | Span:
        """A trace that begins here: the context to pass on when it is not sampled, or the span."""
        deciding = self._getrandbits(_DECIDING_BITS)
        if deciding >= self._threshold:
            return b"00-%b%014x%b" % (self._head, deciding, self._tail)
        trace_id = b"%018x%014x" % (self._getrandbits(72) | 1, deciding)
        return Span(trace_id, self._span_id(), None)

    def follow(self, given: bytes) -> bytes | Span | None:
        """A caller's context: itself when it is not sampled, the span when it is, None when it is no context."""
        if given[-3:] == _UNSAMPLED and len(given) == _LENGTH:
            return given
        match = _CONTEXT.fullmatch(given)
        if match is None:
            return None
        version, trace_id, parent, flags, more = match.groups()
        if version == b"ff" or (version == b"00" and more) or trace_id == _NO_TRACE or parent == _NO_SPAN:
            return None
        return Span(trace_id, self._span_id(), parent) if int(flags, 16) & 1 else given

    def _span_id(self) -> bytes:
        return b"%016x" % (self._getrandbits(64) or 1)


def encode(span: Span) -> bytes:
    """The context that goes on from a span."""
    return b"00-%b-%b-01" % (span.trace_id, span.span_id)
