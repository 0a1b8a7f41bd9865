"""Header fields: which end at this hop, which frame the message, and reading the ones that matter.

RFC 9110 section 7.6.1: fields that belong to the connection, and those that Connection names, are not forwarded.
"""

from typing import Final

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import FIELD, LENGTH, MAX_FIELDS, Malformed

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
_NEVER_NAMED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_DISGUISED: Final = frozenset((b"content_length", b"transfer_encoding"))

Field = tuple[bytes, bytes, bytes]
"""Name in lower case, name as it came, value without white space around it."""


def read_fields(block: bytes) -> list[Field]:
    """The fields of a block that matched the grammar, in order. Raises Malformed when there are too many (431)."""
    fields = [(name.lower(), name, value.rstrip(b" \t")) for name, value in FIELD.findall(block)]
    if len(fields) > MAX_FIELDS:
        raise Malformed(f"more than {MAX_FIELDS} header lines", Reason.HEADER_TOO_LARGE)
    return fields


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def connection_options(values: list[bytes]) -> frozenset[bytes]:
    """What Connection names. Raises Malformed when it names what frames or routes the message."""
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


def is_chunked(values: list[bytes], *, http10: bool) -> bool:
    """Whether Transfer-Encoding is chunked. Raises Malformed for anything else: 501 for codings Nova does not have."""
    if http10:
        raise Malformed("Transfer-Encoding in HTTP/1.0")
    if len(values) != 1:
        raise Malformed("several Transfer-Encoding fields")
    if values[0].lower() == b"chunked":
        return True
    known = all(
        token in (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"chunked") for token in tokens(values[0])
    )
    raise Malformed(
        "a Transfer-Encoding other than chunked", Reason.NOT_IMPLEMENTED if known and values[0] else Reason.BAD_REQUEST
    )


def refuse_disguised(name: bytes) -> None:
    """Raise Malformed for names that a CGI-like app reads as the fields that frame a message."""
    if name in _DISGUISED:
        raise Malformed("a header name with an underscore looks like one that frames the message")
