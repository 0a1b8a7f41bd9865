"""What all services share by HTTP: the middlewares, /healthz, and a process that starts and ends in good order."""

import asyncio
import signal
from typing import Final

from aiohttp import web

from nova_data.errors import ListenError
from nova_services.correlation import Handler, correlate
from nova_services.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, ServiceError
from nova_services.logs import get_logger, log_requests

SHUTDOWN_SECONDS: Final = 30.0
"""Longest wait for requests in flight after SIGTERM."""
_STATUSES: Final[dict[type[ServiceError], int]] = {
    InvalidError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
}
"""Of what services raise; what is away is answered by `backing.unavailable`."""


def application(*routes: web.AbstractRouteDef) -> web.Application:
    """A web application with these routes. The id is bound first, so that the request's line has it."""
    made = web.Application(middlewares=[correlate, log_requests, answered])
    made.add_routes([web.get("/healthz", _healthz), *routes])
    return made


@web.middleware
async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a service says no with, as an answer."""
    try:
        return await handler(request)
    except tuple(_STATUSES) as error:
        return web.json_response({"error": str(error)}, status=_STATUSES[type(error)])


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def serve(served: web.Application, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then stop accepting, finish what is in flight, and return.

    Port 0 takes a free one; the line `listening` says which. Raises ListenError where the port is taken.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ListenError(host, port, error) from error
        address = "{}:{}".format(*runner.addresses[0][:2])
        get_logger().info("listening", address=address)
        await ending.wait()
        get_logger().info("stopping")
    finally:
        await runner.cleanup()
    get_logger().info("stopped")
