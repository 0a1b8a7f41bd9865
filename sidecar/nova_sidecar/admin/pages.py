"""What each admin page answers. Handlers only: who may reach which page is the server's business."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

import msgspec

from nova_api import names
from nova_sidecar.admin.cache import purge
from nova_sidecar.admin.exposition import Exposition
from nova_sidecar.admin.message import Answer, Request, document, json, text
from nova_sidecar.admin.pool_guard import take_report
from nova_sidecar.admin.view import View

Handler = Callable[[Request], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path, then by method."""

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
            "/cache/purge": {"POST": self.purge},
            "/config": {"GET": self.config},
            "/drain": {"POST": self.drain},
            names.POOL_GUARD_PATH: {"POST": self.pool_guard},
            "/stats": {"GET": self.stats},
        }

    async def healthz(self, _request: Request) -> Answer:
        """200 as long as the event loop turns."""
        return text(200, "ok")

    async def readyz(self, _request: Request) -> Answer:
        """200 when new traffic is wanted, else 503; the body says why."""
        why = self._view.unready()
        return text(200, "ready") if why is None else text(503, why)

    async def metrics(self, request: Request) -> Answer:
        """Metrics in the format that the scraper asks for."""
        return Answer(200, *await self._exposition.render(request.accept))

    async def status(self, _request: Request) -> Answer:
        """Configuration hash, phase, breakers: what the operator reads."""
        return document(self._view.status())

    async def stats(self, _request: Request) -> Answer:
        """State of the data path in detail."""
        return document(self._view.stats())

    async def config(self, _request: Request) -> Answer:
        """The document in force, byte for byte: its hash is the one that /status shows."""
        return json(self._view.reloader.document.text)

    async def pool_guard(self, request: Request) -> Answer:
        """The app reports how full its database pools are."""
        return take_report(self._view.proxy.pool_guard, request)

    async def purge(self, request: Request) -> Answer:
        """Make the cache forget a target, or what a pattern names."""
        return purge(self._view, request)

    async def drain(self, request: Request) -> Answer:
        """Begin to leave: 202 at once, or with ``?wait=true`` one line of JSON a second until it is over."""
        if "wait=true" not in request.query.split("&"):
            self._view.drain.begin()
            return document(self._view.drain.progress(), status=202)
        return Answer(200, self._progress(), _NDJSON)

    async def _progress(self) -> AsyncGenerator[bytes, None]:
        async for progress in self._view.drain.follow():
            yield msgspec.json.encode(progress) + b"\n"
