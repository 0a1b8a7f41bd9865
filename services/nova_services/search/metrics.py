"""How much is asked for, how often in vain, and what the index has taken."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from nova_services.search.documents import EVENTS

KINDS: Final = ("posts", "people")


class SearchMetrics:
    """`nova_search_*`; every series is there with zero, and no label says what was asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queries = Counter("nova_search_queries", "First pages that were asked for.", ("kind",), registry=registry)
        self._empty = Counter("nova_search_empty", "Of these, those without a hit.", ("kind",), registry=registry)
        self._indexed = Counter(
            "nova_search_indexed", "Events that have changed the index.", ("event",), registry=registry
        )
        self._unknown = Counter(
            "nova_search_blocks_unknown", "Questions for blocks that users did not answer.", registry=registry
        )
        for kind in KINDS:
            self._queries.labels(kind)
            self._empty.labels(kind)
        for event in EVENTS:
            self._indexed.labels(event)

    def asked(self, kind: str, *, hits: int) -> None:
        """Somebody has searched for the first time, not for a further page."""
        self._queries.labels(kind).inc()
        if not hits:
            self._empty.labels(kind).inc()

    def indexed(self, event: str) -> None:
        """One of EVENTS was taken."""
        self._indexed.labels(event).inc()

    def unknown_blocks(self) -> None:
        """users did not answer."""
        self._unknown.inc()
