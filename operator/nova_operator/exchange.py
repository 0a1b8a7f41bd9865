"""HTTP/1.1 (RFC 9112) with the API server: an exchange is one request and its response on a connection which it
has to itself, and which then serves the next.

aiohttp does the same and much more: an apply by it takes 0.6 to 0.7 ms of the operator's CPU, and by llhttp and one
future, which are all there is here, 0.4. A service is made with eight requests (docs/operator-performance.md). Watches,
and requests by way of a proxy, go through aiohttp (`connections`).

Rules: a connection is used again only after a whole answer that does not end it. A request that was given up, an answer
that is none, and bytes that nobody asked for close it. A request that was given up takes the idle connections along:
where the other end is gone without a word, each of them would cost another deadline. One that was idle may be closed by
its other end just as it is used; a request that may be made twice then has a new one, if nothing of an answer came.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections import deque
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httptools
import msgspec
from aiohappyeyeballs import start_connection

IDLE: Final = 15.0
"""Seconds for which a connection that nobody used is trusted: what lies between may have forgotten it, and each has
buffers of 256 KB. The API server itself waits for 90."""

LONGEST_HEAD: Final = 64 << 10
"""Bytes of a response's head, interim ones included. Its body has no bound: lists are as long as they are."""

_NEXT_ADDRESS: Final = 0.25
"""Seconds until the next address of the server's name is tried beside the one before (RFC 8305 section 5)."""

_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2. An apply, which is a PATCH, may be made twice as well, but not on condition that there is no
such object."""


class Answer(msgspec.Struct, frozen=True):
    """A response, whole."""

    status: int
    headers: dict[str, str]
    """By their names in lower case; of a field that comes twice, the last."""

    body: bytes


class UnansweredError(ConnectionResetError):
    """The connection ended before anything of an answer came."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._parser: Any = None
        self._heard = 0
        self._in_head = True
        self._ended = False
        self.keeps = False
        """Whether it can carry another one."""

        self.used_at = 0.0
        """When it ended its last one, by the loop's clock."""

    def __repr__(self) -> str:
        return f"<Connection {'keeps' if self.keeps else 'ends'} {'busy' if self._answer else 'idle'}>"

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the answer, or a ConnectionError. Nothing else may be under way. Raises UnansweredError."""
        if self._ended or self._transport.is_closing():
            raise UnansweredError("the connection was closed before the request was sent")
        self.keeps = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._heard, self._in_head = {}, [], 0, True
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def is_fit(self, now: float) -> bool:
        """Whether it can carry another one and was used lately."""
        return self.keeps and not self._transport.is_closing() and now - self.used_at < IDLE

    def close(self) -> None:
        """Drop it, and what is under way."""
        self._ended, self.keeps = True, False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol; so the next three."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A response, or what nobody has asked for."""
        if self._answer is None:
            self.close()
            return
        self._heard += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._give_up(f"the answer is no HTTP/1.1: {error}")
        except httptools.HttpParserUpgrade:
            self._give_up("the answer is another protocol, which nobody asked for")
        else:
            if self._in_head and self._heard > LONGEST_HEAD:
                self._give_up(f"the head of the answer is longer than {LONGEST_HEAD} bytes")

    def eof_received(self) -> None:
        """The other end has said all; the transport closes itself."""
        self._ended, self.keeps = True, False

    def connection_lost(self, exc: Exception | None) -> None:
        """What is under way gets no answer any more."""
        self._ended, self.keeps = True, False
        error = ConnectionResetError if self._heard else UnansweredError
        self._fail(error(f"the connection was closed before the answer came{f': {exc}' if exc else ''}"))

    def on_message_begin(self) -> None:
        """See httptools; so the next four. One that follows the answer is nobody's."""
        if self._answer is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole; after that of an interim answer (RFC 9110 section 15.2) comes another one."""
        self._in_head = self._parser.get_status_code() < 200

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        headers, body = self._headers, b"".join(self._body)
        self._headers, self._body = {}, []
        status = self._parser.get_status_code()
        if status < 200:
            return
        answer, self._answer = self._answer, None
        self.keeps = not self._ended and self._parser.should_keep_alive()
        if answer is not None and not answer.done():
            answer.set_result(Answer(status, headers, body))

    def _give_up(self, why: str) -> None:
        self._fail(ConnectionError(why))
        self.close()

    def _fail(self, error: ConnectionError) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)


class Exchanges:
    """With one API server, over `most` connections, 0 for any number; who finds them all busy waits for his turn."""

    def __init__(self, server: str, context: ssl.SSLContext, server_name: str | None, most: int) -> None:
        url = urlsplit(server)
        secure = url.scheme == "https"
        self._address = url.hostname or "", url.port or (443 if secure else 80)
        self._tls: dict[str, Any] = {"ssl": context, "server_hostname": server_name or url.hostname} if secure else {}
        self._root = url.path.rstrip("/")
        # without Accept-Encoding any would do (RFC 9110 section 12.5.3)
        self._lines = f"Host: {url.netloc.rpartition('@')[2]}\r\nAccept-Encoding: identity\r\n"
        self._turns = asyncio.Semaphore(most or sys.maxsize)
        self._idle: deque[Connection] = deque()
        self._closed = False

    def __repr__(self) -> str:
        idle = sum(connection.keeps for connection in self._idle)
        return f"<Exchanges with {self._address} idle={idle}>"

    async def send(
        self, method: str, target: str, headers: str, body: bytes, *, connect: float, total: float
    ) -> Answer:
        """One exchange; `headers` are lines with their ends. Seconds to `connect` and in `total`, waiting included.

        Raises TimeoutError, OSError.
        """
        head = f"{method} {self._root}{target} HTTP/1.1\r\n{self._lines}{headers}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        async with asyncio.timeout(total), self._turns:
            connection = self._take()
            if connection is not None:
                try:
                    return await self._exchange(connection, request)
                except UnansweredError:
                    if method not in _REPEATABLE:
                        raise
            return await self._exchange(await self._open(connect), request)

    def close(self) -> None:
        """Close what is idle, and each of the others when it ends."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, connection: Connection, request: bytes) -> Answer:
        try:
            answer = await connection.ask(request)
        except asyncio.CancelledError:  # by its deadline, as a rule
            connection.close()
            self._close_idle()
            raise
        except BaseException:
            connection.close()
            raise
        self._put_back(connection)
        return answer

    def _take(self) -> Connection | None:
        """The one that was used last."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit(now):
                return connection
            connection.close()
        return None

    def _put_back(self, connection: Connection) -> None:
        if self._closed or not connection.keeps:
            connection.close()
            return
        now = connection.used_at = asyncio.get_running_loop().time()
        self._idle.append(connection)
        while now - self._idle[0].used_at >= IDLE:
            self._idle.popleft().close()

    async def _open(self, within: float) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within):
                found = await loop.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
                reached = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
                _, connection = await loop.create_connection(Connection, sock=reached, **self._tls)
        except TimeoutError as error:
            raise TimeoutError(f"no connection within {within:g} s") from error
        return connection
