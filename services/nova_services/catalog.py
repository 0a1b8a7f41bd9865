"""The catalog: a list of items behind a worker of limited capacity, with switches for faults.

GET  /items     the items, which everybody may keep for a minute; takes one slot of the worker
GET  /answered  how often the items were asked for, whatever came of it
POST /faults    switch a fault on or off, see `faults.Fault`
GET  /healthz   200 while the process serves
"""

import argparse
import os
from random import Random
from typing import Final

from aiohttp import web

from nova_services import faults, options
from nova_services.faults import Fault
from nova_services.logs import get_logger
from nova_services.web import application, serve
from nova_services.worker import Worker

ITEMS: Final = (
    {"id": "tea", "name": "Green tea", "price": "4.20"},
    {"id": "cup", "name": "Porcelain cup", "price": "11.00"},
    {"id": "pot", "name": "Cast iron pot", "price": "48.50"},
)


_SHARED: Final = {"cache-control": "public, max-age=60"}
"""Caches may keep it, and give it to others (RFC 9111 section 5.2.2)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    whole = options.positive
    parser.add_argument("--slots", type=whole, default=8, help="requests worked on at once (default %(default)s)")
    parser.add_argument(
        "--service-time-ms", type=whole, default=20, help="time each takes, milliseconds (default %(default)s)"
    )


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    worker = Worker(slots=given.slots, service_time=given.service_time_ms / 1000)
    served = Catalog(worker, Random()).application()  # noqa: S311 - chooses which requests fail in the demo
    await serve(served, host=given.host, port=given.port)


class Catalog:
    """The catalog's state: its worker and the fault in force."""

    def __init__(self, worker: Worker, random: Random) -> None:
        self.fault = Fault()
        self.answered = 0
        self._worker = worker
        self._random = random

    def application(self) -> web.Application:
        """The web application."""
        return application(
            web.get("/items", self._items),
            web.get("/answered", self._say_answered),
            web.post("/faults", self._set_fault),
        )

    async def _items(self, _request: web.Request) -> web.Response:
        self.answered += 1
        if self.fault.strikes(self._random):
            return web.json_response({"error": "the catalog's database does not answer"}, status=500)
        await self._worker.work(self.fault.delay)
        return web.json_response({"items": ITEMS, "servedBy": os.uname().nodename}, headers=_SHARED)

    async def _say_answered(self, _request: web.Request) -> web.Response:
        return web.json_response({"answered": self.answered})

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            self.fault = faults.decode(await request.read())
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        get_logger().warning("fault switched", mode=self.fault.mode)
        return web.json_response({"mode": self.fault.mode})
