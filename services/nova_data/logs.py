"""Log lines of the tools that go on running: one JSON object per line on standard output, with the field names of
docs/logs.md, and nothing in them that gives somebody away (`nova_api.hygiene`)."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from nova_api.hygiene import clean_event, error_fields

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_FIRST: Final = ("time", "level", "event")


def configure(service: str) -> None:
    """Write every line of this process as JSON, with its name in it."""
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
    error = event.pop("exc_info", None)
    described = error_fields(error) if isinstance(error, BaseException) else {}
    present = {name: value for name, value in event.items() if value is not None}
    return _encode(clean_event({**dict.fromkeys(_FIRST), "service": service, **present, **described}))


class _Libraries(logging.Handler):
    """Takes over the lines of libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        error = record.exc_info[1] if record.exc_info else None
        write = get_logger().error if record.levelno >= logging.ERROR else get_logger().warning
        write("library message", logger=record.name, message=record.getMessage(), exc_info=error)
