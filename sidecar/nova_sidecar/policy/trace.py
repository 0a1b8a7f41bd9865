"""W3C trace context: whose trace a request belongs to, and whether it is sampled (W3C Trace Context, sections 2 and 3).

    traceparent: 00-<trace id, 32 hex digits>-<parent's span id, 16>-<flags, 2; bit 0: sampled>

A caller that sends one has decided: its decision is followed, so that a trace is whole or not there at all. Without
one the decision is taken here, once, from the trace id that is made here, and goes on as the flag; whoever comes later
follows it. A sampled request gets a span of the sidecar's own, whose id takes the place of the parent's on the way on.
A request that is not sampled goes on under its caller's context as it came.

What is not a context is none: the trace begins anew and `tracestate`, which belongs to the old one, is dropped.
"""

import re
from math import log, log1p
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
_DECIDING_BITS: Final = 56  # the random part of a trace id (W3C Trace Context level 2, section 3.2.2.3.1)
_TAIL_BITS: Final = 8
_BATCH: Final = 1 << _TAIL_BITS
_BLOCK_BITS: Final = _DECIDING_BITS - _TAIL_BITS


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
    """Decides for one port. `share` is that of the requests without a caller's decision, 0 to 1.

    Most requests are not sampled, so that must cost next to nothing: decisions are drawn `_BATCH` at a time, and the
    lines of those that are not sampled are made with them, one after the other under the same random digits. It comes
    to the same as looking at each id: below the share of all values of its last 56 bits are the sampled ones.
    """

    __slots__ = ("_getrandbits", "_log_others", "_rng", "_share", "_tails", "_threshold", "ready")

    def __init__(self, share: float, rng: Random) -> None:
        self._rng = rng
        self._getrandbits = rng.getrandbits
        self._share = share
        self._log_others = log1p(-share) if 0 < share < 1 else 0.0
        self._threshold = round(share * (1 << _DECIDING_BITS))
        # what is not sampled leaves no span, so all of it may name the same one
        parent = rng.getrandbits(64) | 1
        self._tails = [b"%02x-%016x-00\r\n" % (number, parent) for number in range(_BATCH)]
        self.ready: list[bytes | None] = []
        """The next decisions, the last one first: the line to pass on, or None for a request that is sampled. Whoever
        finds it empty calls `draw`."""

    def draw(self) -> bytes | None:
        """Draw a batch of decisions and give the first."""
        least = min((self._threshold >> _TAIL_BITS) + 1, (1 << _BLOCK_BITS) - 1)
        block = least + self._getrandbits(_BLOCK_BITS) % ((1 << _BLOCK_BITS) - least)
        prefix = b"traceparent: 00-%018x%012x" % (self._getrandbits(72) | 1, block)
        self.ready += [prefix + tail for tail in self._tails]
        number = self._skip()
        while number < _BATCH:
            self.ready[number] = None
            number += 1 + self._skip()
        return self.ready.pop()

    def _skip(self) -> int:
        """How many requests pass before the next one that is sampled: geometrically distributed."""
        if self._share <= 0:
            return _BATCH
        return int(log(1 - self._rng.random()) / self._log_others) if self._share < 1 else 0

    def span(self) -> Span:
        """The span of a sampled trace that begins here."""
        trace_id = b"%018x%014x" % (self._getrandbits(72) | 1, self._rng.randrange(max(1, self._threshold)))
        return Span(trace_id, self._span_id(), None)

    def follow(self, given: bytes) -> bytes | Span | None:
        """A caller's context: itself when it is not sampled, the span when it is, None when it is no context."""
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
