"""A listening socket and the connections it accepted.

The socket is bound here: a loop that is given a host looks even an address up, in threads that then stay for the life
of the process.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from nova_api.proxy import Address
from nova_sidecar.transport.endpoints import Endpoint, literal

BACKLOG: Final = 4096
"""Connections the kernel holds until they are accepted; its own limit (somaxconn) applies on top."""


class Listener:
    """Accepts connections at one address until `close`."""

    __slots__ = ("_server", "endpoint")

    def __init__(self, server: asyncio.Server, endpoint: Endpoint) -> None:
        self._server = server
        self.endpoint = endpoint
        """Actual address; a configured port of 0 is the one the kernel chose."""

    @classmethod
    async def open(cls, address: Address, protocol: Callable[[], asyncio.Protocol]) -> "Listener":
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        where = literal(address.host, address.port)
        if where is None:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            where = str(found[0][4][0]), address.port
        sock = bound(where)
        server = await loop.create_server(protocol, sock=sock, backlog=BACKLOG)
        host, port = sock.getsockname()[:2]
        return cls(server, (host, port))

    def close(self) -> None:
        """Accept no more; connections that were accepted go on."""
        self._server.close()

    def __repr__(self) -> str:
        return f"<Listener {self.endpoint[0]}:{self.endpoint[1]}>"


def bound(where: Endpoint) -> socket.socket:
    """A socket bound to this address, which a former process may have left a moment ago. Raises OSError."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does; IPv4 has its own listener
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock
