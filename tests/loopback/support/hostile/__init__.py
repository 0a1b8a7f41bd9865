"""Cases for the differential test, and the words they are written in."""

from ..probe import OK

LAST = b"5\r\nabcde\r\n0\r\n\r\n"
"""A chunked body: abcde."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nX-App: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)

__all__ = ["CONTINUE", "LAST", "OK", "SWITCHING", "get", "post", "response"]


def get(
    *lines: str | bytes, method: str = "GET", target: str = "/", host: str = "app", body: bytes = b"",
    version: str = "1.1",
) -> bytes:  # fmt: skip
    """The bytes of a request with a Host."""
    fields = [line.encode("latin-1") if isinstance(line, str) else line for line in (f"Host: {host}", *lines)]
    return b"\r\n".join([f"{method} {target} HTTP/{version}".encode("latin-1"), *fields, b"", b""]) + body


def post(*lines: str | bytes, body: bytes = b"", version: str = "1.1") -> bytes:
    """The bytes of a POST; nothing says how long its body is but the lines given."""
    return get(*lines, method="POST", body=body, version=version)


def response(status: str, *lines: str, body: bytes = b"") -> bytes:
    """The bytes of the app's response; nothing says how long its body is but the lines given."""
    return "\r\n".join([f"HTTP/1.1 {status}", "X-App: 1", *lines, "", ""]).encode("latin-1") + body
