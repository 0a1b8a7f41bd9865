"""The heads of streams: from decoded fields to what the pipeline needs and the block that goes on (RFC 9113 section 8).

They mirror the heads of HTTP/1.1 (`wire.request`, `wire.response`), so that the same filters work with both.

What is read is remembered twice over. Where the decoder knew the whole block it gives the same tuple of fields as the
time before, and the head is found by that tuple's identity: 0.1 µs. Where a call has fields of its own (a correlation
id, a deadline, a trace context) these are split off first, and the head is found by the rest: 2.4 µs for eleven
fields, of which two are the call's own. A head never seen before takes 8 µs.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import REJECT_HEADER, SHED, Reason
from nova_sidecar.policy.retry import ATTEMPT, IDEMPOTENT, KEY, PUSHBACK, RETRIED, is_repetition, parse_retry_after
from nova_sidecar.wire.fields import believed
from nova_sidecar.wire.grammar import AUTHORITY, MAX_TARGET, TARGET, TOKEN, Malformed
from nova_sidecar.wire.http2.fields import (
    OWN_EACH_TIME,
    SPACE,
    TEXT,
    FieldTable,
    check_count,
    check_value,
    plain,
    read_length,
    read_pseudo,
    split,
)
from nova_sidecar.wire.http2.hpack import Fields, encode_field
from nova_sidecar.wire.http2.static import Field
from nova_sidecar.wire.memo import LARGEST_KEY, Memo

_KNOWN: Final = 1024
"""Tuples of fields whose head is found by identity: as many as there are connections times heads, in the best case."""
_LONGEST_METHOD: Final = 32

_REQUEST_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_RESPONSE_PSEUDO: Final = frozenset((b":status",))
_SCHEMES: Final = frozenset((b"http", b"https"))
_COOKIE: Final = b"cookie"
_GRPC: Final = b"application/grpc"

GRPC_STATUS: Final = b"grpc-status"

H = TypeVar("H")


class RequestHead:
    """The head of one request. All but `captured`, `forward`, `idempotent` and `nested` is shared with others like it;
    never changed."""

    __slots__ = (
        "captured", "expects", "forward", "idempotent", "is_grpc", "is_head", "length", "method", "nested", "path",
        "target", "verb",
    )  # fmt: skip

    http10 = False
    keep_alive = True
    upgrade = False

    def __init__(
        self, base: "RequestBase", captured: dict[bytes, bytes], forward: bytes, idempotent: bool, nested: bool,
    ) -> None:  # fmt: skip
        self.method = base.method
        self.verb = base.verb
        self.path = base.path
        """Without the query string."""
        self.target = base.target
        self.is_grpc = base.is_grpc
        self.is_head = base.is_head
        self.length = base.length
        """Bytes of the body that Content-Length declares, or `UNDECLARED`: also where END_STREAM says there is none."""
        self.expects = base.expects
        """Whether the client waits for 100 Continue."""
        self.captured = captured
        """Values of the fields the port takes out of the head, by name; several of one name make a list."""
        self.forward = forward
        """The block to pass on, without the captured fields; others may be appended as literals."""
        self.idempotent = idempotent
        """Whether it is safe to send it twice: by its method, its key, or the policy."""
        self.nested = nested
        """Whether it is itself a repetition, by another sidecar's retry."""

    def __repr__(self) -> str:
        return f"<RequestHead {self.verb} {self.path}>"


class RequestBase:
    """What requests with the same fields have in common, their own fields left out."""

    __slots__ = (
        "expects", "forward", "head", "idempotent", "is_grpc", "is_head", "last_pseudo", "length", "method", "path",
        "target", "verb",
    )  # fmt: skip

    def __init__(
        self, method: bytes, target: bytes, forward: bytes, *, last_pseudo: int, idempotent: bool, is_grpc: bool,
        length: int, expects: bool,
    ) -> None:  # fmt: skip
        self.method = method
        self.verb = method.decode("ascii")
        self.target = target
        self.path = _path(target)
        self.is_head = method == b"HEAD"
        self.idempotent = idempotent
        self.is_grpc = is_grpc
        self.length = length
        self.expects = expects
        self.forward = forward
        self.last_pseudo = last_pseudo
        """Position of the last pseudo-header field."""
        self.head = RequestHead(self, {}, forward, idempotent, False)
        """The head of a request without fields of its own."""


