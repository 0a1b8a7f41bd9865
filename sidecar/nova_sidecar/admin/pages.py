"""What each admin page answers. Handlers only: who may reach which page is the server's business."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from nova_sidecar.admin.exposition import Exposition
from nova_sidecar.admin.view import View

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path, then by method."""

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_NDJSON: Final = "application/x-ndjson"


class Pages:
    """The pages of one sidecar."""

    def __init__(self, view: View, exposition: Exposition) -> None:
        self._view = view
        self._exposition = exposition

    def status_routes(self) -> Routes:
        """What may be read from the cluster."""
        return {
            "/healthz": {"GET": self.healthz},
            "/readyz": {"GET": self.readyz},
            "/metrics": {"GET": self.metrics},
            "/status": {"GET": self.status},
        }

    def control_routes(self) -> Routes:
        """What only this machine may do: everything."""
        return {
            **self.status_routes(),
            "/config": {"GET": self.config},
            "/drain": {"POST": self.drain},
            "/stats": {"GET": self.stats},
        }

    async def healthz(self, _request: web.BaseRequest) -> web.Response:
        """200 as long as the event loop turns."""
        return text(200, "ok")

    async def readyz(self, _request: web.BaseRequest) -> web.Response:
        """200 when new traffic is wanted, else 503; the body says why."""
        why = self._view.unready()
        return text(200, "ready") if why is None else text(503, why)

    async def metrics(self, request: web.BaseRequest) -> web.Response:
        """Metrics in the format that the scraper asks for."""
        body, content_type = await self._exposition.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})

    async def status(self, _request: web.BaseRequest) -> web.Response:
        """Configuration hash, phase, breakers: what the operator reads."""
        return document(self._view.status())

    async def stats(self, _request: web.BaseRequest) -> web.Response:
        """State of the data path in detail."""
        return document(self._view.stats())

    async def config(self, _request: web.BaseRequest) -> web.Response:
        """The document in force, byte for byte: its hash is the one that /status shows."""
        return json(self._view.reloader.document.text)

    async def drain(self, request: web.BaseRequest) -> web.StreamResponse:
        """Begin to leave: 202 at once, or with ``?wait=true`` one line of JSON a second until it is over."""
        if request.query.get("wait") != "true":
            self._view.drain.begin()
            return document(self._view.drain.progress(), status=202)
        response = web.StreamResponse(headers={**_NO_STORE, "Content-Type": _NDJSON})
        with suppress(ConnectionError):  # whoever asked has gone; the drain goes on
            await response.prepare(request)
            async for progress in self._view.drain.follow():
                await response.write(msgspec.json.encode(progress) + b"\n")
        return response


def text(status: int, body: str, headers: Mapping[str, str] = {}) -> web.Response:
    """A plain answer of one line."""
    return web.Response(status=status, text=body + "\n", headers={**_NO_STORE, **headers})


def document(value: object, status: int = 200) -> web.Response:
    """A value as JSON."""
    return json(msgspec.json.encode(value), status)


def json(body: bytes, status: int = 200) -> web.Response:
    """JSON that is encoded already."""
    return web.Response(status=status, body=body, headers={**_NO_STORE, "Content-Type": "application/json"})
