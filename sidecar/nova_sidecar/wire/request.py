"""Requests: from the bytes of a head to what the pipeline needs and the bytes that go upstream.

Absolute-form targets are accepted and turned into origin-form with the Host they name (RFC 9112 section 3.2.2), so that
target and Host can never disagree. CONNECT is refused: this is not a tunnel. The request line goes on as HTTP/1.1.
"""

from collections.abc import Callable
from typing import Final, Literal

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import ATTEMPT, IDEMPOTENT, KEY, is_repetition
from nova_sidecar.wire.fields import (
    CHUNKED,
    HOP_BY_HOP,
    ORDINARY_OPTIONS,
    FieldTable,
    believed,
    connection_options,
    content_length,
    require_chunked,
    tokens,
    without,
)
from nova_sidecar.wire.grammar import (
    ABSOLUTE,
    AUTHORITY,
    MAX_HEAD,
    MAX_TARGET,
    REQUEST_LINE,
    Malformed,
    explain_request,
)
from nova_sidecar.wire.memo import Memo

Upgrades = Literal["none", "websocket", "any"]

FORWARDED_FOR: Final = b"x-forwarded-for"

_LINES: Final = 256
_LONGEST_LINE: Final = 512
"""Request lines that are remembered, and bytes of the longest one."""

