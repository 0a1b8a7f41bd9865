"""A caller's connection to the webhooks' port: how many there are, how long one may be silent, and what it is told when
it speaks no HTTP. aiohttp alone waits for a head for as long as for the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from nova_operator.admission_metrics import AdmissionMetrics

IDLE_TIMEOUT: Final = 120.0
"""Seconds for which a connection is kept after an answer; longer than the API server keeps one (90 s)."""


def response(status: int, body: bytes) -> web.Response:
    """An answer that says nothing but what it must."""
    answer = web.Response(status=status, body=body, headers={"Server": "nova", "Content-Type": "application/json"})
    if status not in {200, 500}:
        answer.force_close()  # the body may not have been read
    return answer


class Connection(web.RequestHandler):
    """Closes itself when it has been silent for too long; aiohttp waits for a head for as long as for the next call."""

    __slots__ = ("_expiry", "_metrics", "_patience")

    def __init__(self, manager: web.Server, patience: float, metrics: AdmissionMetrics) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            manager, loop=loop, auto_decompress=False, keepalive_timeout=2 * IDLE_TIMEOUT,
            lingering_time=0.0, tcp_keepalive=False,
        )  # fmt: skip
        self._patience = patience
        self._metrics = metrics
        self._expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From now on a head is waited for."""
        super().connection_made(transport)
        self._expire_in(self._patience)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is waited for any more."""
        self.busy()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp itself refuses, such as a head that is none: neither the caller nor the log gets its words."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way, there cannot be another one")
        self._metrics.bad_requests.inc()
        return response(status, b"")

    def busy(self) -> None:
        """A request is being answered: others see to the time."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def idle(self) -> None:
        """It was answered."""
        if self.transport is not None:
            self._expire_in(IDLE_TIMEOUT)

    def _expire_in(self, seconds: float) -> None:
        self.busy()
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()  # one that reads nothing would keep a closed one open


class Connections(web.Server):
    """Makes the connections, up to a number; one too many is closed before it has said anything."""

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.Response]],
        metrics: AdmissionMetrics,
        patience: float,
        most: int,
    ) -> None:
        super().__init__(answer)
        self._metrics = metrics
        self._patience = patience
        self._most = most

    def __call__(self) -> web.RequestHandler:
        """A new connection, with no time to say anything where there are too many."""
        patience = self._patience if len(self.connections) < self._most else 0.0
        return Connection(self, patience, self._metrics)
