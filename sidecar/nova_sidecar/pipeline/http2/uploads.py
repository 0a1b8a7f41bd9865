"""How fast a client must send the content of a call while it holds a place at the app: the rule of `pipeline.body`.

Once there is a response it is a conversation, and may be slow. gRPC has conversations before that: a server may only
listen, and answer at the end. What is certain there is the first message, whose length stands before it (one byte, then
four of length: the "Length-Prefixed-Message" of gRPC over HTTP/2). Up to its end a call is an upload, afterwards a
stream, of which only silence is bounded. A client that cuts those five bytes in two is held to the rate all along.
"""

from math import inf
from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.body import LEAST_RATE
from nova_sidecar.pipeline.state import SENT
from nova_sidecar.policy.outcome import CANCELLED
from nova_sidecar.policy.reasons import Reason, Reject

if TYPE_CHECKING:
    from nova_sidecar.pipeline.http2.call import Call

_PREFIX: Final = 5


class Pace:
    """What is known of a client's rate. `ends`: bytes after which it need not keep it up; `look_at`: when `look` has
    something to say."""

    __slots__ = ("_measured", "_since", "ends", "look_at")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.look_at = inf
        self._since = 0.0
        self._measured = 0

    def measure(self, call: "Call") -> None:
        """Measure anew: from now on, for as long as silence is allowed."""
        self._since = call.downstream.wheel.now
        self._measured = call.bytes_in
        self.look_at = self._since + call.port.stream_idle

    def too_slow(self, call: "Call") -> bool:
        """Whether less has come than must since `measure`."""
        return call.bytes_in - self._measured < LEAST_RATE * (call.downstream.wheel.now - self._since)


UNPACED: Final = Pace(0)
"""Of calls that need not keep up any rate."""


def begin(call: "Call", data: bytes) -> Pace:
    """The pace of a call of which some content has come, `data` last, and more is to come."""
    if not call.port.paces_uploads or call.state is not SENT:
        return UNPACED
    pace = Pace(_first_message(call, data) if call.head.is_grpc else inf)
    if call.bytes_in < pace.ends:
        pace.measure(call)
    return pace


def look(call: "Call", pace: Pace) -> None:
    """End the call when its client dribbles; times in which the app does not read do not count."""
    if call.state is not SENT or call.bytes_in >= pace.ends:
        pace.look_at = inf
    elif pace.too_slow(call) and call.attempt is not None and call.attempt.queue is None:
        call.drop_upstream(CANCELLED)
        call.refuse(Reject(Reason.REQUEST_TIMEOUT), "the client sent its request too slowly")
    else:
        pace.measure(call)


def _first_message(call: "Call", data: bytes) -> float:
    start = data if call.bytes_in == len(data) else b"".join(call.body or ())
    return _PREFIX + int.from_bytes(start[1:_PREFIX]) if len(start) >= _PREFIX else inf
