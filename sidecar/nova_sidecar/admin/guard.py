"""Bounds what a client of an admin server can hold: how many connections, and for how long without a request.

aiohttp limits the size of a head but waits for it without end. These addresses are reachable from the cluster, so a
few hundred silent connections must not keep the kubelet's probes out.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

MAX_CONNECTIONS: Final = 256
HEAD_TIMEOUT: Final = 10.0
KEEP_ALIVE: Final = 75.0
"""Longer than Prometheus' usual scrape interval, so that a scraper keeps its connection."""


class ConnectionGuard:
    """Watches the connections of one server. A connection waits for a head, or it is busy with a request.

    Waiting too long closes it; one connection too many closes the one that has waited longest.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit: int = MAX_CONNECTIONS) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # in the order they began to wait
        self._busy: set[asyncio.Transport] = set()

    def __repr__(self) -> str:
        return f"<ConnectionGuard waiting={len(self._waiting)} busy={len(self._busy)}>"

    def guard(self, factory: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
        """A protocol factory whose connections are watched."""
        return lambda: _Guarded(factory(), self)

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection came in."""
        if len(self._waiting) + len(self._busy) >= self._limit:
            oldest = next(iter(self._waiting), transport)
            self.closed(oldest)
            oldest.abort()
        self._wait(transport, HEAD_TIMEOUT)

    def closed(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._busy.discard(transport)
        if (timer := self._waiting.pop(transport, None)) is not None:
            timer.cancel()

    def begin(self, transport: asyncio.Transport | None) -> None:
        """A request head has arrived; the handler decides how long it takes."""
        if transport is not None and (timer := self._waiting.pop(transport, None)) is not None:
            timer.cancel()
            self._busy.add(transport)

    def end(self, transport: asyncio.Transport | None) -> None:
        """The response is written."""
        if transport is not None and transport in self._busy:
            self._busy.discard(transport)
            self._wait(transport, KEEP_ALIVE)

    def _wait(self, transport: asyncio.Transport, seconds: float) -> None:
        self._waiting[transport] = self._loop.call_later(seconds, transport.abort)


class _Guarded(asyncio.Protocol):
    """Passes every event on to the server's own protocol and tells the guard of coming and going."""

    def __init__(self, inner: asyncio.BaseProtocol, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._transport: asyncio.Transport | None = None
        self.inner = inner
        for event in ("data_received", "eof_received", "pause_writing", "resume_writing"):
            setattr(self, event, getattr(inner, event))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what stream servers give; uvloop's is no subclass
        self._guard.opened(self._transport)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._guard.closed(self._transport)
        self.inner.connection_lost(exc)
