"""A log line for each request, in the form that `nova_data.logs` gives all lines of the process."""

import time
from typing import Any, Final

from aiohttp import web

from nova_api.hygiene import clean_method
from nova_data.logs import configure, get_logger
from nova_services.correlation import Handler

_QUIET: Final = frozenset(("/healthz",))
__all__ = ("configure", "get_logger", "log_requests")


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line per request, without its query string; probes would only drown the rest."""
    start = time.monotonic()
    fields: dict[str, Any] = {"method": clean_method(request.method), "path": request.path}
    try:
        response = await handler(request)
    except web.HTTPException as answer:
        _log(fields, answer.status, start)
        raise
    except Exception as error:
        get_logger().error("request failed", **fields, status=500, exc_info=error)
        return web.json_response({"error": "internal error"}, status=500)
    _log(fields, response.status, start)
    return response


def _log(fields: dict[str, Any], status: int, start: float) -> None:
    if fields["path"] not in _QUIET:
        duration = round((time.monotonic() - start) * 1000, 1)
        get_logger().info("request", **fields, status=status, duration_ms=duration)
