"""What is counted of recommendations: whether they were ready, and what they cost.

The cost of a recommendation that somebody got is the time that was spent on computing, over the lists that were served:
`rate(nova_recommendations_compute_seconds_sum[1d]) / rate(nova_recommendations_hits_total[1d])`.
"""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Reason = Literal["nothing", "redis", "analytics"]
"""Why the feed stood in: nothing was computed yet, Redis is away, or the analytics have failed."""
REASONS: Final[tuple[Reason, ...]] = ("nothing", "redis", "analytics")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RecommendationsMetrics:
    """`nova_recommendations_*`; every series is there with zero, and no label says who."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nova_recommendations_{name}", text, labels, registry=registry)

        self._hits = counter("hits", "Requests for which recommendations were ready.")
        self._fallbacks = counter("fallbacks", "Requests that the feed stood in for.", "reason")
        self._failed = counter("unanswered", "Requests that neither could answer.")
        self._posts = counter("posts", "Posts that were recommended to somebody who asked.")
        self._failures = counter("compute_failures", "Computations that failed.")
        self._cost = Histogram(
            "nova_recommendations_compute_seconds",
            "Computing the recommendations of one user.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._known = Gauge("nova_recommendations_users", "Users whom the last round was for.", registry=registry)
        for reason in REASONS:
            self._fallbacks.labels(reason)

    def hit(self, posts: int) -> None:
        """They were ready, with so many posts."""
        self._hits.inc()
        self._posts.inc(posts)

    def fallback(self, reason: Reason) -> None:
        """The feed stands in."""
        self._fallbacks.labels(reason).inc()

    def unanswered(self) -> None:
        """The feed could not."""
        self._failed.inc()

    def computed(self, seconds: float) -> None:
        """It took so long."""
        self._cost.observe(seconds)

    def failed(self) -> None:
        """A computation came to nothing."""
        self._failures.inc()

    def round(self, users: int) -> None:
        """A round begins, for so many."""
        self._known.set(users)
