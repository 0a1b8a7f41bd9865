"""Bounds what a client of an admin server can hold: how many connections, and for how long without doing its part.

These addresses are reachable from the cluster, so a few hundred connections that say nothing, send a head byte by byte
or never read their answer must not keep the kubelet's probes out.
"""

import asyncio
from typing import Final

MAX_CONNECTIONS: Final = 256
HEAD_TIMEOUT: Final = 10.0
"""Seconds for a whole request, from the opening of the connection or from its first byte on a kept one."""
STALL_TIMEOUT: Final = 10.0
"""Seconds for taking 48 KiB of an answer: what is between the marks at which a transport pauses and goes on."""
MAX_STALLED: Final = 16
"""Answers that wait for a client that does not read; each keeps a whole page, of which there may be a megabyte."""
KEEP_ALIVE: Final = 75.0
"""Longer than Prometheus' usual scrape interval, so that a scraper keeps its connection."""


class ConnectionGuard:
    """Watches the connections of one server. A connection waits for its client, or it is busy with an answer.

    Waiting too long ends it; one connection too many ends the one that has waited longest.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit: int = MAX_CONNECTIONS) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # in the order they began to wait
        self._stalled: dict[asyncio.Transport, None] = {}  # of those waiting, in the order they began
        self._busy: set[asyncio.Transport] = set()

    def __repr__(self) -> str:
        return f"<ConnectionGuard waiting={len(self._waiting)} busy={len(self._busy)}>"

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection came in."""
        if len(self._waiting) + len(self._busy) >= self._limit:
            self._end(next(iter(self._waiting), transport))
        self.waits(transport, HEAD_TIMEOUT)

    def closed(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._busy.discard(transport)
        self._stalled.pop(transport, None)
        if (timer := self._waiting.pop(transport, None)) is not None:
            timer.cancel()

    def busy(self, transport: asyncio.Transport) -> None:
        """It is our turn: its request has arrived, or it has taken what was written."""
        self.closed(transport)
        self._busy.add(transport)

    def waits(self, transport: asyncio.Transport, seconds: float) -> None:
        """It is the client's turn, for this long."""
        self.closed(transport)
        self._waiting[transport] = self._loop.call_later(seconds, transport.abort)

    def stalls(self, transport: asyncio.Transport) -> None:
        """It does not read its answer; one too many ends the one that has not for longest."""
        self.waits(transport, STALL_TIMEOUT)
        self._stalled[transport] = None
        if len(self._stalled) > MAX_STALLED:
            self._end(next(iter(self._stalled)))

    def _end(self, transport: asyncio.Transport) -> None:
        self.closed(transport)
        transport.abort()
