"""What the admin pages are asked and what they answer, apart from how it travels."""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgspec

from nova_sidecar.wire.request import RequestHead

ACCEPT: Final = b"accept"
ORIGIN: Final = b"origin"
SHOWN: Final = frozenset((ACCEPT, ORIGIN))
"""Fields that pages look at, beside Host."""

_COMMON: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a page, or the rule for who may read it, looks at."""

    method: str
    path: str
    """Without the query string, not decoded: no page has a name that needs it."""
    query: str
    host: str
    """The Host field; that of an absolute-form target in its place; empty where HTTP/1.0 has none."""
    accept: str
    has_origin: bool
    """Whether there is an Origin field, as browsers send it."""


def request_of(head: RequestHead) -> Request:
    """What the wire read, in the words of the pages."""
    line, *fields = head.forward.split(b"\r\n")
    host = next((field for field in fields if field[:5].lower() == b"host:"), b"")  # the wire made sure of one at most
    return Request(
        method=head.verb,
        path=head.path,
        query=line.split(b" ")[1].partition(b"?")[2].decode("ascii"),
        host=host[5:].strip().decode("latin-1"),
        accept=head.captured.get(ACCEPT, b"").decode("latin-1"),
        has_origin=ORIGIN in head.captured,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: all of its body at once, or piece by piece as it comes about."""

    status: int
    body: bytes | AsyncGenerator[bytes, None]
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def text(status: int, line: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A plain answer of one line."""
    return Answer(status, line.encode() + b"\n", "text/plain; charset=utf-8", headers or {})


def document(value: object, status: int = 200) -> Answer:
    """A value as JSON."""
    return json(msgspec.json.encode(value), status)


def json(body: bytes, status: int = 200) -> Answer:
    """JSON that is encoded already."""
    return Answer(status, body, "application/json")


def response_head(answer: Answer, *, keep: bool, http10: bool) -> bytes:
    """Status line and fields, with the empty line. Chunked where the length is not known and the client can read it."""
    fields = {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()), **_COMMON, **answer.headers}
    fields["Content-Type"] = answer.content_type
    if isinstance(answer.body, bytes):
        fields["Content-Length"] = str(len(answer.body))
    elif not http10:
        fields["Transfer-Encoding"] = "chunked"
    if not keep:
        fields["Connection"] = "close"
    elif http10:
        fields["Connection"] = "keep-alive"
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
