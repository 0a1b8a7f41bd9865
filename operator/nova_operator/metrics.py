"""The operator's own metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.rollout_metrics import RolloutMetrics

RESULTS: Final = ("ok", "retried", "failed")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts since the process began; every series is there from the start, with zero."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per series, which nobody reads
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            "nova_operator_reconciles_total",
            "Reconciles by result: ok, retried (the API server was not reachable or an object changed meanwhile), "
            "failed (a fault of the operator).",
            ["result"],
            registry=self.registry,
        )
        self._duration = Histogram(
            "nova_operator_reconcile_duration_seconds",
            "Duration of one reconcile.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._requests = Counter(
            "nova_operator_api_requests_total",
            "Requests to the API server by method and status code, watches excluded; none: no answer.",
            ["method", "code"],
            registry=self.registry,
        )
        self.queue_depth = self._gauge(
            "nova_operator_queue_depth", "Services whose turn has come and that wait for it."
        )
        self.services = self._gauge("nova_operator_services", "NovaServices that this replica knows.")
        self.leader = self._gauge("nova_operator_leader", "1 while this replica acts, else 0.")
        self.watch_restarts = Counter(
            "nova_operator_watch_restarts_total", "Times the watches had to be set up anew.", registry=self.registry
        )
        self.admission = AdmissionMetrics(self.registry)
        self.rollout = RolloutMetrics(self.registry)
        for result in RESULTS:
            self._reconciles.labels(result)
        for method in _METHODS:
            self._requests.labels(method, "200")

    def reconcile(self, result: str, seconds: float) -> None:
        """Count a reconcile; `result` is one of `RESULTS`."""
        self._reconciles.labels(result).inc()
        self._duration.observe(seconds)

    def request(self, method: str, code: str) -> None:
        """Count a request to the API server."""
        self._requests.labels(method, code).inc()

    def render(self) -> bytes:
        """In the Prometheus text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)
