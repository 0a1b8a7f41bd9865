"""Metrics as text, without holding up the data path.

Rendering a few thousand samples takes tens of milliseconds, all of it in Python, and a thread would only fight for
the interpreter lock. So one metric family is rendered at a time, and the event loop turns in between.

The address is open to the cluster, and two hundred scrapers at once must not cost two hundred times as much in each of
those turns: one rendering is under way at a time, and all who asked before it began share it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

_END: Final = b"# EOF\n"  # of OpenMetrics, which allows it once


class Exposition:
    """Renders what the collectors give, family by family."""

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._collectors = tuple(collectors)
        self._turn = asyncio.Lock()
        self._next: dict[str, asyncio.Task[bytes]] = {}
        """By content type, what waits for its turn."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, chosen by the scraper's Accept header. No figure is older than the call."""
        encode, content_type = choose_encoder(accept)
        rendering = self._next.get(content_type)
        if rendering is None:
            rendering = self._next[content_type] = asyncio.create_task(self._render(encode, content_type))
        return await asyncio.shield(rendering), content_type  # one scraper that leaves does not end it for the others

    async def _render(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> bytes:
        async with self._turn:
            del self._next[content_type]  # who asks from here on wants newer figures
            parts: list[bytes] = []
            for family in self.collect():
                parts.append(encode(cast("CollectorRegistry", _One(family))).removesuffix(_END))
                await asyncio.sleep(0)
        if "openmetrics" in content_type:
            parts.append(_END)
        return b"".join(parts)

    def collect(self) -> Iterator[Metric]:
        """Every family, read at the moment it is asked for."""
        for collector in self._collectors:
            yield from collector.collect()


class _One(Collector):
    """A registry of one family, as far as the encoders look."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)
