"""Log lines: one JSON object per line on standard output, with the field names that the sidecar uses too."""

import logging
import sys
import time
from typing import Any, Final, cast

import msgspec
import structlog
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from nova_services.correlation import Handler

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_FIRST: Final = ("time", "level", "event")
_QUIET: Final = frozenset(("/healthz",))


def configure(service: str) -> None:
    """Write every line of this process as JSON, with the service's name in it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            lambda _logger, _method, event: _encode({**dict.fromkeys(_FIRST), "service": service, **event}),
        ],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def get_logger() -> FilteringBoundLogger:
    """The logger of the process."""
    return cast("FilteringBoundLogger", structlog.get_logger())


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line per request, without its query string; probes would only drown the rest."""
    start = time.monotonic()
    fields: dict[str, Any] = {"method": request.method, "path": request.path}
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
