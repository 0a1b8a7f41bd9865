"""What is counted of deduplication, in the app's own metrics (prometheus-client)."""

from typing import Final, Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter

Result = Literal["first", "duplicate", "claimed", "overtaken", "failed"]
RESULTS: Final[tuple[Result, ...]] = ("first", "duplicate", "claimed", "overtaken", "failed")
"""The effect took place; it had before; another one is at it; another one began while it was under way (Redis only);
the store did not answer."""


class DedupMetrics:
    """`nova_dedup_keys_total` and `nova_dedup_bloom_total` in a registry, for all scopes.

    Made once for each registry: the library refuses a second metric of the same name.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY) -> None:
        self._keys = Counter(
            "nova_dedup_keys",
            "Idempotency keys that were asked for, by what came out.",
            ("scope", "result"),
            registry=registry,
        )
        self._bloom = Counter(
            "nova_dedup_bloom", "Answers of the Bloom filter: no, or maybe.", ("scope", "answer"), registry=registry
        )

    @classmethod
    def silent(cls) -> "DedupMetrics":
        """Counts for nobody."""
        return cls(None)

    def add(self, scope: str) -> None:
        """Show this scope; every series is there with zero."""
        for result in RESULTS:
            self._keys.labels(scope, result)
        for answer in ("no", "maybe"):
            self._bloom.labels(scope, answer)

    def count(self, scope: str, result: Result) -> None:
        """A key was asked for."""
        self._keys.labels(scope, result).inc()

    def bloom(self, scope: str, *, maybe: bool) -> None:
        """The filter was asked."""
        self._bloom.labels(scope, "maybe" if maybe else "no").inc()
