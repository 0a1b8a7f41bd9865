"""JSON log lines on standard output, one vocabulary for the operator's own and for its libraries'."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog

_SHARED: Final[list[Any]] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.format_exc_info,
]


def configure(level: str) -> None:
    """Send everything from `level` on to standard output. Kopf speaks up from one level higher: it tells each step."""
    number = logging.getLevelNamesMapping()[level.upper()]
    render = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*_SHARED, _rename, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _rename, render],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    if level != "debug":
        for name in ("kopf", "aiohttp.access", "asyncio"):
            logging.getLogger(name).setLevel(max(number, logging.WARNING))
        # One failed watch ends all of them, each with two tracebacks; `process` says it once, in a sentence.
        logging.getLogger("kopf._core.reactor").setLevel(logging.CRITICAL)


def _rename(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`message` is what other tools look for."""
    return {"time": line.pop("time"), "level": line.pop("level"), "message": line.pop("event"), **line}
