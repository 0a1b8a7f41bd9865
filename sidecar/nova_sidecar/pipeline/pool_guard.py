"""The pool guard at work: its filter, and the desk that takes the app's reports.

It stands last before the limiter: what a cache, or a key that was seen before, can answer needs no database. Imported
where the policy is on.
"""

from collections.abc import Callable
from typing import Any

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.pool_guard import PoolGuard, PoolReport, Taken
from nova_sidecar.policy.reasons import Reject


class PoolGuardDesk:
    """What the app has reported; it outlives reloads."""

    __slots__ = ("_clock", "guard")

    def __init__(self, policy: PoolGuardPolicy, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.guard = PoolGuard(policy)

    def start(self) -> None:
        """Nothing to do: apps report by themselves."""

    def configure(self, config: ProxyConfig) -> None:
        """Take over a new policy."""
        self.guard.configure(config.pool_guard)

    async def close(self) -> None:
        """Nothing is held."""

    def report(self, report: PoolReport) -> Taken:
        """Take a report that has just come."""
        return self.guard.report(report, self._clock())

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return self.guard.snapshot(self._clock())

    def __repr__(self) -> str:
        return f"<PoolGuardDesk {self.guard!r}>"


class PoolGuardFilter(RequestFilter):
    """Refuses requests that need the database while a pool of the app is full."""

    __slots__ = ("_guard",)

    def __init__(self, desk: PoolGuardDesk) -> None:
        self._guard = desk.guard

    def on_request(self, exchange: Handled, now: float) -> Reject | None:
        """The refusal, where there is one."""
        reject = self._guard.admit(now)
        return reject if reject is not None and self._guard.concerns(exchange.head.path) else None


class ShadowPoolGuardFilter(PoolGuardFilter):
    """The same in Shadow mode, and counts what Enforce would have refused."""

    __slots__ = ("_stats",)

    def __init__(self, desk: PoolGuardDesk, stats: PortStats) -> None:
        super().__init__(desk)
        self._stats = stats

    def on_request(self, exchange: Handled, now: float) -> Reject | None:
        """Nothing is refused."""
        reject = super().on_request(exchange, now)
        if reject is not None:
            self._stats.shadow_rejected[reject.reason] += 1
        return None
