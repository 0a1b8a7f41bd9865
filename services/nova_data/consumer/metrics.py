"""What a consumer counts, for Prometheus. Series of its topics are there from the start, with zero."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from nova_data.breaker_metrics import BreakerMetrics
from nova_data.consumer.dead_letters import REASONS, Reason

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ConsumerMetrics:
    """The families of consumers of one process. Made once for each registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nova_consumer_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"nova_consumer_{name}", text, labels, registry=registry)

        self.registry = registry
        self._handled = counter("handled", "Messages whose handler returned.", "topic")
        self._duplicates = counter("duplicates", "Of these, messages that had been handled before.", "topic")
        self._retried = counter("retried", "Attempts that failed and are made again.", "topic")
        self._dead = counter("dead_lettered", "Messages that were set aside.", "topic", "reason")
        self._batches = counter("batches", "Batches of messages that were handled in one call.", "topic")
        self._batches_failed = counter(
            "batches_failed", "Batches that failed, and whose messages are handled one by one.", "topic"
        )
        self.outages = counter("outages", "Attempts that met an outage.")
        self._rebalances = counter("rebalances", "Times partitions came or went.")
        self._commit_failures = counter("commit_failures", "Commits that Kafka refused; the next one makes them good.")
        self._lag = gauge("lag", "Messages of a partition that are not done.", "topic", "partition")
        self._in_hand = gauge("in_hand", "Messages that were taken and are not done.")
        self._paused = gauge("paused", "Partitions that are paused, of those assigned.")
        self._assigned = gauge("assigned", "Partitions that this consumer has.")
        self._seconds = Histogram(
            "nova_consumer_attempt_seconds", "One call of the handler.", ("topic",), buckets=_BUCKETS, registry=registry
        )
        self.breaker = BreakerMetrics("nova_consumer", registry)
        self._reader = (0, 0)
        self._shown: set[tuple[str, str]] = set()

    def add(self, topics: Iterable[str]) -> None:
        """Show these."""
        for topic in topics:
            for family in (
                self._handled,
                self._duplicates,
                self._retried,
                self._batches,
                self._batches_failed,
                self._seconds,
            ):
                family.labels(topic)
            for reason in REASONS:
                self._dead.labels(topic, reason)

    def handled(self, topic: str, *, duplicate: bool) -> None:
        """A handler returned."""
        self._handled.labels(topic).inc()
        if duplicate:
            self._duplicates.labels(topic).inc()

    def batch(self, topic: str, messages: int, *, duplicates: int) -> None:
        """A handler returned, for so many messages."""
        self._batches.labels(topic).inc()
        self._duplicates.labels(topic).inc(duplicates)
        self._handled.labels(topic).inc(messages)

    def batch_failed(self, topic: str) -> None:
        """Its messages go one by one."""
        self._batches_failed.labels(topic).inc()

    def attempted(self, topic: str, seconds: float) -> None:
        """It took so long, whatever came of it."""
        self._seconds.labels(topic).observe(seconds)

    def retried(self, topic: str) -> None:
        """A message failed, and is tried again."""
        self._retried.labels(topic).inc()

    def dead_lettered(self, topic: str, reason: Reason) -> None:
        """A message was set aside."""
        self._dead.labels(topic, reason).inc()

    def flow(self, in_hand: Sequence[int], paused: int, lag: Mapping[tuple[str, int], int]) -> None:
        """How things are: what is in hand by partition, how many are paused, and the lag where it is known."""
        self._in_hand.set(sum(in_hand))
        self._assigned.set(len(in_hand))
        self._paused.set(paused)
        now = {(topic, str(number)): behind for (topic, number), behind in lag.items()}
        for gone in self._shown - set(now):
            self._lag.remove(*gone)
        for place, behind in now.items():
            self._lag.labels(*place).set(behind)
        self._shown = set(now)

    def read(self, rebalances: int, failed_commits: int) -> None:
        """What the reader has counted since it began."""
        before = self._reader
        self._rebalances.inc(rebalances - before[0])
        self._commit_failures.inc(failed_commits - before[1])
        self._reader = (rebalances, failed_commits)
