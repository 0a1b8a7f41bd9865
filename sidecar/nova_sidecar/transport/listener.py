"""A listening socket and the connections it accepted."""

import asyncio
from collections.abc import Callable
from typing import Final

from nova_api.proxy import Address
from nova_sidecar.transport.endpoints import Endpoint

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
        server = await loop.create_server(protocol, address.host, address.port, backlog=BACKLOG, reuse_address=True)
        host, port = server.sockets[0].getsockname()[:2]
        return cls(server, (host, port))

    def close(self) -> None:
        """Accept no more; connections that were accepted go on."""
        self._server.close()

    def __repr__(self) -> str:
        return f"<Listener {self.endpoint[0]}:{self.endpoint[1]}>"
