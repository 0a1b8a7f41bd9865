"""Log lines: one JSON object per line on standard output, with the field names of docs/logs.md.

Whatever a client sends or a library says, they have the clean form that Nova's own lines have (`nova_api.hygiene`).
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final, cast

import msgspec
import structlog
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from nova_api.hygiene import clean_event, clean_method, error_fields
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
            lambda _logger, _method, event: _render(service, event),
        ],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    root = logging.getLogger()
    root.handlers[:] = [_Libraries()]
    root.setLevel(logging.WARNING)


def get_logger() -> FilteringBoundLogger:
    """The logger of the process."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _render(service: str, event: MutableMapping[str, Any]) -> bytes:
    """The line, without its end."""
    error = event.pop("exc_info", None)
    described = error_fields(error) if isinstance(error, BaseException) else {}
    return _encode(clean_event({**dict.fromkeys(_FIRST), "service": service, **event, **described}))


class _Libraries(logging.Handler):
    """Takes over the lines of libraries, aiohttp's and asyncio's above all."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        error = record.exc_info[1] if record.exc_info else None
        write = get_logger().error if record.levelno >= logging.ERROR else get_logger().warning
        write("library message", logger=record.name, message=record.getMessage(), exc_info=error)


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
