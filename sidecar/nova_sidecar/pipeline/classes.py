"""The limiter's filters where more counts than the number in flight: latency, the request's class, its tenant's turn.

Which filter a port gets is decided when its chain is built, so that who uses none of this pays for none of it.
"""

from collections.abc import Callable
from typing import Final

from nova_api.policies import BackpressurePolicy
from nova_sidecar.pipeline.filters import LimiterFilter, ShadowLimiterFilter
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.fair_queue import NOBODY, Flow
from nova_sidecar.policy.limiter import CRITICAL, NORMAL, QUEUED, SHEDDABLE, Limiter, Priority, Queued
from nova_sidecar.policy.reasons import Reason, Reject

FlowOf = Callable[[Handled], Flow]
"""Whose turn it is where an exchange waits."""

_CLASSES: Final[dict[bytes, Priority]] = {b"critical": CRITICAL, b"sheddable": SHEDDABLE}
_UNANSWERED: Final = frozenset(
    (Reason.ATTEMPT_TIMEOUT, Reason.DEADLINE_EXCEEDED, Reason.UPSTREAM_RESET, Reason.CONNECT_FAILURE)
)
_UNAVAILABLE: Final = 503


def shown(policy: BackpressurePolicy) -> frozenset[bytes]:
    """The header field that the filter wants to see; it is passed on all the same."""
    if policy.mode == "Off":
        return frozenset()
    return frozenset((policy.priority.header.encode(),)) if policy.priority.mode != "Off" else frozenset()


def limiter_filter(
    policy: BackpressurePolicy, limiter: Limiter[Handled], flow_of: FlowOf | None, stats: PortStats
) -> LimiterFilter:
    """The cheapest filter that does what the policy says. `flow_of` is there where tenants are told apart."""
    if policy.priority.mode != "Off" or flow_of is not None:
        return ClassedLimiterFilter(policy, limiter, flow_of, stats)
    if policy.adaptive.mode != "Off":
        return AdaptiveLimiterFilter(limiter, stats)
    return (ShadowLimiterFilter if policy.mode == "Shadow" else LimiterFilter)(limiter, stats)


class AdaptiveLimiterFilter(ShadowLimiterFilter):
    """Tells the adaptive limit how long the app took for each request."""

    __slots__ = ()

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Give the place back; the limit may have moved, and let in more than one."""
        limiter = self._limiter
        adaptive = limiter.adaptive
        if adaptive is None or not exchange.place:
            super().on_complete(exchange, now)
            return
        in_flight = limiter.in_flight
        reason = exchange.reason
        moved = False
        if reason in _UNANSWERED or (reason is None and exchange.status == _UNAVAILABLE):
            moved = adaptive.drop(in_flight, now)
        elif exchange.upstream_seconds > 0:
            moved = adaptive.observe(exchange.upstream_seconds, in_flight, now)
        super().on_complete(exchange, now)
        if moved:
            for waiter in limiter.resize(now):
                waiter.grant()


class ClassedLimiterFilter(AdaptiveLimiterFilter):
    """Looks at the request's class, and at whose turn it is where requests wait."""

    __slots__ = ("_flow_of", "_header")

    def __init__(
        self, policy: BackpressurePolicy, limiter: Limiter[Handled], flow_of: FlowOf | None, stats: PortStats
    ) -> None:
        super().__init__(limiter, stats)
        self._flow_of = flow_of
        self._header = policy.priority.header.encode() if policy.priority.mode != "Off" else b""

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """A place for the class."""
        limiter = self._limiter
        priority = _CLASSES.get(exchange.head.captured.get(self._header, b""), NORMAL)
        answer = limiter.admit_as(priority, now)
        if limiter.shadowed is not None:
            self._stats.shadow_rejected[limiter.shadowed] += 1
            limiter.shadowed = None
        if answer is None:
            exchange.place = True
        elif answer is QUEUED:
            flow = NOBODY if self._flow_of is None else self._flow_of(exchange)
            until = limiter.enqueue(exchange, now, exchange.deadline_at, priority, flow)
            if isinstance(until, Reject):
                return until
            exchange.wait_until(until)
        return answer
