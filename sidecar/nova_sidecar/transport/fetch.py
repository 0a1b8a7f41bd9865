"""One document by HTTP/1.1 from a server that is no upstream: for what the sidecar needs itself, now and then.

A connection for each fetch, to an address that the sidecar's own resolver gives (a pod's /etc/hosts would lead back to
the sidecar), with the certificate checked as for upstreams. Everything is bounded: the time for all of it, the head,
the body. A redirect is not followed, since it would lead wherever the server likes; a coding of the content was not
asked for and is an error.
"""

import asyncio
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from nova_api.policies import BreakerPolicy
from nova_api.proxy import Tls
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.transport.connector import ConnectError, Connector
from nova_sidecar.transport.endpoints import ResolveError, Resolver, interleaved, literal
from nova_sidecar.transport.tls import TlsStats
from nova_sidecar.wire.chunked import ChunkedReader
from nova_sidecar.wire.fields import CHUNKED, UNTIL_CLOSE
from nova_sidecar.wire.grammar import MAX_HEAD, Malformed
from nova_sidecar.wire.response import ResponseHead, ResponseReader

DEADLINE: Final = 5.0
"""Seconds for a fetch: name, connection, certificate and content."""
CONNECT_TIMEOUT: Final = 2.0
MOST_ADDRESSES: Final = 3
"""Addresses that are tried, one after the other."""
_PORTS: Final = {"http": 80, "https": 443}


class FetchError(Exception):
    """No document: the message says why, in words that name nothing of it."""


class Location(NamedTuple):
    """What a URL says."""

    host: str
    port: int
    target: str
    secure: bool

    @classmethod
    def of(cls, url: str) -> "Location":
        """Read a URL. Raises ValueError."""
        found = urlsplit(url)
        if found.scheme not in _PORTS or not found.hostname:
            raise ValueError("expected http:// or https:// and a host")
        target = (found.path or "/") + (f"?{found.query}" if found.query else "")
        return cls(found.hostname, found.port or _PORTS[found.scheme], target, found.scheme == "https")


class Fetcher:
    """Fetches one URL; `directory` has ca.crt and the like, "" for none; `most` is the largest body in bytes."""

    __slots__ = ("_connector", "_location", "_most", "_reader", "_request", "_resolver")

    def __init__(self, url: str, *, directory: str, resolver: Resolver, most: int) -> None:
        self._location = where = Location.of(url)
        self._resolver = resolver
        self._most = most
        tls = Tls(server_name=where.host, directory=directory) if where.secure else None
        self._connector = Connector(timeout=CONNECT_TIMEOUT, tls=tls, alpn="http/1.1", stats=TlsStats())
        self._reader = ResponseReader(drop=frozenset(), outcomes=Outcomes(BreakerPolicy()))
        name = f"[{where.host}]" if ":" in where.host else where.host
        usual = where.port == _PORTS["https" if where.secure else "http"]
        host = name if usual else f"{name}:{where.port}"
        self._request = (
            f"GET {where.target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nUser-Agent: nova-sidecar\r\n"
            "Connection: close\r\n\r\n"
        ).encode("ascii")

    async def fetch(self) -> bytes:
        """The document. Raises FetchError, within `DEADLINE`."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._ask()
        except TimeoutError as error:
            raise FetchError(f"no answer within {DEADLINE:g} s") from error

    def close(self) -> None:
        """Look at certificates no more."""
        self._connector.close()

    async def _ask(self) -> bytes:
        answer = _Answer(self._request, self._reader, self._most)
        why: Exception = ResolveError("the host has no address")
        for endpoint in await self._addresses():
            try:
                await self._connector.open(lambda: answer, endpoint)
            except ConnectError as error:
                why = error
                continue
            try:
                return await answer.content
            finally:
                answer.close()
        raise FetchError(str(why)) from why

    async def _addresses(self) -> tuple[tuple[str, int], ...]:
        where = self._location
        own = literal(where.host, where.port)
        if own is not None:
            return (own,)
        try:
            found = await self._resolver.resolve(where.host, where.port)
        except ResolveError as error:
            raise FetchError(str(error)) from error
        return interleaved(found.addresses)[:MOST_ADDRESSES]

    def __repr__(self) -> str:
        return f"<Fetcher {self._location.host}:{self._location.port}>"


class _Answer(asyncio.Protocol):
    """Sends the request and reads its answer; `content` has the body, or a FetchError."""

    def __init__(self, request: bytes, reader: ResponseReader, most: int) -> None:
        self.content: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader = reader
        self._most = most
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._chunks: ChunkedReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it is there."""
        self._transport = transport  # type: ignore[assignment]  # of a connection it is one
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the answer."""
        if self.content.done():
            return
        try:
            self._take(data)
        except Malformed as error:
            self._fail(f"the answer is malformed: {error.why}")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is over."""
        if self.content.done():
            return
        if self._head is not None and self._head.length == UNTIL_CLOSE and exc is None:
            self._done()
        else:
            self._fail("the connection was closed before the answer was whole")

    def close(self) -> None:
        """Nothing more is wanted."""
        self.content.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        if self._head is None:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._buffer) > MAX_HEAD:
                    raise Malformed("its head is too long")
                return
            head, data = self._reader.read(self._buffer[:end]), self._buffer[end:]
            self._buffer = data if head.status < 200 else b""
            if head.status < 200:
                self._take(b"")
                return
            if head.status != 200:
                self._fail(f"the answer has the status {head.status}")
                return
            self._head = head
            self._chunks = ChunkedReader() if head.length == CHUNKED else None
        self._content(self._head, data)

    def _content(self, head: ResponseHead, data: bytes) -> None:
        pieces = self._chunks.feed(data) if self._chunks is not None else [data]
        self._body += pieces
        self._size += sum(map(len, pieces))
        if self._size > self._most or head.length > self._most:
            self._fail(f"the answer is longer than {self._most} bytes")
        elif (self._chunks is not None and self._chunks.done) or self._size >= head.length >= 0:
            self._done()

    def _done(self) -> None:
        whole = b"".join(self._body)
        length = self._head.length if self._head is not None else 0
        self.content.set_result(whole[:length] if length >= 0 else whole)

    def _fail(self, why: str) -> None:
        self.content.set_exception(FetchError(why))
        self.content.exception()  # whoever waits has it; nobody may any more
