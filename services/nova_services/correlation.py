"""One id per request: taken over from the caller or made here, logged, passed on and echoed. The trace that the request
belongs to goes with it, to calls and to the outbox."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from nova_data.correlation import HTTP_HEADER, adopted, bound, traced
from nova_data.headers import TRACEPARENT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Bind both to everything the handler does, and echo the id."""
    identity = adopted(request.headers.get(HTTP_HEADER))
    with bound(identity, traced(request.headers.get(TRACEPARENT))):
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            answer.headers[HTTP_HEADER] = identity
            raise
    response.headers[HTTP_HEADER] = identity
    return response