class Known(dict[int, tuple[Fields, H]]):
    """Heads by the identity of their fields, which are kept alive so that no others take their place. Readers look in
    directly, and compare: a call less."""

    __slots__ = ()

    def put(self, fields: Fields, head: H) -> None:
        """Remember it."""
        if len(self) >= _KNOWN:
            self.clear()
        self[id(fields)] = (fields, head)


class RequestReader:
    """Reads the heads of requests for one port and remembers them.

    `capture` names the fields (lower case) that are taken out for the pipeline to replace, `show` those that the
    pipeline only looks at; both are in `captured`. `guarded` ones never go on, in whatever spelling, nor are they in
    `captured`. `keyed`: an Idempotency-Key makes a request safe to repeat; `listed` says which paths are.
    """

    __slots__ = ("_capture", "_fields", "_keyed", "_known", "_last", "_listed", "_own", "_show", "_trailers", "memo")

    def __init__(
        self, *, capture: frozenset[bytes], keyed: bool = False, listed: Callable[[str], bool] | None = None,
        show: frozenset[bytes] = frozenset(), guarded: frozenset[bytes] = frozenset(),
    ) -> None:  # fmt: skip
        self._capture = believed(capture | show, guarded)
        self._show = show
        self._own = believed(self._capture | OWN_EACH_TIME | {KEY}, guarded)  # the others pass the table, which guards
        self._fields = FieldTable(
            noted=frozenset((b"content-length", b"content-type", b"expect", b"host")),
            dropped=capture | {b"host"},
            guarded=guarded,
        )
        self._keyed = keyed
        self._listed = listed
        self._known: Known[RequestHead] = Known()
        self._last: tuple[list[Field] | None, Any] = (None, None)
        self._trailers = TrailerReader(guarded)
        self.memo: Memo[Fields, RequestBase] = Memo()

    def read(self, fields: Fields) -> RequestHead:
        """The head of a request. Raises Malformed."""
        known = self._known.get(id(fields))
        if known is not None and known[0] is fields:
            return known[1]
        rest, own = split(fields, self._own)
        last, base = self._last
        again = rest == last  # many calls are like the one before, and their fields the same objects
        if not again:
            key = tuple(rest)
            base = self.memo.get(key)
            again = base is not None
            if base is None:
                base = self._parse(key)
                if len(base.forward) <= LARGEST_KEY:
                    self.memo.offer(key, base)
            self._last = (rest, base)
        if own:
            return self._with_own(base, fields, rest, own)
        head: RequestHead = base.head
        if again and len(head.forward) <= LARGEST_KEY:
            self._known.put(fields, head)
        return head

    def trailers(self, fields: Fields) -> bytes:
        """The block of a request's trailers to pass on, b"" when nothing is left of them. Raises Malformed."""
        return self._trailers.read(fields).forward

    def _with_own(self, base: RequestBase, fields: Fields, rest: list[Field], own: list[Field]) -> RequestHead:
        """A head with fields of its own: those captured, and those that go on behind the others."""
        if fields[base.last_pseudo] is not rest[base.last_pseudo]:
            raise Malformed("a pseudo-header field stands behind others")
        captured: dict[bytes, bytes] = {}
        forward, idempotent, nested = base.forward, base.idempotent, False
        capture = self._capture
        for name, value in own:
            if value.translate(None, TEXT) or len(value.strip(SPACE)) != len(value):  # `check_value`, without a call
                check_value(value)
            if name in capture:
                captured[name] = captured[name] + b", " + value if name in captured else plain(value)
                if name == ATTEMPT and is_repetition(value):
                    nested = True  # goes on, so that nobody further down repeats it either
                elif name not in self._show:
                    continue
            elif name == KEY and value and self._keyed:
                idempotent = True
            forward += encode_field(name, value)
        return RequestHead(base, captured, forward, idempotent, nested)

    def _parse(self, fields: Fields) -> RequestBase:
        pseudo = read_pseudo(fields, _REQUEST_PSEUDO)
        kept, noted = self._fields.sort(fields[len(pseudo) :])
        method, target = _start(pseudo)
        kind = noted.get(b"content-type", [b""])[0]
        forward = [
            encode_field(b":method", method),
            encode_field(b":scheme", pseudo[b":scheme"]),
            encode_field(b":authority", _authority(pseudo.get(b":authority"), noted.get(b"host"))),
            encode_field(b":path", target),
            *kept,
        ]
        return RequestBase(
            method,
            target,
            b"".join(forward),
            last_pseudo=len(pseudo) - 1,
            idempotent=method in IDEMPOTENT or (self._listed is not None and self._listed(_path(target))),
            is_grpc=kind.startswith(_GRPC) and kind[len(_GRPC) :][:1] in b"+;",
            length=read_length(noted.get(b"content-length")),
            expects=noted.get(b"expect", [b""])[0].lower() == b"100-continue",
        )


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("ascii")


