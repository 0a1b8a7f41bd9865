"""What became of some bytes, as one line of text: what the client saw, and what the app got.

    200 | POST / content-length: 5 <abcde>      answered by the app, which got this request
    400 close                                    refused; the app heard nothing, the connection was closed
    waits                                        nothing yet, and the connection stays open

A response of the app as it was sent is only its status; one that was changed shows its fields and content. Refusals of
a proxy's own are only their status, since their text is nobody's contract. Field names are in lower case and sorted.
"""

from collections.abc import Iterator, Sequence

SIGNED = "x-app"
"""Field of each response of the app, by which the proxies' own are told apart."""
_OWN = {"x-nova-deadline-ms", "x-correlation-id"}
_PER_RESPONSE = {SIGNED, "date", "server", "x-correlation-id", "keep-alive"}
_OF_THE_APP = "(the app's address)"
_USUAL = {"content-length: 2"}

Fields = list[tuple[str, str]]


class _Short(Exception):  # noqa: N818 - it says what the bytes are
    """The bytes end before the message does; what there is of its content."""

    def __init__(self, content: bytes) -> None:
        self.content = content


def requests(data: bytes, *, ended: bool) -> list[str]:
    """The requests in what an app received. `...` marks one that is not whole yet, `cut` one that never will be."""
    return list(_requests(data, ended=ended))


def _requests(data: bytes, *, ended: bool) -> Iterator[str]:
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        start, fields = _head(head)
        start = _text(start.removesuffix(" HTTP/1.1").encode("latin-1"))
        shown = " ".join([start, *_fields(fields, "request")])
        if not found:
            yield f"{shown} (head) {'cut' if ended else '...'}"
            return
        if dict(fields).get("upgrade"):
            yield shown + (f" raw {_text(rest)}" if rest else "")
            return
        try:
            content, data = _body(fields, rest, otherwise=0)
        except _Short as short:
            yield f"{shown}{_shown(short.content)} {'cut' if ended else '...'}"
            return
        yield shown + _shown(content)


def whole(data: bytes) -> int:
    """How many whole requests, with their content, are in what an app received."""
    return sum(not line.endswith("...") for line in _requests(data, ended=False))


def responses(data: bytes, methods: Sequence[str], *, ended: bool) -> list[str]:
    """The responses in what a client received; `methods` are those of its requests."""
    shown: list[str] = []
    asked = iter(methods)
    method = next(asked, "GET")
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        start, fields = _head(head)
        status = start.split(" ")[1] if start.startswith("HTTP/1.") else f"no response {_text(data)}"
        if not found:
            return [*shown, f"{status} cut"]
        if status.startswith("1"):
            data = rest
            details = _fields(fields, "response")
            shown.append(" ".join([status, *details]))
            if status == "101":
                return shown if not data else [*shown, f"raw {_text(data)}"]
            continue
        bodiless = method == "HEAD" or status in {"204", "304"}
        try:
            content, data = (b"", rest) if bodiless else _body(fields, rest, otherwise=None if ended else -1)
        except _Short as short:
            return [*shown, " ".join([status, *_fields(fields, "response")]) + _shown(short.content) + " cut"]
        shown.append(_response(status, fields, content, method))
        method = next(asked, "GET")
    return shown


def _response(status: str, fields: Fields, content: bytes, method: str) -> str:
    if SIGNED not in dict(fields):
        return status
    details = _fields(fields, "response")
    usual = set(details) == _USUAL and content == (b"" if method == "HEAD" else b"ok")
    return status if usual else " ".join([status, *details]) + _shown(content)


def _head(head: bytes) -> tuple[str, Fields]:
    start, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return start, [(name.lower(), value.strip(" \t")) for name, _, value in pairs]


def _fields(fields: Fields, kind: str) -> list[str]:
    """All but what each proxy adds to every message of this test."""
    kept = []
    for name, written in fields:
        value = _OF_THE_APP if name == "host" and written.startswith("127.0.0.1:") else written
        if kind == "request":
            hidden = name in _OWN or (name, value) in {("host", "app"), ("x-forwarded-for", "127.0.0.1")}
        else:
            hidden = name in _PER_RESPONSE or (name, value.lower()) in {
                ("connection", "close"), ("connection", "keep-alive")
            }  # fmt: skip
        if not hidden and not name.startswith("sec-websocket-"):
            kept.append(f"{name}: {_text(value.encode('latin-1'))}".strip())
    return sorted(kept) if len(kept) < 50 else [f"{len(kept)} fields"]


def _body(fields: Fields, data: bytes, *, otherwise: int | None) -> tuple[bytes, bytes]:
    """Content and what follows. `otherwise`: the length where no field tells; None: until the end, -1: not yet."""
    named = dict(fields)
    if "chunked" in named.get("transfer-encoding", "").lower():
        return _chunks(data)
    length = int(named["content-length"]) if named.get("content-length", "").isdigit() else otherwise
    if length is None:
        return data, b""
    if length < 0 or len(data) < length:
        raise _Short(data)
    return data[:length], data[length:]


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """Content, trailers behind it, and what follows."""
    content = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            raise _Short(content)
        size = int(line.split(b";")[0], 16)
        if not size:
            break
        if len(rest) < size + 2:
            raise _Short(content + rest[:size])
        content += rest[:size]
        data = rest[size + 2 :]
    if rest.startswith(b"\r\n"):
        return content, rest[2:]
    trailers, found, after = rest.partition(b"\r\n\r\n")
    if not found:
        raise _Short(content)
    return content + b"+" + trailers, after


def _shown(content: bytes) -> str:
    return f" <{_text(content)}>" if content else ""


def _text(data: bytes) -> str:
    text = data.decode("latin-1").encode("unicode_escape").decode()
    return text if len(text) <= 60 else f"{text[:24]}...{len(data)} bytes"
