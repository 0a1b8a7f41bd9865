"""The id and the trace that an event belongs to: taken over from its headers, in every log line, handed on to calls.

While a message is handled its correlation id stands in structlog's context, where log lines find it, and the trace in
one of this module; the outbox takes both over, and so do calls by HTTP (`outgoing`). The trace is passed on as it came,
which W3C Trace Context allows to who adds no span of its own (section 4.3, "mutating the traceparent field").
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import structlog

from nova_api.hygiene import tells
from nova_data.headers import TRACEPARENT

HTTP_HEADER: Final = "x-correlation-id"
"""What a call by HTTP names the correlation id."""
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_trace: ContextVar[str | None] = ContextVar("nova_traceparent", default=None)


def adopted(value: str | None) -> str:
    """The id where it can do no harm in a header or a log line and gives nobody away, else a new one."""
    return value if value is not None and _SAFE_ID.fullmatch(value) and not tells(value) else str(uuid.uuid4())


def traced(value: str | None) -> str | None:
    """The trace context, if it is one."""
    return value if value is not None and _TRACE.fullmatch(value) else None


def correlation_id() -> str | None:
    """Of the message in hand."""
    current = structlog.contextvars.get_contextvars().get("correlation_id")
    return current if isinstance(current, str) else None


def traceparent() -> str | None:
    """Of the message in hand."""
    return _trace.get()


def outgoing() -> dict[str, str]:
    """Headers for a call by HTTP that is made on behalf of the message in hand."""
    found = {HTTP_HEADER: correlation_id(), TRACEPARENT: traceparent()}
    return {name: value for name, value in found.items() if value}


@contextmanager
def bound(correlation: str, trace: str | None) -> Iterator[None]:
    """What is called in the block belongs to these."""
    token = _trace.set(trace)
    try:
        with structlog.contextvars.bound_contextvars(correlation_id=correlation):
            yield
    finally:
        _trace.reset(token)
