"""The port on which the API server asks: HTTP/1.1 over TLS.

Everybody in the cluster's network can reach it, and nothing proves that a caller is the API server. So it gives away
nothing beyond what a review is about, and every call is bounded: the bytes of its body and of all bodies together,
the time to send it and to answer it, the connections and how long one may be silent. A caller that breaks a bound gets
a status without a word.

An idle connection is kept for longer than the API server keeps one (90 s): were it closed here, a call might be on its
way on it, and be lost. A new certificate is used from the next connection on; those that are open stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import structlog
from aiohttp import web

from nova_operator.admission.callers import Connection, Connections, response
from nova_operator.admission.certificates import Pair
from nova_operator.admission.review import LONGEST_NAME, Answer, Request, ReviewError, decode, encode
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.events import Allowance

MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a review: an object before and after, of which etcd takes 1.5 MiB each, and room for escapes."""

MAX_BODIES: Final = 8 * MAX_BODY
"""Bytes of all bodies under way."""

MAX_CONNECTIONS: Final = 512
BODY_TIMEOUT: Final = 5.0
"""Seconds in which a request's body must have come."""

HEAD_TIMEOUT: Final = 5.0
"""Seconds in which a new connection must send a request's head; also for the TLS handshake."""

ANSWER_TIMEOUT: Final = 8.0
"""Seconds in which a hook must answer."""

Hook = Callable[[Request], Awaitable[Answer]]
"""Answers a review."""

log = structlog.get_logger()


class WebhookServer:
    """Answers reviews: `hooks` by path and the name it has in metrics, such as ``/validate`` and ``novaservices``."""

    def __init__(
        self,
        hooks: Mapping[str, tuple[str, Hook]],
        metrics: AdmissionMetrics,
        *,
        head_timeout: float = HEAD_TIMEOUT,
        body_timeout: float = BODY_TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._hooks = hooks
        self._metrics = metrics
        self._body_timeout = body_timeout
        self._head_timeout = head_timeout
        self._max_connections = max_connections
        self._bytes = 0
        self._lines = Allowance()
        self._faults = Allowance()
        self._server: asyncio.Server | None = None
        self._connections: Connections | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["http/1.1"])

    def __repr__(self) -> str:
        return f"<WebhookServer {'listens' if self._server else 'closed'} bytes={self._bytes}>"

    def wear(self, pair: Pair) -> None:
        """Use this certificate from now on. Raises ValueError, and keeps the old one, if it cannot be used."""
        with _file(pair.certificate + b"\n" + pair.key) as path:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)  # a failure leaves a context in pieces
                self._context.load_cert_chain(path)
            except ssl.SSLError as error:
                raise ValueError(f"the certificate or its key cannot be used: {error}") from error

    async def start(self, port: int) -> int:
        """Listen on all addresses; returns the port, which matters for 0. Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self._connections = Connections(self._answer, self._metrics, self._head_timeout, self._max_connections)
        self._server = await loop.create_server(
            self._connections, None, port, ssl=self._context, ssl_handshake_timeout=self._head_timeout, backlog=128
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, answer what has been asked, close."""
        if self._server is not None:
            self._server.close()
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(2.0)
        self._server = None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - `Connections` makes no others
        connection.busy()
        try:
            status, body = await self._respond(request)
        finally:
            connection.idle()
        return response(status, body)

    async def _respond(self, request: web.BaseRequest) -> tuple[int, bytes]:
        refused = self._refuse(request)
        if refused is not None:
            self._metrics.bad_requests.inc()
            return refused, b""
        name, hook = self._hooks[request.path]
        length = request.content_length or 0
        self._bytes += length
        try:
            async with asyncio.timeout(self._body_timeout):
                review = decode(await request.content.read())  # `request.read` stops at 1 MiB; `_refuse` saw the length
        except (ReviewError, TimeoutError) as error:
            self._metrics.bad_requests.inc()
            return (400 if isinstance(error, ReviewError) else 408), b""
        finally:
            self._bytes -= length
        return await self._review(name, hook, review)

    def _refuse(self, request: web.BaseRequest) -> int | None:
        """The status for a request whose body is not worth reading."""
        if request.path not in self._hooks:
            return 404
        if request.method != "POST":
            return 405
        if request.content_type != "application/json" or "Content-Encoding" in request.headers:
            return 415
        if request.content_length is None:
            return 411
        if request.content_length > MAX_BODY:
            return 413
        return 503 if self._bytes + request.content_length > MAX_BODIES else None

    async def _review(self, name: str, hook: Hook, review: Request) -> tuple[int, bytes]:
        began = time.monotonic()
        about = {"webhook": name, "namespace": review.namespace[:LONGEST_NAME]}
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await hook(review)
        except Exception:  # the failure policy decides, and the caller learns nothing of what went wrong
            if self._faults.take(began):
                log.exception("review failed", **about)
            self._metrics.review(name, "error", time.monotonic() - began)
            return 500, b""
        if not answer.allowed and self._lines.take(began):
            log.info("admission refused", **about, error=answer.message)
        self._metrics.review(name, "true" if answer.allowed else "false", time.monotonic() - began)
        return 200, encode(review.uid, answer)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path to read this at: `ssl` loads certificates from files alone, and a key should not lie on a disk."""
    descriptor = os.memfd_create("webhook-certificate")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
