"""The admin listeners: who may ask, what there is, and in which bounds.

A page in a browser on a developer's machine can send requests to loopback addresses (cross-site request forgery), and
a name that suddenly resolves to 127.0.0.1 lets it read the answers (DNS rebinding). So the control address answers
only to a Host header that names loopback, and POST is refused with an Origin header, which browsers always send.
"""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from nova_api.proxy import Address, Admin
from nova_sidecar.admin.connection import Connection
from nova_sidecar.admin.guard import ConnectionGuard
from nova_sidecar.admin.message import SHOWN, Answer, Request, text
from nova_sidecar.admin.pages import Pages, Routes
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.wire.request import RequestReader

_LOOPBACK_NAMES: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))
GRACE: Final = 1.0
"""Seconds that answers under way get when the servers close."""


class AdminListenError(Exception):
    """An admin address that could not be opened; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class _Site:
    """What one listener offers; `guarded` where it can change something."""

    routes: Routes
    guarded: bool


class AdminServers:
    """Both listeners, or one where the document gives both the same address."""

    def __init__(self, addresses: Admin, pages: Pages) -> None:
        self._addresses = addresses
        self._pages = pages
        self._listeners: list[asyncio.Server] = []
        self.connections: set[Connection] = set()
        """Those that are open."""
        self._all_gone = asyncio.Event()
        self.status = addresses.status
        """Actual address of the read-only pages; a configured port of 0 is the one the kernel chose."""
        self.control = addresses.control
        """Actual address of all pages."""

    def __repr__(self) -> str:
        return f"<AdminServers status={_text(self.status)} control={_text(self.control)} open={len(self.connections)}>"

    async def start(self) -> None:
        """Listen. Raises AdminListenError."""
        everything = _Site(self._pages.control_routes(), guarded=True)
        wanted = self._addresses
        self.control = await self._listen(wanted.control, everything, "control")
        if wanted.status == wanted.control:
            self.status = self.control
        else:
            self.status = await self._listen(wanted.status, _Site(self._pages.status_routes(), guarded=False), "status")

    async def close(self) -> None:
        """Stop listening and end connections; requests under way get a second."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._all_gone.clear()
        for connection in tuple(self.connections):
            connection.end()
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), GRACE)
        for connection in tuple(self.connections):
            connection.abort()

    async def _listen(self, address: Address, site: _Site, name: str) -> Address:
        loop = asyncio.get_running_loop()
        guard = ConnectionGuard(loop)
        reader = RequestReader(capture=frozenset(), upgrades="none", host=b"", show=SHOWN)

        def accept() -> Connection:
            connection = Connection(partial(_answer, site), reader, guard, self._forget)
            self.connections.add(connection)
            return connection

        try:
            listener = await loop.create_server(accept, sock=_bind(address))
        except OSError as error:
            await self.close()
            raise AdminListenError(
                f"$.admin.{name}: cannot listen on {_text(address)} ({error.strerror or error}); "
                "free the port or choose another one"
            ) from error
        self._listeners.append(listener)
        port = listener.sockets[0].getsockname()[1]
        get_logger().debug("admin listener open", name=name, address=f"{address.host}:{port}")
        return Address(host=address.host, port=port)

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._all_gone.set()


async def _answer(site: _Site, request: Request) -> Answer:
    """The page, or why not. HEAD is answered as GET, without the body."""
    if site.guarded and (why := _forged(request)) is not None:
        return text(403, why)
    methods = site.routes.get(request.path)
    if methods is None:
        return text(404, f"no such page; there are {', '.join(sorted(site.routes))}")
    page = methods.get("GET" if request.method == "HEAD" else request.method)
    if page is None:
        allowed = ", ".join(sorted(methods))
        return text(405, f"{request.path} takes {allowed}", {"Allow": allowed})
    try:
        return await page(request)
    except Exception as error:
        get_logger().error("admin page failed", path=request.path, exc_info=error)
        return text(500, "internal error, see the log")


def _forged(request: Request) -> str | None:
    """Why a request may come from a page in a browser; None when it does not."""
    host = request.host.lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in _LOOPBACK_NAMES:
        return "the Host header must name 127.0.0.1, [::1] or localhost"
    if request.method not in ("GET", "HEAD") and request.has_origin:
        return "requests with an Origin header, as browsers send them, are refused"
    return None


def _bind(address: Address) -> socket.socket:
    """A listening socket. Made here because uvloop would start four threads to look up the address, for good."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=128)


def _text(address: Address) -> str:
    return f"{address.host}:{address.port}"
