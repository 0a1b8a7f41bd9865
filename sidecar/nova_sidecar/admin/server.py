"""The admin listeners: who may ask, what there is, and in which bounds.

A page in a browser on a developer's machine can send requests to loopback addresses (cross-site request forgery), and
a name that suddenly resolves to 127.0.0.1 lets it read the answers (DNS rebinding). So the control address answers
only to a Host header that names loopback, and POST is refused with an Origin header, which browsers always send.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from nova_api.proxy import Address, Admin
from nova_sidecar.admin import guard
from nova_sidecar.admin.pages import Pages, Routes, text
from nova_sidecar.telemetry.logs import get_logger

_LOOPBACK_NAMES: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))
_SILENT: Final = logging.Logger("nova.admin", logging.CRITICAL + 1)  # malformed requests would fill the log
_BOUNDS: Final[dict[str, Any]] = {
    "access_log": None,
    "logger": _SILENT,
    "keepalive_timeout": guard.KEEP_ALIVE,
    "lingering_time": 1.0,
    "max_field_size": 8190,
    "max_headers": 64,
    "max_line_size": 2048,
    "read_bufsize": 4096,
}


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
        self._open: list[tuple[asyncio.Server, web.Server]] = []
        self.status = addresses.status
        """Actual address of the read-only pages; a configured port of 0 is the one the kernel chose."""
        self.control = addresses.control
        """Actual address of all pages."""

    def __repr__(self) -> str:
        return f"<AdminServers status={_text(self.status)} control={_text(self.control)} open={len(self._open)}>"

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
        for listener, _ in self._open:
            listener.close()
        for _, server in self._open:
            await server.shutdown(timeout=1.0)
        self._open.clear()

    async def _listen(self, address: Address, site: _Site, name: str) -> Address:
        loop = asyncio.get_running_loop()
        connections = guard.ConnectionGuard(loop)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            connections.begin(request.transport)
            transport = request.transport
            try:
                return await _answer(site, request)
            except Exception as error:  # of ours; aiohttp itself logs nothing here
                get_logger().error("admin page failed", path=request.path, exc_info=error)
                return text(500, "internal error, see the log")
            finally:
                connections.end(transport)

        server = web.Server(handle, **_BOUNDS)
        try:
            listener = await loop.create_server(connections.guard(server), sock=_bind(address))
        except OSError as error:
            await self.close()
            raise AdminListenError(
                f"$.admin.{name}: cannot listen on {_text(address)} ({error.strerror or error}); "
                "free the port or choose another one"
            ) from error
        self._open.append((listener, server))
        port = listener.sockets[0].getsockname()[1]
        get_logger().debug("admin listener open", name=name, address=f"{address.host}:{port}")
        return Address(host=address.host, port=port)


async def _answer(site: _Site, request: web.BaseRequest) -> web.StreamResponse:
    """The page, or why not. HEAD is answered as GET; aiohttp leaves the body out."""
    if site.guarded and (why := _forged(request)) is not None:
        return text(403, why)
    methods = site.routes.get(request.path)
    if methods is None:
        return text(404, f"no such page; there are {', '.join(sorted(site.routes))}")
    page = methods.get("GET" if request.method == "HEAD" else request.method)
    if page is None:
        allowed = ", ".join(sorted(methods))
        return text(405, f"{request.path} takes {allowed}", {"Allow": allowed})
    return await page(request)


def _forged(request: web.BaseRequest) -> str | None:
    """Why a request may come from a page in a browser; None when it does not."""
    host = request.headers.get("Host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in _LOOPBACK_NAMES:
        return "the Host header must name 127.0.0.1, [::1] or localhost"
    if request.method not in ("GET", "HEAD") and "Origin" in request.headers:
        return "requests with an Origin header, as browsers send them, are refused"
    return None


def _bind(address: Address) -> socket.socket:
    """A listening socket. Made here because uvloop would start four threads to look up the address, for good."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=128)


def _text(address: Address) -> str:
    return f"{address.host}:{address.port}"
