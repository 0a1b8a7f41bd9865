"""What is counted of a database, in the app's own metrics (prometheus-client)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from nova_data.pool_metrics import PoolMetrics

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DatabaseMetrics(PoolMetrics):
    """Those of the guard, and `db_pool_*` and `db_statement_*` of all databases that share this.

    No label holds a statement or a tenant. Made once for each registry: the library refuses a second metric of the same
    name.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__(registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, ("pool",), registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ("pool",), buckets=_BUCKETS, registry=registry)

        self._leaks = counter("db_pool_leaks", "Connections that were held for so long that they were told.")
        self._refused = counter("db_pool_tenant_refused", "Requests refused since their tenant had its share.")
        self._slow = counter("db_statement_slow", "Statements that were slow.")
        self._wait = histogram("db_pool_wait_seconds", "Waits for a connection, those in vain included.")
        self._held = histogram("db_pool_held_seconds", "How long connections were in use.")
        self._statement = histogram("db_statement_seconds", "Statements and their answers.")
        self._missing = Gauge(
            "db_pool_missing", "Connections that were told as forgotten and are not back.", ("pool",), registry=registry
        )

    def show(self, pool: str, missing: Callable[[], float]) -> "DatabaseSeries":
        """Show this database; every series is there with zero."""
        self._missing.labels(pool).set_function(missing)
        return DatabaseSeries(
            leaks=self._leaks.labels(pool),
            refused=self._refused.labels(pool),
            slow=self._slow.labels(pool),
            wait=self._wait.labels(pool),
            held=self._held.labels(pool),
            statement=self._statement.labels(pool),
        )

    def remove(self, pool: str) -> None:
        """The database is closed: what it was counted stays, what it is does not."""
        super().remove(pool)
        self._missing.remove(pool)


@dataclass(frozen=True, kw_only=True)
class DatabaseSeries:
    """Those of one database, found once: a label is looked up more slowly than a number is counted."""

    leaks: Counter
    refused: Counter
    slow: Counter
    wait: Histogram
    held: Histogram
    statement: Histogram

    def ran(self, seconds: float, *, slow: bool) -> None:
        """Count a statement."""
        self.statement.observe(seconds)
        if slow:
            self.slow.inc()
