"""What is counted of reads that may go to replicas, in the app's own metrics (prometheus-client)."""

from collections.abc import Callable
from math import isfinite

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from nova_data.split.choice import Route


class SplitMetrics:
    """`nova_data_split_*`; made once for each registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._reads = Counter(
            "nova_data_split_reads", "Reads, by where they went and why.", ("database", "route"), registry=registry
        )
        self._lag = Gauge(
            "nova_data_split_lag_seconds",
            "How far a replica is behind at most; -1 while nobody knows.",
            ("database", "replica"),
            registry=registry,
        )

    def add(self, database: str) -> None:
        """Show a database; every series is there with zero."""
        for route in Route:
            self._reads.labels(database, str(route))

    def add_replica(self, database: str, replica: str, lag: Callable[[], float]) -> None:
        """Show one of its replicas; `lag` gives seconds."""

        def shown() -> float:
            seconds = lag()
            return seconds if isfinite(seconds) else -1.0

        self._lag.labels(database, replica).set_function(shown)

    def read(self, database: str, route: Route) -> None:
        """Count a read."""
        self._reads.labels(database, str(route)).inc()
