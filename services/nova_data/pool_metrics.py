"""What is counted of database pools, in the app's own metrics (prometheus-client)."""

from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from nova_data.errors import Cause
from nova_data.pool_gate import CAUSES


class PoolMetrics:
    """`db_pool_exhausted_total` and `db_pool_utilization_ratio` in a registry, for all pools whose guards share this.

    Made once for each registry: the library refuses a second metric of the same name.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._exhausted = Counter(
            "db_pool_exhausted",
            "Requests that got no connection: refused above the threshold, or none came in time.",
            ("pool", "cause"),
            registry=registry,
        )
        self._utilization = Gauge(
            "db_pool_utilization_ratio", "Share of the pool that is in use, from 0 to 1.", ("pool",), registry=registry
        )

    def add(self, pool: str, utilization: Callable[[], float]) -> None:
        """Show this pool; every series is there with zero."""
        for cause in CAUSES:
            self._exhausted.labels(pool, cause)
        self._utilization.labels(pool).set_function(utilization)

    def exhausted(self, pool: str, cause: Cause) -> None:
        """Count a request that got none."""
        self._exhausted.labels(pool, cause).inc()

    def remove(self, pool: str) -> None:
        """The pool is gone: what it was counted stays, what it is does not."""
        self._utilization.remove(pool)
