"""One budget of time per exchange, and it travels with the request.

A caller that has given up must not cost work further down. So the time that is left goes along in
``x-nova-deadline-ms``, as a duration because clocks of two machines differ, and every sidecar takes the smaller of
that and its own policy: a caller can shorten its budget but never extend it (the scheme of gRPC's ``grpc-timeout``).

Inside, a deadline is one float, the monotonic instant at which the budget is over. No object: this runs per request.
"""

from typing import Final

HEADER: Final = b"x-nova-deadline-ms"
LEAST_PATIENCE: Final = 0.5
"""Share of an attempt's budget that the upstream must have had before no answer is its failure."""
GRPC_HEADER: Final = b"grpc-timeout"
_MOST_DIGITS: Final = 9  # 11 days; longer is no deadline but noise
_GRPC_DIGITS: Final = 8
_GRPC_LIMIT: Final = 10**_GRPC_DIGITS
_GRPC_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def parse(value: bytes) -> float | None:
    """Seconds from the header's milliseconds. None when it is not 1 to 9 digits: garbage is ignored, not refused."""
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        return None
    return int(value) / 1000


def begin(now: float, budget: float, header: bytes | None = None) -> float:
    """The instant at which the request's time is over: its own budget, or the caller's where that is shorter."""
    if header is not None:
        given = parse(header)
        if given is not None and given < budget:
            return now + given
    return now + budget


def attempt_ends(now: float, budget: float, deadline_at: float) -> float:
    """The instant at which one attempt is over: after its own budget, never later than the request's deadline."""
    ends = now + budget
    return ends if ends < deadline_at else deadline_at


def patient(waited: float, budget: float) -> bool:
    """Whether an attempt that got no answer waited long enough, of its policy's budget, to speak against the upstream.
    Where it was its caller who had so little time, it does not: else a few callers with tiny deadlines would open the
    breaker for all."""
    return waited >= budget * LEAST_PATIENCE


def encode(now: float, ends: float) -> bytes:
    """The header's value for what is left until `ends`: whole milliseconds, rounded down, at least 0."""
    left = int((ends - now) * 1000)
    return b"%d" % left if left > 0 else b"0"


def parse_grpc(value: bytes) -> float | None:
    """Seconds from gRPC's ``grpc-timeout``: 1 to 8 digits and a unit (gRPC over HTTP/2, "Requests"). None when it is
    something else."""
    unit = _GRPC_UNITS.get(value[-1:])
    digits = value[:-1]
    if unit is None or not digits.isdigit() or len(digits) > _GRPC_DIGITS:
        return None
    return int(digits) * unit


def encode_grpc(now: float, ends: float) -> bytes:
    """The value of ``grpc-timeout`` for what is left until `ends`: milliseconds, rounded down, or seconds where those
    have too many digits; at least 0."""
    left = int((ends - now) * 1000)
    if left <= 0:
        return b"0m"
    return b"%dm" % left if left < _GRPC_LIMIT else b"%dS" % min(left // 1000, _GRPC_LIMIT - 1)