def _start(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Method and target. Raises Malformed (RFC 9113 section 8.3.1)."""
    method, scheme, target = (pseudo.get(name) for name in (b":method", b":scheme", b":path"))
    if method is None or not TOKEN.fullmatch(method) or len(method) > _LONGEST_METHOD:
        raise Malformed("the method is missing or not a token")
    if method == b"CONNECT":
        raise Malformed("CONNECT is not served here", Reason.UNSUPPORTED_METHOD)
    if scheme not in _SCHEMES:
        raise Malformed("the scheme is neither http nor https")
    if target is None or not (target[:1] == b"/" or (target == b"*" and method == b"OPTIONS")):
        raise Malformed("the path is missing or does not begin with a slash")
    if len(target) > MAX_TARGET:
        raise Malformed(f"the path is longer than {MAX_TARGET} bytes", Reason.URI_TOO_LONG)
    if not TARGET.fullmatch(target):
        raise Malformed("the path holds characters that it cannot have")
    return method, target


def _authority(named: bytes | None, hosts: list[bytes] | None) -> bytes:
    """Whom the request is for: there may be both :authority and host, but they must agree. Raises Malformed."""
    if hosts is not None:
        if len(hosts) > 1 or (named is not None and named.lower() != hosts[0].lower()):
            raise Malformed("host and :authority name several")
        named = hosts[0] if named is None else named
    if not named or not AUTHORITY.fullmatch(named):
        raise Malformed("there is no host, or what is there is not a host and a port")
    return named


_NOTHING: Final[dict[bytes, list[bytes]]] = {}


class ResponseHead:
    """The head of one response, an interim one included; shared with others like it but for `forward`."""

    __slots__ = (
        "bodiless", "forward", "grpc_status", "is_grpc", "length", "outcome", "pushback_ms", "reject", "retried",
        "retry_after", "status",
    )  # fmt: skip

    keep_alive = True

    def __init__(
        self, status: int, noted: dict[bytes, list[bytes]], forward: bytes, like: "ResponseHead | None" = None
    ) -> None:
        self.status = status
        self.forward = forward
        """The block to pass on; others may be appended as literals."""
        if like is not None:  # the same but for the block: nothing is read again
            self._take_over(like)
            return
        self.reject = noted[REJECT_HEADER][0] if REJECT_HEADER in noted else None
        """The reason another sidecar refused the request for."""
        self.outcome: Outcome = SUCCESS if status < 500 else CANCELLED if self.reject in SHED else FAILURE
        """What the status says about the upstream; what `grpc_status` says is for the policy."""
        self.grpc_status = _grpc_status(noted)
        """Of a response that is trailers only; else it comes with the trailers."""
        kind = noted.get(b"content-type", [b""])[0]
        self.is_grpc = kind.startswith(_GRPC) and kind[len(_GRPC) :][:1] in b"+;"
        self.pushback_ms = _pushback(noted)
        """Milliseconds after which the server asks for a repetition, -1 if it asks for none."""
        self.retry_after = parse_retry_after(noted[b"retry-after"][0]) if b"retry-after" in noted else None
        """Seconds that Retry-After asks for, if it does."""
        self.retried = RETRIED in noted
        """Whether a layer further down has repeated the request already."""
        self.bodiless = status < 200 or status in (204, 304)
        """Whether there is never a body (RFC 9110 section 6.4.1)."""
        self.length = 0 if self.bodiless else read_length(noted.get(b"content-length"))
        """Bytes of the body when the request was not HEAD, or `UNDECLARED`."""

    def _take_over(self, like: "ResponseHead") -> None:
        self.reject, self.outcome, self.grpc_status = like.reject, like.outcome, like.grpc_status
        self.is_grpc, self.pushback_ms, self.retry_after = like.is_grpc, like.pushback_ms, like.retry_after
        self.retried, self.bodiless, self.length = like.retried, like.bodiless, like.length

    def followed_by(self, block: bytes) -> "ResponseHead":
        """The same with more fields."""
        return ResponseHead(self.status, _NOTHING, self.forward + block, self)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"


class ResponseReader:
    """Reads the heads of responses, and their trailers, for one port; `drop` names fields that Nova replaces."""

    __slots__ = ("_drop", "_fields", "_known", "_own", "_trailers", "memo")

    def __init__(self, *, drop: frozenset[bytes]) -> None:
        self._drop = drop
        self._own = drop | OWN_EACH_TIME
        self._fields = FieldTable(
            noted=frozenset((b"content-length", b"content-type", b"retry-after", GRPC_STATUS, PUSHBACK, RETRIED))
            | {REJECT_HEADER},
            dropped=drop,
        )
        self._known: Known[ResponseHead] = Known()
        self._trailers = TrailerReader()
        self.memo: Memo[Fields, ResponseHead] = Memo()

    def read(self, fields: Fields) -> ResponseHead:
        """The head of a response. Raises Malformed."""
        known = self._known.get(id(fields))
        if known is not None and known[0] is fields:
            return known[1]
        rest, own = split(fields, self._own)
        key = tuple(rest)
        head = self.memo.get(key)
        if head is None:
            head = self._parse(key)
            if len(head.forward) <= LARGEST_KEY:
                self.memo.offer(key, head)
        elif not own:
            self._known.put(fields, head)
        return self._with_own(head, fields, rest, own) if own else head

    def trailers(self, fields: Fields) -> "Trailers":
        """The trailers of a response. Raises Malformed."""
        return self._trailers.read(fields)

    def _with_own(self, head: ResponseHead, fields: Fields, rest: list[Field], own: list[Field]) -> ResponseHead:
        if fields[0] is not rest[0]:
            raise Malformed("a pseudo-header field stands behind others")
        block = b""
        for name, value in own:
            check_value(value)
            if name not in self._drop:
                block += encode_field(name, value)
        return head.followed_by(block)

    def _parse(self, fields: Fields) -> ResponseHead:
        pseudo = read_pseudo(fields, _RESPONSE_PSEUDO)
        code = pseudo.get(b":status", b"")
        if len(code) != 3 or not code.isdigit() or not b"100" <= code < b"600":
            raise Malformed("the status is missing or not a number from 100 to 599")
        if code == b"101":
            raise Malformed("HTTP/2 has no 101 (RFC 9113 section 8.6)")
        kept, noted = self._fields.sort(fields[1:])
        return ResponseHead(int(code), noted, encode_field(b":status", code) + b"".join(kept))


class Trailers(NamedTuple):
    """What stands behind a body."""

    forward: bytes
    """The block to pass on."""
    grpc_status: int | None
    """None where there is none, or none that is a number."""
    pushback_ms: int | None
    """Milliseconds after which the server asks for a repetition, -1 if it asks for none."""


class TrailerReader:
    """Reads trailers and remembers them: most calls end alike. Fields that frame, route or authenticate are left out
    (RFC 9110 section 6.5.1)."""

    __slots__ = ("_fields", "_known", "memo")

    def __init__(self, guarded: frozenset[bytes] = frozenset()) -> None:
        self._fields = FieldTable(
            guarded=guarded,
            noted=frozenset((GRPC_STATUS, PUSHBACK)),
            dropped=frozenset((b"authorization", b"content-length", b"cookie", b"host", b"te", b"trailer")),
        )
        self._known: Known[Trailers] = Known()
        self.memo: Memo[Fields, Trailers] = Memo()

    def read(self, fields: Fields) -> Trailers:
        """What is in them. Raises Malformed."""
        known = self._known.get(id(fields))
        if known is not None and known[0] is fields:
            return known[1]
        found = self.memo.get(fields)
        if found is None:
            check_count(fields)
            kept, noted = self._fields.sort(fields)
            found = Trailers(b"".join(kept), _grpc_status(noted), _pushback(noted))
            if len(found.forward) <= LARGEST_KEY:
                self.memo.offer(fields, found)
        else:
            self._known.put(fields, found)
        return found


def _grpc_status(noted: dict[bytes, list[bytes]]) -> int | None:
    value = noted.get(GRPC_STATUS, [b""])[0]
    return int(value) if value.isdigit() and len(value) <= 3 else None


def _pushback(noted: dict[bytes, list[bytes]]) -> int | None:
    if PUSHBACK not in noted:
        return None
    value = noted[PUSHBACK][0]
    return int(value) if value.isdigit() and len(value) <= 9 else -1
