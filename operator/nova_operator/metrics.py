"""The operator's own metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

from nova_operator import reasons
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.rollout_metrics import RolloutMetrics

RESULTS: Final = ("ok", "retried", "failed")
ERRORS: Final = ("unavailable", "stale", "refused", "cancelled", "internal")
READS: Final = ("answered", "silent")
EVENTS: Final = ("written", "bounded", "failed")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CONVERGENCE_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 120, 300, 600)
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
        self.queue_age = self._gauge(
            "nova_operator_queue_age_seconds", "Time for which the service whose turn is next has been waiting for it."
        )
        self.failing = self._gauge(
            "nova_operator_services_failing",
            "Services whose last reconcile did not come to its end, and that are tried again.",
        )
        self.leader = self._gauge("nova_operator_leader", "1 while this replica acts, else 0.")
        self.watch_restarts = Counter(
            "nova_operator_watch_restarts_total", "Times the watches had to be set up anew.", registry=self.registry
        )
        self.watch_silence = self._gauge(
            "nova_operator_watch_silence_seconds",
            "Time since the most silent watch was heard; bookmarks come each minute.",
        )
        self._errors = self._counter(
            "nova_operator_errors_total",
            "Turns of a service, at its objects or its sidecars, that ended early, by reason: unavailable (no answer, "
            "429, 5xx), stale (the object changed meanwhile), refused, cancelled (the watches were set up anew), "
            "internal (a fault of the operator).",
            "reason",
            ERRORS,
        )
        self._degraded = Gauge(
            "nova_operator_services_degraded",
            "Services that need somebody, by the reason of their condition Degraded.",
            ["reason"],
            registry=self.registry,
        )
        self._convergence = Histogram(
            "nova_operator_convergence_seconds",
            "Time from the first sight of a changed spec until every sidecar ran its configuration.",
            buckets=_CONVERGENCE_BUCKETS,
            registry=self.registry,
        )
        self._sidecar_reads = self._counter(
            "nova_operator_sidecar_reads_total",
            "Looks at a sidecar: answered, or silent within a second.",
            "result",
            READS,
        )
        self._events = self._counter(
            "nova_operator_events_total",
            "Kubernetes Events: written, left out because there were many (bounded), or failed.",
            "result",
            EVENTS,
        )
        self.admission = AdmissionMetrics(self.registry)
        self.rollout = RolloutMetrics(self.registry)
        for result in RESULTS:
            self._reconciles.labels(result)
        for reason in reasons.DEGRADING:
            self._degraded.labels(reason)
        for method in _METHODS:
            self._requests.labels(method, "200")

    def reconcile(self, result: str, seconds: float) -> None:
        """Count a reconcile; `result` is one of `RESULTS`."""
        self._reconciles.labels(result).inc()
        self._duration.observe(seconds)

    def request(self, method: str, code: str) -> None:
        """Count a request to the API server."""
        self._requests.labels(method, code).inc()

    def error(self, reason: str) -> None:
        """Count a turn that ended early; `reason` is one of `ERRORS`."""
        self._errors.labels(reason).inc()

    def degraded(self, before: str, after: str) -> None:
        """A service's reason of Degraded was the one and is the other; empty while it is not degraded."""
        if before != after:
            if before:
                self._degraded.labels(before).dec()
            if after:
                self._degraded.labels(after).inc()

    def converged(self, seconds: float) -> None:
        """A changed spec is in force everywhere."""
        self._convergence.observe(seconds)

    def sidecars(self, asked: int, answered: int) -> None:
        """Count looks at sidecars."""
        self._sidecar_reads.labels("answered").inc(answered)
        self._sidecar_reads.labels("silent").inc(asked - answered)

    def event(self, result: str) -> None:
        """Count a Kubernetes Event; `result` is one of `EVENTS`."""
        self._events.labels(result).inc()

    def render(self) -> bytes:
        """In the Prometheus text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, label: str, values: tuple[str, ...]) -> Counter:
        counter = Counter(name, text, [label], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)
