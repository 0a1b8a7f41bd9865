"""How operations end, what is asked of others for them, and what batches spare."""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter

Result = Literal["ok", "partial", "failed", "unknown_document"]
RESULTS: Final[tuple[Result, ...]] = ("ok", "partial", "failed", "unknown_document")
"""All of it is there; some fields are not; nothing is; the hash of a document that is not known."""
UPSTREAMS: Final = ("users", "content", "messaging", "notification", "search", "recommendations")


class GraphqlMetrics:
    """`nova_graphql_*`; every series is there with zero, and no label says who or what."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"nova_graphql_{name}", words, labels, registry=registry)

        self._operations = counter("operations", "Operations, by how they ended.", "result")
        self._calls = counter("calls", "Calls to other services.", "upstream", "result")
        self._loads = counter("loads", "People and posts that fields asked for.")
        self._batches = counter("batches", "Calls that these were loaded by.")
        for result in RESULTS:
            self._operations.labels(result)
        for upstream in UPSTREAMS:
            for ending in ("ok", "refused", "failed"):
                self._calls.labels(upstream, ending)

    def ended(self, result: Result) -> None:
        """An operation did."""
        self._operations.labels(result).inc()

    def called(self, upstream: str, result: Literal["ok", "refused", "failed"]) -> None:
        """Another service answered, said no, or did not answer."""
        self._calls.labels(upstream, result).inc()

    def loaded(self, loads: int, batches: int) -> None:
        """What one operation loaded."""
        self._loads.inc(loads)
        self._batches.inc(batches)
