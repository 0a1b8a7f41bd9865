"""Metrics of the webhooks, of injection and of the webhooks' certificate."""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

WEBHOOKS: Final = ("novaservices", "pods")
ALLOWED: Final = ("true", "false", "error")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class AdmissionMetrics:
    """There from the start, webhooks or not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "nova_operator_admission_requests_total",
            "Reviews by webhook and answer; error: the failure policy decided.",
            ["webhook", "allowed"],
            registry=registry,
        )
        self._duration = Histogram(
            "nova_operator_admission_duration_seconds",
            "Duration of one review.",
            ["webhook"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.bad_requests = Counter(
            "nova_operator_admission_bad_requests_total",
            "Requests to the webhooks' port that were no review.",
            registry=registry,
        )
        self.uninjected_pods = Gauge(
            "nova_operator_uninjected_pods",
            "Pods with the label nova.dev/inject that run without the sidecar.",
            registry=registry,
        )
        self.repaired_pods = Counter(
            "nova_operator_repaired_pods_total",
            "Pods evicted because they ran without the sidecar.",
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "nova_operator_webhook_certificate_expiry_seconds",
            "End of validity of the webhooks' certificate in use, seconds since the epoch; 0 without one.",
            registry=registry,
        )
        for webhook in WEBHOOKS:
            self._duration.labels(webhook)
            for allowed in ALLOWED:
                self._requests.labels(webhook, allowed)

    def review(self, webhook: str, allowed: Literal["true", "false", "error"], seconds: float) -> None:
        """Count a review; `webhook` is one of `WEBHOOKS`, `seconds` what it took."""
        self._requests.labels(webhook, allowed).inc()
        self._duration.labels(webhook).observe(seconds)
