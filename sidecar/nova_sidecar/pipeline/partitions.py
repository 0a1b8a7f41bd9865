"""The limiter's filters where more counts than the number in flight: latency, the request's class, its tenant.

Which filter a port gets is decided when its chain is built, so that who uses none of this pays for none of it.
"""

from typing import Final

from nova_api.policies import BackpressurePolicy
from nova_sidecar.pipeline.filters import LimiterFilter, ShadowLimiterFilter
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.limiter import CRITICAL, NORMAL, QUEUED, SHEDDABLE, Limiter, Priority, Queued
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.tenants import TenantPartitions

_CLASSES: Final[dict[bytes, Priority]] = {b"critical": CRITICAL, b"sheddable": SHEDDABLE}
_UNANSWERED: Final = frozenset(
    (Reason.ATTEMPT_TIMEOUT, Reason.DEADLINE_EXCEEDED, Reason.UPSTREAM_RESET, Reason.CONNECT_FAILURE)
)
_UNAVAILABLE: Final = 503


def shown(policy: BackpressurePolicy) -> frozenset[bytes]:
    """The header fields that the filter wants to see; they are passed on all the same."""
    if policy.mode == "Off":
        return frozenset()
    parts = (policy.priority, policy.tenants)
    return frozenset(part.header.encode() for part in parts if part.mode != "Off")


def limiter_filter(
    policy: BackpressurePolicy, limiter: Limiter[Handled], tenants: TenantPartitions, stats: PortStats
) -> LimiterFilter:
    """The cheapest filter that does what the policy says."""
    if policy.priority.mode != "Off" or policy.tenants.mode != "Off":
        return PartitionedLimiterFilter(policy, limiter, tenants, stats)
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


class PartitionedLimiterFilter(AdaptiveLimiterFilter):
    """Looks at the request's class and its tenant, as far as the policy says."""

    __slots__ = ("_of", "_priority_header", "_rehearse", "_tenant_header", "_tenants")

    def __init__(
        self, policy: BackpressurePolicy, limiter: Limiter[Handled], tenants: TenantPartitions, stats: PortStats
    ) -> None:
        super().__init__(limiter, stats)
        self._tenants = tenants
        self._rehearse = policy.mode == "Shadow"
        self._of: dict[Handled, bytes] = {}  # whom it counts for, while it does
        self._priority_header = policy.priority.header.encode() if policy.priority.mode != "Off" else b""
        self._tenant_header = policy.tenants.header.encode() if policy.tenants.mode != "Off" else b""

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """The tenant's share, then a place for the class."""
        limiter, captured = self._limiter, exchange.head.captured
        if self._tenant_header:
            refused = self._count_for(exchange, captured.get(self._tenant_header, b""))
            if refused is not None:
                return refused
        priority = _CLASSES.get(captured.get(self._priority_header, b""), NORMAL)
        answer = limiter.admit_as(priority, now)
        if limiter.shadowed is not None:
            self._stats.shadow_rejected[limiter.shadowed] += 1
            limiter.shadowed = None
        if answer is None:
            exchange.place = True
        elif answer is QUEUED:
            until = limiter.enqueue(exchange, now, exchange.deadline_at, priority)
            if isinstance(until, Reject):
                return until
            exchange.wait_until(until)
        return answer

    def _count_for(self, exchange: Handled, tenant: bytes) -> Reject | None:
        tenants = self._tenants
        would_reject = tenants.would_reject
        refused = tenants.admit(tenant, self._limiter.limit, rehearse=self._rehearse)
        if refused is not None:
            if self._limiter.adaptive is not None:
                self._limiter.adaptive.press()
            return refused
        self._stats.shadow_rejected[Reason.TENANT_LIMIT] += tenants.would_reject - would_reject
        self._of[exchange] = tenant
        return None

    def on_complete(self, exchange: Handled, now: float) -> None:
        """The tenant's share first: whoever the place goes to next may be the tenant's."""
        tenant = self._of.pop(exchange, None)
        if tenant is not None:
            self._tenants.leave(tenant)
        super().on_complete(exchange, now)
