"""What the app made of its requests, in a few numbers: by these the operator compares a canary with its siblings.

What session affinity handed over to another pod is that pod's, and not counted here.

They are read every two seconds while a canary is under way, so they are sums over the inbound ports, made when somebody
asks. They count since the process began and never fall.
"""

from collections.abc import Iterable
from typing import Any, Final

from nova_sidecar.pipeline.stats import DURATION_BOUNDS, PortStats

_FAILED_CODES: Final = (2, 4, 13, 14, 15)
"""gRPC: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS; those that a breaker counts by default."""


def traffic(ports: Iterable[PortStats]) -> dict[str, Any]:
    """Requests, failed ones, and durations by bucket, of all inbound ports together."""
    inbound = [port for port in ports if port.direction == "inbound"]
    others = [port.handed_over for port in inbound if port.handed_over is not None]
    durations = [0] * (len(DURATION_BOUNDS) + 1)
    for sign, histogram in (*((1, port.duration) for port in inbound), *((-1, other.duration) for other in others)):
        durations = [total + sign * count for total, count in zip(durations, histogram.buckets, strict=True)]
    return {
        "requests": sum(sum(port.responses) for port in inbound) - sum(sum(other.responses) for other in others),
        "failed": sum(map(_failed, inbound)) - sum(other.responses[0] + other.responses[5] for other in others),
        "bounds": DURATION_BOUNDS,
        "durations": durations,
    }


def _failed(port: PortStats) -> int:
    """5xx, and what ended without an answer: a caller that gives up waiting is a failure of who kept it waiting.
    gRPC calls fail by their code, with the HTTP status 200."""
    unanswered = port.responses[0]
    if port.grpc is None:
        return unanswered + port.responses[5]
    return unanswered + sum(port.grpc[code] for code in _FAILED_CODES)
