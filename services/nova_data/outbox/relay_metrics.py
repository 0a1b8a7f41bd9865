"""What a relay counts, for Prometheus. Every series is there from the start."""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nova_data.breaker_metrics import BreakerMetrics
from nova_data.outbox.event import Event

_PUBLISH_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
_DELAY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)


class RelayMetrics:
    """The families of one relay, in a registry of its own or another one that has none of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"nova_outbox_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"nova_outbox_{name}", text, registry=registry)

        self._backlog = gauge(
            "backlog", "Events in the whole outbox that wait, 100 000 at most; of any relay the same."
        )
        self._oldest = gauge("oldest_seconds", "Age of the first event that waits, quarantined ones apart.")
        self._retrying = gauge("retrying", "Events that failed and will be tried again.")
        self._quarantined = gauge("quarantined", "Events that were given up and hold back their aggregates.")
        self._published = counter("published", "Events that Kafka acknowledged to this relay.")
        self._retries = counter("retries", "Events that were refused, and are tried again.")
        self._given_up = counter("quarantines", "Events that were refused once too often.")
        self._publish = Histogram(
            "nova_outbox_publish_seconds",
            "From handing a round to the producer to its last acknowledgement.",
            buckets=_PUBLISH_BUCKETS,
            registry=registry,
        )
        self._round = Histogram(
            "nova_outbox_round_seconds",
            "The same, and marking in the database.",
            buckets=_PUBLISH_BUCKETS,
            registry=registry,
        )
        self._delay = Histogram(
            "nova_outbox_delay_seconds",
            "From appending an event to reading it, per event.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self.slots = gauge("slots", "Slots, of 16, that this relay works on.")
        self.database_errors = counter("database_errors", "Sessions with the database that were lost or refused.")
        self.breaker = BreakerMetrics("nova_outbox", registry)

    def counted(self, row: Mapping[str, Any] | None) -> None:
        """A row of `status.BACKLOG` was read."""
        if row is not None:
            self._backlog.set(row["backlog"])
            self._oldest.set(row["oldest"] or 0.0)
            self._retrying.set(row["retrying"])
            self._quarantined.set(row["quarantined"])

    def published(self, events: Sequence[Event], publish: float, whole: float) -> None:
        """A round ended; `publish` and `whole` are its seconds until Kafka had it, and until it was marked."""
        self._published.inc(len(events))
        self._publish.observe(publish)
        self._round.observe(whole)
        for event in events:
            self._delay.observe(event.waited)

    def failed(self, *, quarantined: bool) -> None:
        """An event was refused."""
        (self._given_up if quarantined else self._retries).inc()
