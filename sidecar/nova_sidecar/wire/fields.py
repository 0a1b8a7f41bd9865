"""Header fields: which end at this hop, which frame the message, and reading the ones that matter.

RFC 9110 section 7.6.1: fields that belong to the connection, and those that Connection names, are not forwarded.
"""

from typing import Final

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import FIELD_LINE, LENGTH, MAX_FIELDS, TOKEN, Malformed, explain_fields

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
ORDINARY_OPTIONS: Final = HOP_BY_HOP | {b"close"}
"""What Connection may name without a further field being dropped for it."""

CHUNKED: Final = -1
"""Length of a body whose end only the chunked coding tells."""
UNTIL_CLOSE: Final = -2
"""Length of a body that ends with the connection; responses only."""

_USUAL_OPTIONS: Final = {
    value: frozenset((value.lower(),)) for value in (b"keep-alive", b"Keep-Alive", b"close", b"upgrade", b"Upgrade")
}
_NEVER_NAMED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_DISGUISED: Final = frozenset((b"content_length", b"transfer_encoding"))

_LEARNED: Final = 512
_LONGEST_LEARNED: Final = 512

_OWN_EACH_TIME: Final = frozenset((b"traceparent", b"tracestate", b"x-request-id", b"date"))
"""Fields that say something else in every message: remembering their lines would only push others out."""

Use = tuple[bytes, bytes, bool, bool]
"""What is done with a line: name in lower case, value, whether it goes on, whether the reader looks at it."""


class FieldTable:
    """Sorts the lines of a head into what goes on as it is and what the reader looks at.

    `noted` fields are handed to the reader, `dropped` ones are not forwarded (names in lower case), nor are `guarded`
    ones in any spelling: with underscores for hyphens they would be the same to an app that takes names from CGI
    (RFC 3875 section 4.1.18). Even in a head that was never seen before most lines were: a line is checked against the
    grammar and taken apart once, then remembered, 512 lines at most, and so is what its name means.
    """

    __slots__ = ("_dropped", "_guarded", "_learned", "_names", "_noted", "_own_each_time")

    def __init__(
        self, *, noted: frozenset[bytes], dropped: frozenset[bytes], volatile: frozenset[bytes] = frozenset(),
        guarded: frozenset[bytes] = frozenset(),
    ) -> None:  # fmt: skip
        self._guarded = guarded
        self._own_each_time = volatile | _OWN_EACH_TIME
        self._noted = noted
        self._dropped = dropped
        self._learned: dict[bytes, Use] = {}
        self._names: dict[bytes, tuple[bytes, bool, bool, bool]] = {}  # as written -> lower case, kept, noted, learned

    def sort(self, lines: list[bytes]) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
        """The lines to forward, in order and byte for byte, and the values of noted fields by name. Raises Malformed.

        Lines are what stood between one CRLF and the next.
        """
        if len(lines) > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} header lines", Reason.HEADER_TOO_LARGE)
        kept: list[bytes] = []
        noted: dict[bytes, list[bytes]] = {}
        learned = self._learned
        for line in lines:
            use = learned.get(line) or self._learn(line)
            if use[2]:
                kept.append(line)
            if use[3]:
                noted.setdefault(use[0], []).append(use[1])
        return kept, noted

    def _learn(self, line: bytes) -> Use:
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise explain_fields(line)
        written, value = match.groups()
        name, kept, noted, learned = self._names.get(written) or self._learn_name(written)
        use = (name, value.rstrip(b" \t") if noted else b"", kept, noted)
        if learned and len(line) <= _LONGEST_LEARNED:
            if len(self._learned) >= _LEARNED:
                self._learned.clear()
            self._learned[line] = use
        return use

    def _learn_name(self, written: bytes) -> tuple[bytes, bool, bool, bool]:
        name = written.lower()
        if name in _DISGUISED:
            raise Malformed("a header name with an underscore looks like one that frames the message")
        kept = name not in self._dropped and name.replace(b"_", b"-") not in self._guarded
        kind = (name, kept, name in self._noted, name not in self._own_each_time)
        if len(written) <= _LONGEST_LEARNED:
            if len(self._names) >= _LEARNED:
                self._names.clear()
            self._names[written] = kind
        return kind


def believed(names: frozenset[bytes], guarded: frozenset[bytes]) -> frozenset[bytes]:
    """Those of the names that a caller may set; what comes under a guarded one, in whatever spelling, is not even
    looked at."""
    return frozenset([name for name in names if name.replace(b"_", b"-") not in guarded]) if guarded else names


def joined(lines: list[bytes]) -> bytes:
    """The lines as they go out, each with its CRLF."""
    return b"\r\n".join(lines) + b"\r\n" if lines else b""


def unguarded(trailers: bytes, guarded: frozenset[bytes]) -> bytes:
    """Trailers that have been read, without fields that are guarded: an app may take them for the head's."""
    lines = trailers.split(b"\r\n")[:-1]
    return joined([line for line in lines if line.partition(b":")[0].lower().replace(b"_", b"-") not in guarded])


def without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """The lines of all fields but the named ones."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def connection_options(values: list[bytes]) -> frozenset[bytes]:
    """What Connection names. Raises Malformed when it names what frames or routes the message."""
    if len(values) == 1 and (usual := _USUAL_OPTIONS.get(values[0])) is not None:
        return usual
    named = frozenset(token for value in values for token in tokens(value))
    if named & _NEVER_NAMED:
        raise Malformed("Connection names a field that cannot belong to the connection")
    return named


def content_length(values: list[bytes]) -> int:
    """The length of a body. Raises Malformed unless there is one value of digits (RFC 9112 section 6.3)."""
    if len(values) != 1:
        raise Malformed("several Content-Length fields")
    if not LENGTH.fullmatch(values[0]):
        raise Malformed("Content-Length is not a number")
    return int(values[0])


def require_chunked(values: list[bytes], *, http10: bool) -> None:
    """Raises Malformed unless Transfer-Encoding is chunked; NOT_IMPLEMENTED for further codings beneath it, since then
    at least the length is clear (RFC 9112 sections 6.1 and 6.3)."""
    if http10:
        raise Malformed("Transfer-Encoding in HTTP/1.0")
    if len(values) != 1:
        raise Malformed("several Transfer-Encoding fields")
    if values[0].lower() == b"chunked":
        return
    codings = [coding.strip(b" \t") for coding in values[0].lower().split(b",")]
    clear = codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and all(map(TOKEN.fullmatch, codings))
    raise Malformed("a Transfer-Encoding other than chunked", Reason.NOT_IMPLEMENTED if clear else Reason.BAD_REQUEST)
