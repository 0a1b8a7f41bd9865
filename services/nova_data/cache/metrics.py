"""What is counted of caches, in the app's own metrics (prometheus-client)."""

from collections.abc import Callable
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

RESULTS: Final = ("hit", "stale", "shared", "loaded", "failed", "fallback")
"""An answer of this process; one that is loaded anew behind it; Redis'; loaded; an error; the fallback's."""


class CacheMetrics:
    """`nova_data_cache_*` and `nova_data_write_back_*`; made once for each registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nova_data_{name}", text, ("cache", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"nova_data_{name}", text, ("cache",), registry=registry)

        self._requests = counter("cache_requests", "Answers, by where they came from.", "result")
        self._entries = gauge("cache_entries", "Answers that the process keeps.")
        self._evicted = counter("cache_evicted", "Answers that left for others.")
        self._saved = counter("write_back_saved", "Values that were saved.")
        self._failed = counter("write_back_failed", "Attempts to save a batch that failed.")
        self._unsaved = counter("write_back_unsaved", "Values that were given up, and told.")
        self._pending = gauge("write_back_pending", "Values that are not saved yet.")

    def add(self, cache: str, entries: Callable[[], float]) -> None:
        """Show a cache; every series is there with zero."""
        for result in RESULTS:
            self._requests.labels(cache, result)
        self._evicted.labels(cache)
        self._entries.labels(cache).set_function(entries)

    def add_write_back(self, cache: str, pending: Callable[[], float]) -> None:
        """Show what is written through a cache."""
        for each in (self._saved, self._failed, self._unsaved):
            each.labels(cache)
        self._pending.labels(cache).set_function(pending)

    def answered(self, cache: str, result: str) -> None:
        """Count an answer; `result` is one of `RESULTS`."""
        self._requests.labels(cache, result).inc()

    def evicted(self, cache: str, count: int) -> None:
        """Count answers that left for others."""
        self._evicted.labels(cache).inc(count)

    def saved(self, cache: str, count: int) -> None:
        """Count values that were saved."""
        self._saved.labels(cache).inc(count)

    def failed(self, cache: str) -> None:
        """Count an attempt that failed."""
        self._failed.labels(cache).inc()

    def unsaved(self, cache: str, count: int) -> None:
        """Count values that were given up."""
        self._unsaved.labels(cache).inc(count)
