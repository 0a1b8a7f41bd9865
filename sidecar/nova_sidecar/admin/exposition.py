"""Metrics as text, without holding up the data path.

Rendering a few thousand samples takes tens of milliseconds, all of it in Python, and a thread would only fight for
the interpreter lock. So one metric family is rendered at a time, and the event loop turns in between.

The address is open to the cluster, and two hundred scrapers at once must not cost two hundred times as much in each of
those turns: one rendering is under way at a time, and all who asked before it began share it.
"""

import asyncio
from collections.abc import Iterable, Iterator

from nova_sidecar.admin.families import END, OPEN_METRICS, TEXT, Collector, Family, wants_open_metrics


class Exposition:
    """Renders what the collectors give, family by family."""

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._collectors = tuple(collectors)
        self._turn = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[bytes]] = {}
        """By format, what waits for its turn."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, chosen by the scraper's Accept header. No figure is older than the call."""
        open_metrics = wants_open_metrics(accept)
        rendering = self._next.get(open_metrics)
        if rendering is None:
            rendering = self._next[open_metrics] = asyncio.create_task(self._render(open_metrics=open_metrics))
        body = await asyncio.shield(rendering)  # one scraper that leaves does not end it for the others
        return body, OPEN_METRICS if open_metrics else TEXT

    async def _render(self, *, open_metrics: bool) -> bytes:
        async with self._turn:
            del self._next[open_metrics]  # who asks from here on wants newer figures
            parts: list[bytes] = []
            for family in self.collect():
                parts.append(family.render(open_metrics=open_metrics))
                await asyncio.sleep(0)
        if open_metrics:
            parts.append(END)
        return b"".join(parts)

    def collect(self) -> Iterator[Family]:
        """Every family, read at the moment it is asked for."""
        for collector in self._collectors:
            yield from collector.collect()
