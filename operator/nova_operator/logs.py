"""JSON log lines on standard output for the operator and its libraries, in the vocabulary of docs/logs.md.

What the API server says may repeat whatever somebody wrote into an object; each line is brought into its clean form
(`nova_api.hygiene`) before it is written.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from nova_api.hygiene import clean_event, error_fields


def configure(level: str) -> None:
    """Send everything from `level` on to standard output. Kopf speaks up from one level higher: it tells each step."""
    number = logging.getLevelNamesMapping()[level.upper()]
    render = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*_SHARED, _finish, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, structlog.stdlib.add_logger_name, *_SHARED],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _finish, render],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    if level != "debug":
        for name in ("kopf", "aiohttp.access", "asyncio"):
            logging.getLogger(name).setLevel(max(number, logging.WARNING))
        # One failed watch ends all of them, each with two tracebacks; `process` says it once, in a sentence.
        logging.getLogger("kopf._core.reactor").setLevel(logging.CRITICAL)


def _foreign(_logger: object, _method: str, line: EventDict) -> EventDict:
    """What happened is a fixed phrase, which the message of a library is not."""
    line["message"] = line["event"]
    line["event"] = "library message"
    return line


def _describe(_logger: object, _method: str, line: EventDict) -> EventDict:
    """An exception as fields."""
    given = line.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        line.update(error_fields(error))
    return line


def _finish(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Clean; when, how bad and what first, as in every line of Nova."""
    return clean_event({"time": line.pop("time"), "level": line.pop("level"), "event": line.pop("event"), **line})


_SHARED: Final[list[Any]] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    _describe,
]
