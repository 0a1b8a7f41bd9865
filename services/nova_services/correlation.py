"""One id per request: taken over from the caller or made here, logged, passed on and echoed."""

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from nova_api.hygiene import tells

HEADER: Final = "x-correlation-id"
_SAFE: Final = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
_KEY: Final = "correlation_id"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def adopt(value: str | None) -> str:
    """The caller's id where it can do no harm in a header or a log line and gives nobody away, else a new one."""
    return value if value is not None and _SAFE.fullmatch(value) and not tells(value) else str(uuid.uuid4())


def outgoing() -> dict[str, str]:
    """Headers for a call made on behalf of the request in hand."""
    current = structlog.contextvars.get_contextvars().get(_KEY)
    return {HEADER: current} if current else {}


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Bind the id to everything the handler logs, and echo it."""
    identity = adopt(request.headers.get(HEADER))
    with structlog.contextvars.bound_contextvars(**{_KEY: identity}):
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            answer.headers[HEADER] = identity
            raise
    response.headers[HEADER] = identity
    return response
