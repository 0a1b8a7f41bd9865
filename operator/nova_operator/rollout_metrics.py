"""What is counted of canaries; part of the operator's own metrics."""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

End = Literal["promoted", "aborted", "withdrawn"]
ENDS: Final[tuple[End, ...]] = ("promoted", "aborted", "withdrawn")


class RolloutMetrics:
    """Counts since the process began; every series is there from the start, with zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.canaries = Gauge(
            "nova_operator_rollout_canaries", "Canaries under way, as this replica leads them.", registry=registry
        )
        self.steps = Counter("nova_operator_rollout_steps_total", "Steps of canaries that began.", registry=registry)
        self._ends = Counter(
            "nova_operator_rollout_ends_total",
            "Canaries that ended: promoted, aborted (by the checks, a person, or pods that do not run), withdrawn (the "
            "spec changed).",
            ["end"],
            registry=registry,
        )
        for end in ENDS:
            self._ends.labels(end)

    def ended(self, end: End) -> None:
        """Count the end of a canary."""
        self._ends.labels(end).inc()
