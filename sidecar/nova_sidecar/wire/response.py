"""Responses: from the bytes of a head to what the pipeline needs and the bytes that go downstream."""

from typing import Final

from nova_sidecar.policy.outcome import CANCELLED, SUCCESS, Outcome, Outcomes
from nova_sidecar.policy.reasons import REJECT_HEADER, SHED, Reason
from nova_sidecar.policy.retry import RETRIED, parse_retry_after
from nova_sidecar.wire.fields import (
    CHUNKED,
    HOP_BY_HOP,
    ORDINARY_OPTIONS,
    UNTIL_CLOSE,
    FieldTable,
    connection_options,
    content_length,
    joined,
    require_chunked,
    without,
)
from nova_sidecar.wire.grammar import MAX_HEAD, STATUS_LINE, Malformed, explain_response
from nova_sidecar.wire.memo import Memo

_NOTED: Final = frozenset(
    (b"connection", b"content-length", b"retry-after", b"transfer-encoding", b"upgrade", REJECT_HEADER, RETRIED)
)
_SHED_STATUSES: Final = (429, 503)
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_CONTENT_LENGTH: Final = frozenset((b"content-length",))


class ResponseHead:
    """A response head, read once and shared by all responses with the same bytes; never changed."""

    __slots__ = ("bodiless", "forward", "keep_alive", "length", "outcome", "retried", "retry_after", "status")

    def __init__(
        self,
        status: int,
        *,
        keep_alive: bool,
        length: int,
        forward: bytes,
        retry_after: float | None,
        outcome: Outcome = SUCCESS,
        retried: bool = False,
    ) -> None:
        self.status = status
        self.outcome = outcome
        """What it says about the upstream."""
        self.retry_after = retry_after
        """Seconds that Retry-After asks for, if it does."""
        self.retried = retried
        """Whether a layer further down has repeated the request already."""
        self.keep_alive = keep_alive
        self.bodiless = status < 200 or status in (204, 304)
        """Whether there is never a body, whatever the fields say (RFC 9112 section 6.3)."""
        self.length = 0 if self.bodiless else length
        """Bytes of the body when the request was not HEAD, or `CHUNKED`, or `UNTIL_CLOSE`."""
        self.forward = forward
        """Status line and end-to-end fields, without the final empty line."""

    def with_line(self, line: bytes) -> "ResponseHead":
        """The same head with one more field line, for one response; `line` ends with CRLF."""
        return ResponseHead(
            self.status,
            keep_alive=self.keep_alive,
            length=self.length,
            forward=self.forward + line,
            retry_after=self.retry_after,
            outcome=self.outcome,
            retried=self.retried,
        )

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length}>"


class ResponseReader:
    """Reads response heads for one port and remembers them; `drop` names fields (lower case) that Nova replaces,
    `outcomes` what a status says about the upstream."""

    __slots__ = ("_fields", "_outcomes", "memo")

    def __init__(self, *, drop: frozenset[bytes], outcomes: Outcomes) -> None:
        self._outcomes = outcomes.of_status
        self._fields = FieldTable(noted=_NOTED, dropped=HOP_BY_HOP | drop)
        self.memo: Memo[bytes, ResponseHead] = Memo()

    def read(self, head: bytes) -> ResponseHead:
        """The head in these bytes, which end with the empty line. Raises Malformed."""
        found = self.memo.get(head)
        if found is None:
            found = self._parse(head)
            self.memo.offer(head, found)
        return found

    def _parse(self, head: bytes) -> ResponseHead:
        if len(head) > MAX_HEAD:
            raise Malformed(f"the response head is longer than {MAX_HEAD} bytes", Reason.RESPONSE_HEAD_TOO_LARGE)
        start, *lines = head[:-4].split(b"\r\n")
        match = STATUS_LINE.fullmatch(start)
        if match is None:
            raise explain_response(head)
        minor, code, phrase = match.groups()
        status, http10 = int(code), minor == b"0"
        unframed = status < 200 or status == 204
        lines, noted = self._fields.sort(lines)
        options = connection_options(noted[b"connection"]) if b"connection" in noted else _NO_OPTIONS
        if not options <= ORDINARY_OPTIONS:
            lines = without(lines, options)
        if b"content-length" in noted:
            lines = _one_length(lines, noted[b"content-length"], unframed=unframed)
        if status == 101 and b"upgrade" in noted:
            lines.append(b"connection: upgrade\r\nupgrade: %b" % noted[b"upgrade"][0])
        return ResponseHead(
            status,
            keep_alive=(b"keep-alive" in options) if http10 else b"close" not in options,
            length=0 if unframed else _length(noted, http10=http10),
            forward=b"HTTP/1.1 %b %b\r\n%b" % (code, phrase or b"", joined(lines)),
            retry_after=parse_retry_after(noted[b"retry-after"][0]) if b"retry-after" in noted else None,
            outcome=self._outcome(status, noted.get(REJECT_HEADER)),
            retried=RETRIED in noted,
        )

    def _outcome(self, status: int, reject: list[bytes] | None) -> Outcome:
        """That the upstream's own sidecar sheds load does not say that the upstream fails: opening the breaker on top
        would turn a short overload into an outage. A sidecar says so with these statuses only; an app that puts the
        field on what else it answers hides neither its failures nor its recovery."""
        shed = reject is not None and reject[0] in SHED and status in _SHED_STATUSES
        return CANCELLED if shed else self._outcomes[status]


def _one_length(lines: list[bytes], lengths: list[bytes], *, unframed: bool) -> list[bytes]:
    """The lines without a length where there is no body (RFC 9110 section 8.6), and with one of several that are the
    same: frameworks set it twice, nginx and HAProxy let them, and RFC 9112 section 6.3 allows it."""
    if unframed:
        return without(lines, _CONTENT_LENGTH)
    if len(lengths) == 1 or len(set(lengths)) > 1:
        return lines
    del lengths[1:]
    return [*without(lines, _CONTENT_LENGTH), b"content-length: %b" % lengths[0]]


def _length(noted: dict[bytes, list[bytes]], *, http10: bool) -> int:
    """How the body is framed. Raises Malformed where two recipients could read it differently."""
    lengths, codings = noted.get(b"content-length"), noted.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise Malformed("both Content-Length and Transfer-Encoding")
        require_chunked(codings, http10=http10)
        return CHUNKED
    return content_length(lengths) if lengths is not None else UNTIL_CLOSE
