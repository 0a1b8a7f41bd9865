"""HTTP/1.1 messages as the tests read them: a strict parser of its own, so that no shared parser hides a fault.

It knows RFC 9112 section 6 (how long a body is) and keeps every field line as it arrived: order, case, duplicates.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Source(Protocol):
    """Bytes in order; each call waits, bounded, for what it needs."""

    def read_exactly(self, count: int) -> bytes: ...
    def read_until(self, marker: bytes) -> bytes: ...
    def read_to_end(self) -> bytes: ...


@dataclass
class Message:
    """A request or a response, complete with body and trailers."""

    start: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    chunks: int = 0

    @property
    def status(self) -> int:
        """Status code of a response."""
        version, code = self.start.split(" ")[:2]
        assert version.startswith("HTTP/1."), self.start
        return int(code)

    @property
    def method(self) -> str:
        """Method of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """Request target exactly as it arrived."""
        return self.start.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Values of every line of that name, in order."""
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the only line of that name; two lines are a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def has(self, name: str, token: str) -> bool:
        """Whether the comma-separated lists of that name contain the token."""
        return token in [part.strip().lower() for value in self.all(name) for part in value.split(",")]


def read_request(source: Source) -> Message:
    """Read one request with its body (RFC 9112 section 6.3, rules 3 to 7)."""
    message = read_head(source)
    if message.has("transfer-encoding", "chunked"):
        _read_chunks(source, message)
    elif (length := message.get("content-length")) is not None:
        message.body = source.read_exactly(int(length))
    return message


def read_response(source: Source, *, to: str = "GET", interim: bool = False) -> Message:
    """Read one response to a request of the method `to`; 1xx responses are skipped unless `interim` asks for one."""
    message = read_head(source)
    while message.status // 100 == 1 and message.status != 101 and not interim:
        message = read_head(source)
    if to == "HEAD" or message.status in {204, 304} or message.status // 100 == 1:
        return message
    if message.has("transfer-encoding", "chunked"):
        assert message.get("content-length") is None, "both Transfer-Encoding and Content-Length"
        _read_chunks(source, message)
    elif (length := message.get("content-length")) is not None:
        message.body = source.read_exactly(int(length))
    else:
        message.body = source.read_to_end()
    return message


def read_head(source: Source) -> Message:
    """Read a start line and the field lines, up to and including the empty line."""
    text = source.read_until(b"\r\n\r\n")
    start, *lines = text[:-4].decode("latin-1").split("\r\n")
    return Message(start, _fields(lines))


def _read_chunks(source: Source, message: Message) -> None:
    parts = []
    while size := int(source.read_until(b"\r\n")[:-2].split(b";")[0], 16):
        parts.append(source.read_exactly(size))
        assert source.read_exactly(2) == b"\r\n", "chunk data is not followed by CRLF"
        message.chunks += 1
    message.body = b"".join(parts)
    while line := source.read_until(b"\r\n")[:-2]:
        message.trailers.extend(_fields([line.decode("latin-1")]))


def _fields(lines: Iterable[str]) -> list[tuple[str, str]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, f"not a field line: {line!r}"
        assert name == name.strip(), f"space around a field name: {line!r}"
        assert name, f"not a field line: {line!r}"
        assert not set(line) & set("\r\n\0"), f"bare control character: {line!r}"
        fields.append((name, value.strip(" \t")))
    return fields


def request(
    method: str = "GET", target: str = "/", *lines: str, body: bytes | None = None, host: str | None = "app"
) -> bytes:
    """Bytes of a plain request; `body` adds Content-Length."""
    fields = [f"Host: {host}"] if host is not None else []
    fields += lines
    if body is not None:
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode("latin-1") + (body or b"")


def response(status: str = "200 OK", *lines: str, body: bytes | None = b"") -> bytes:
    """Bytes of a plain response; a body of None adds no Content-Length."""
    fields = [*lines, *([f"Content-Length: {len(body)}"] if body is not None else [])]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1") + (body or b"")


def chunked(*parts: bytes, trailers: Iterable[str] = ()) -> bytes:
    """A chunked body of these chunks (RFC 9112 section 7.1)."""
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return data + b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode("latin-1") + b"\r\n"
