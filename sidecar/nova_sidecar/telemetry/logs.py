"""Log lines: one JSON object per line on one stream, with one vocabulary.

`VOCABULARY` lists every field with its meaning; a test holds each log call of the sidecar against it, and docs/logs.md,
where the operator's and the services' fields stand too, against both. A line is escaped
as JSON, so nothing that a client sends can end it or forge another one. It never carries query strings, header values,
bodies, credentials or personal data; `nova_api.hygiene`, which every line goes through, enforces it.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Literal, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from nova_api.hygiene import clean_event, error_fields
from nova_sidecar.telemetry.sink import LineSink
from nova_sidecar.telemetry.stamp import Stamper

LogLevel = Literal["debug", "info", "warning", "error"]
_SEVERITY: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

VOCABULARY: Final[Mapping[str, str]] = {
    # on every line
    "time": "when, RFC 3339, UTC, milliseconds",
    "level": "debug, info, warning, error or critical",
    "event": "what happened, a fixed phrase; everything variable is in a field of its own",
    "service": "name of the NovaService",
    "namespace": "its namespace",
    # of an exchange: the access log (event `exchange`)
    "direction": "inbound (to the app) or outbound (from the app to an upstream)",
    "name": "name of the port or of the upstream",
    "method": "method of the request",
    "path": "path of the request without its query string",
    "status": "status sent downstream; 0 where the connection ended before a response head",
    "reason": "why something was refused or broken off; empty where an answer was passed on whole",
    "duration_ms": "whole exchange, milliseconds",
    "upstream_ms": "last attempt until the head of its response, milliseconds",
    "attempts": "attempts made",
    "bytes_in": "request body, bytes",
    "bytes_out": "response body, bytes",
    "correlation_id": "id of the request across services",
    "downstream": "IP address of the client",
    "upstream": "address of the last attempt, ip:port",
    "grpc_status": "code of a gRPC call, -1 where it got none",
    "affinity": "what session affinity made of a request; empty where it was refused before",
    # of the sidecar's own life
    "version": "version of the sidecar",
    "build": "compiled when the data path is machine code, as in the image; pure from the sources",
    "address": "address of a listener, of a name server or of an endpoint",
    "file": "file that the configuration is read from",
    "hash": "hash of the configuration's bytes",
    "generation": "how many configurations ran in this process, the present one included",
    "field": "field of the configuration, as a path from $",
    "rule": "what that field must be",
    "phase": "serving, leaving, closing or drained",
    "issuer": "issuer of tokens whose keys it is about",
    "signal": "name of the signal received",
    "in_flight": "exchanges now",
    "seconds": "how long something took or will take",
    "from_state": "state of a breaker before: closed, open or half_open",
    "to_state": "state of a breaker after",
    "cause": "why a breaker moved: consecutive, failure_rate, slow_rate, probe or configuration",
    "error": "what went wrong, in words",
    "stack": "where it went wrong, frame by frame, innermost last",
    "logger": "foreign library whose line this is (event `library message`)",
    "message": "what that library said",
}


class Logs:
    """The process's logging: where lines go, from which level on, and what each of them carries."""

    def __init__(self, sink: LineSink, *, service: str, namespace: str, level: LogLevel = "info") -> None:
        self._sink = sink
        self._stamper = Stamper()
        self._context = {"service": service, "namespace": namespace}
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._threshold = _SEVERITY[level]

    def set_level(self, level: LogLevel) -> None:
        """Log from this level on; takes effect at once."""
        self._threshold = _SEVERITY[level]

    def install(self) -> None:
        """Make structlog, the standard library's logging and uncaught exceptions write through this."""
        structlog.configure(
            processors=[self._render],
            logger_factory=lambda *_: _SinkLogger(self._sink),
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            cache_logger_on_first_use=False,
        )
        root = logging.getLogger()
        root.handlers[:] = [_StandardHandler()]
        root.setLevel(logging.WARNING)
        sys.excepthook = _log_uncaught

    def _render(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
        if _SEVERITY[level] < self._threshold:
            raise structlog.DropEvent
        error = event.pop("exc_info", None)
        line = {
            "time": self._stamper.stamp(time.time()),
            "level": level,
            "event": event.pop("event"),
            **self._context,
            **event,
            **(error_fields(error) if isinstance(error, BaseException) else {}),
        }
        return self._encode(clean_event(line)) + b"\n"


class _SinkLogger:
    """What structlog calls with the rendered line."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink

    def msg(self, line: bytes) -> None:
        self._sink.write(line)

    debug = info = warning = error = critical = msg


class _StandardHandler(logging.Handler):
    """Takes over the lines of foreign libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        level = record.levelname.lower()
        write = getattr(get_logger(), level if level in _SEVERITY else "warning")
        write("library message", logger=record.name, message=record.getMessage(), exc_info=error)


def get_logger() -> FilteringBoundLogger:
    """The logger of the process; every field must be in `VOCABULARY`."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def log_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log exceptions that nobody awaits, one line each, instead of asyncio's own text."""

    def handler(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        get_logger().error(
            "unhandled exception", error=str(context.get("message", "")), exc_info=context.get("exception")
        )

    loop.set_exception_handler(handler)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger().critical("crash", exc_info=error)
