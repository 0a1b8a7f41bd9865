"""One id per request: taken over from the caller or made here, logged, passed on and echoed."""

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from nova_data.correlation import HTTP_HEADER, adopted

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Bind the id to everything the handler logs, and echo it."""
    identity = adopted(request.headers.get(HTTP_HEADER))
    with structlog.contextvars.bound_contextvars(correlation_id=identity):
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            answer.headers[HTTP_HEADER] = identity
            raise
    response.headers[HTTP_HEADER] = identity
    return response