_NOTED: Final = frozenset((b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"))
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_HOST: Final = frozenset((b"host",))
_EXPECT: Final = frozenset((b"expect",))


class RequestLine:
    """What a request line says; heads with the same line share it. Never changed."""

    __slots__ = ("authority", "forward", "http10", "idempotent", "is_head", "method", "path", "verb")

    def __init__(
        self, method: bytes, target: bytes, *, http10: bool, authority: bytes | None = None,
        listed: Callable[[str], bool] | None = None,
    ) -> None:  # fmt: skip
        self.method = method
        self.verb = method.decode("ascii")
        self.path = target.partition(b"?")[0].decode("ascii")
        """Without the query string."""
        self.idempotent = method in IDEMPOTENT or (listed is not None and listed(self.path))
        self.is_head = method == b"HEAD"
        self.http10 = http10
        self.authority = authority
        """The host that an absolute-form target named."""
        self.forward = b"%b %b HTTP/1.1" % (method, target)

    def __repr__(self) -> str:
        return f"<RequestLine {self.verb} {self.path}>"


class RequestHead:
    """A request head, read once and shared by all requests with the same bytes; never changed."""

    __slots__ = (
        "captured", "expects", "forward", "http10", "idempotent", "is_head", "keep_alive", "length", "method",
        "nested", "path", "upgrade", "verb",
    )  # fmt: skip

    def __init__(
        self, line: RequestLine, forward: bytes, captured: dict[bytes, bytes], *, keep_alive: bool, length: int = 0,
        expects: bool = False, upgrade: bool = False, keyed: bool = False, nested: bool = False,
    ) -> None:  # fmt: skip
        self.method = line.method
        self.verb = line.verb
        self.path = line.path
        """Without the query string."""
        self.idempotent = line.idempotent or keyed
        """Whether it is safe to send it twice: by its method, its key, or the policy."""
        self.nested = nested
        """Whether it is itself a repetition, by another sidecar's retry."""
        self.is_head = line.is_head
        self.http10 = line.http10
        self.keep_alive = keep_alive
        self.length = length
        """Bytes of the body, 0 without one, `CHUNKED` when only its end tells."""
        self.expects = expects
        """Whether the client waits for 100 Continue."""
        self.upgrade = upgrade
        """Whether it asks for an upgrade that this port passes on."""
        self.forward = forward
        """Request line and end-to-end fields, without the final empty line."""
        self.captured = captured
        """Values of the fields the port takes out of the head, by name in lower case; several lines of one name make a
        list (RFC 9110 section 5.3)."""

    def __repr__(self) -> str:
        return f"<RequestHead {self.verb} {self.path} length={self.length}>"


class RequestReader:
    """Reads request heads for one port and remembers them.

    `capture` names the fields (lower case) that are taken out of the head for the pipeline to replace, `show` those
    that the pipeline only looks at; both are in `captured`. `host` stands in where an HTTP/1.0 request has no Host.
    `guarded` ones never go on, in whatever spelling, nor are they in `captured`. `keyed`: an Idempotency-Key makes a
    request safe to repeat; `listed` says which paths are.
    """

    __slots__ = ("_capture", "_fields", "_host", "_lines", "_listed", "_upgrades", "_usual_host", "memo")

    def __init__(
        self, *, capture: frozenset[bytes], upgrades: Upgrades, host: bytes, keyed: bool = False,
        listed: Callable[[str], bool] | None = None, show: frozenset[bytes] = frozenset(),
        guarded: frozenset[bytes] = frozenset(),
    ) -> None:  # fmt: skip
        self._capture = believed(capture | show, guarded)
        noted = _NOTED | self._capture | ({KEY} if keyed else set())
        self._fields = FieldTable(noted=noted, dropped=HOP_BY_HOP | capture, volatile=capture | {KEY}, guarded=guarded)
        self._listed = listed
        self._upgrades = upgrades
        self._host = host
        self._usual_host: list[bytes] = []  # most clients of a port say the same one: it is looked at once
        self._lines: dict[bytes, RequestLine] = {}
        self.memo: Memo[bytes, RequestHead] = Memo()

    def read(self, head: bytes) -> RequestHead:
        """The head in these bytes, which end with the empty line. Raises Malformed."""
        found = self.memo.get(head)
        if found is None:
            found = self._parse(head)
            self.memo.offer(head, found)
        return found

    def _parse(self, head: bytes) -> RequestHead:
        if len(head) > MAX_HEAD:
            raise Malformed(f"the request head is longer than {MAX_HEAD} bytes", Reason.HEADER_TOO_LARGE)
        lines = head[:-4].split(b"\r\n")
        start = lines.pop(0)
        line = self._lines.get(start) or self._read_line(start, head)
        lines, noted = self._fields.sort(lines)
        captured = {}
        for name in self._capture:
            if name in noted:
                captured[name] = b", ".join(noted[name])
        nested = is_repetition(captured.get(ATTEMPT))
        if nested:  # goes on, so that nobody further down repeats it either
            lines.append(b"%b: %b" % (ATTEMPT, captured[ATTEMPT]))
        if (
            len(noted) == len(captured) + 1
            and noted.get(b"host") == self._usual_host
            and not (line.http10 or line.authority)
        ):  # nothing to look at but a Host that was looked at before
            return RequestHead(
                line, b"\r\n".join((line.forward, *lines, b"")), captured, keep_alive=True, nested=nested
            )
        return self._read_fields(line, lines, noted, captured, nested=nested)

    def _read_fields(
        self, line: RequestLine, lines: list[bytes], noted: dict[bytes, list[bytes]], captured: dict[bytes, bytes],
        *, nested: bool,
    ) -> RequestHead:  # fmt: skip
        """What the fields say about connection, host, upgrade and body."""
        http10 = line.http10
        options = _NO_OPTIONS
        if b"connection" in noted:
            options = connection_options(noted[b"connection"])
            if not options <= ORDINARY_OPTIONS:
                lines = without(lines, options)
        host = self._host_instead(noted.get(b"host"), line.authority, http10=http10)
        if host is not None:
            lines = [b"Host: %b" % host, *without(lines, _HOST)]
        upgrade = b"upgrade" in noted and self._upgrade(noted[b"upgrade"], options, http10=http10)
        if upgrade:
            lines.append(b"connection: upgrade\r\nupgrade: %b" % noted[b"upgrade"][0])
        if http10 and b"expect" in noted:
            lines = without(lines, _EXPECT)
        return RequestHead(
            line,
            b"\r\n".join((line.forward, *lines, b"")),
            captured,
            keep_alive=(b"keep-alive" in options) if http10 else b"close" not in options,
            length=_length(noted, http10=http10),
            expects=not http10 and b"expect" in noted and noted[b"expect"][0].lower() == b"100-continue",
            upgrade=upgrade,
            keyed=KEY in noted and bool(noted[KEY][0]) and KEY not in options,
            nested=nested,
        )

    def _read_line(self, start: bytes, head: bytes) -> RequestLine:
        """Check a request line and take it apart; clients of a port repeat theirs more than anything else."""
        match = REQUEST_LINE.fullmatch(start)
        if match is None:
            raise explain_request(head)
        method, target, minor = match.groups()
        if len(target) > MAX_TARGET:
            raise Malformed(f"the request target is longer than {MAX_TARGET} bytes", Reason.URI_TOO_LONG)
        authority = None
        if target[:1] != b"/" or method == b"CONNECT":
            target, authority = _origin_form(method, target)
        line = RequestLine(method, target, http10=minor == b"0", authority=authority, listed=self._listed)
        if len(start) <= _LONGEST_LINE:
            if len(self._lines) >= _LINES:
                self._lines.clear()
            self._lines[start] = line
        return line

    def _host_instead(self, values: list[bytes] | None, authority: bytes | None, *, http10: bool) -> bytes | None:
        """The Host to put in place of the client's, or None to pass the client's on."""
        if values is None:
            if not http10:
                raise Malformed("no Host field")
            return authority or self._host
        if len(values) > 1:
            raise Malformed("several Host fields")
        if values != self._usual_host:
            if not AUTHORITY.fullmatch(values[0]):
                raise Malformed("Host is not a host and a port")
            self._usual_host = values
        return authority

    def _upgrade(self, values: list[bytes], options: frozenset[bytes], *, http10: bool) -> bool:
        if http10 or len(values) != 1 or b"upgrade" not in options or self._upgrades == "none":
            return False
        wanted = tokens(values[0])
        if self._upgrades == "websocket":
            return wanted == [b"websocket"]
        return bool(wanted) and b"h2c" not in wanted  # h2c would take requests past every check here


def _origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target in origin-form, and the authority that an absolute-form one named."""
    if method == b"CONNECT":
        raise Malformed("CONNECT is not served here", Reason.UNSUPPORTED_METHOD)
    if target == b"*":
        if method != b"OPTIONS":
            raise Malformed("the target * belongs to OPTIONS alone")
        return target, None
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise Malformed("the request target is neither a path nor an http URL")
    authority, path, query = match.groups()
    if not AUTHORITY.fullmatch(authority):
        raise Malformed("the request target has no valid host")
    return (path or (b"*" if method == b"OPTIONS" and not query else b"/")) + query, authority


def _length(noted: dict[bytes, list[bytes]], *, http10: bool) -> int:
    """How the body is framed. Raises Malformed when two ways are named at once (RFC 9112 section 6.3)."""
    lengths, codings = noted.get(b"content-length"), noted.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise Malformed("both Content-Length and Transfer-Encoding")
        require_chunked(codings, http10=http10)
        return CHUNKED
    return content_length(lengths) if lengths is not None else 0
