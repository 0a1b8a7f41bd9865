"""Opens connections for one port: plainly or by TLS, each within the connect timeout, with one kind of error.

Both the HTTP/1.1 dispatcher and the HTTP/2 pool open their connections here, so that they agree on deadlines, on
certificates and on the words for what went wrong. Name resolution is not part of it: it takes addresses.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from math import inf
from typing import Final, Literal

from nova_api.proxy import Tls
from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.tls import TlsClient, TlsStats, failure_of, words_of

Alpn = Literal["h2", "http/1.1"]

_FAMILIES: Final = {False: socket.AF_INET, True: socket.AF_INET6}


_OWN: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""What this machine lacks: descriptors, memory, ports of its own."""


class ConnectError(Exception):
    """No connection: the message says why, in words that name neither side's secrets. `own` where the endpoint is not
    to blame, since this machine could not even try."""

    def __init__(self, why: str, *, own: bool = False) -> None:
        super().__init__(why)
        self.own = own


def let_go(error: ConnectError) -> None:
    """Take the tracebacks from an error that a task ended with. Their frames hold who opened the connection, who holds
    the task, which holds the error: only the garbage collector would free them, and an upstream that is down makes
    many."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


class Connector:
    """See the module. `alpn` is the protocol that is spoken inside TLS (RFC 7301), None for none in particular.

    Reads certificates again when they change, until `close`.
    """

    __slots__ = ("_alpn", "_loop", "_stats", "_tls", "timeout")

    def __init__(self, *, timeout: float, tls: Tls | None, alpn: Alpn | None, stats: TlsStats) -> None:
        self._loop = asyncio.get_running_loop()
        self._alpn = alpn
        self._stats = stats
        self._tls: TlsClient | None = None
        self.configure(timeout=timeout, tls=tls)

    def configure(self, *, timeout: float, tls: Tls | None) -> None:
        """Take over new values for connections opened from now on; `timeout` in seconds."""
        self.timeout = timeout
        if self._tls is not None:
            if self._tls.settings == tls:
                return
            self._tls.close()
        self._tls = TlsClient(tls, self._alpn, self._stats) if tls is not None else None

    def close(self) -> None:
        """Watch files no more."""
        if self._tls is not None:
            self._tls.close()

    async def open(self, protocol: Callable[[], asyncio.Protocol], endpoint: Endpoint, ends: float = inf) -> None:
        """Connect; the protocol is told by `connection_made`, after the handshake where there is one.

        Raises ConnectError, within the timeout and before `ends` (an instant of the loop's clock). A protocol that
        `connection_made` was called for may still be cut off by a cancellation in the very same moment; then it has
        its transport, and the caller closes it.
        """
        ends = min(ends, self._loop.time() + self.timeout)
        if self._tls is None:
            await self._open_plain(protocol, endpoint, ends)
        else:
            await self._open_tls(self._tls, protocol, endpoint, ends)

    async def _open_plain(self, protocol: Callable[[], asyncio.Protocol], endpoint: Endpoint, ends: float) -> None:
        try:
            async with asyncio.timeout_at(ends):
                await self._loop.create_connection(protocol, *endpoint)
        except OSError as error:  # TimeoutError is one
            raise _told(error) from error

    async def _open_tls(
        self, tls: TlsClient, protocol: Callable[[], asyncio.Protocol], endpoint: Endpoint, ends: float
    ) -> None:
        """In two steps, so that an address nobody answers at and a handshake that goes wrong are told apart."""
        if tls.context is None:
            self._stats.failed("files")
            raise ConnectError(f"no connection: {tls.broken}", own=True)
        sock = await self._tcp(endpoint, ends)
        try:
            async with asyncio.timeout_at(ends):
                transport, _ = await self._loop.create_connection(
                    protocol, sock=sock, ssl=tls.context, server_hostname=tls.settings.server_name
                )
        except OSError as error:  # TimeoutError and ssl.SSLError are such
            sock.close()
            self._stats.failed(failure_of(error))
            raise ConnectError(f"no TLS connection: {words_of(error)}") from error
        except BaseException:
            sock.close()
            raise
        self._check_alpn(transport)

    async def _tcp(self, endpoint: Endpoint, ends: float) -> socket.socket:
        sock: socket.socket | None = None
        try:
            sock = socket.socket(_FAMILIES[":" in endpoint[0]], socket.SOCK_STREAM)
            sock.setblocking(False)
            async with asyncio.timeout_at(ends):
                await self._loop.sock_connect(sock, endpoint)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, OSError):
                raise _told(error) from error
            raise
        return sock

    def _check_alpn(self, transport: asyncio.BaseTransport) -> None:
        """HTTP/2 needs the server's word (RFC 9113 section 3.2); a server that knows no ALPN speaks HTTP/1.1."""
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if self._alpn == "h2" and chosen != "h2":
            transport.abort()  # type: ignore[attr-defined]  # every stream transport has it
            self._stats.failed("protocol")
            raise ConnectError("no TLS connection: the server did not agree to HTTP/2 (ALPN h2)")


def _told(error: OSError) -> ConnectError:
    if isinstance(error, TimeoutError) and error.errno is None:
        return ConnectError("no connection within the connect timeout")
    return ConnectError(f"no connection: {error.strerror or error}", own=error.errno in _OWN)
