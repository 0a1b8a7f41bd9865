"""Header fields: which end at this hop, which frame the message, and reading the ones that matter.

RFC 9110 section 7.6.1: fields that belong to the connection, and those that Connection names, are not forwarded.
"""

from typing import Final

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import FIELD, LENGTH, MAX_FIELDS, Malformed

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
ORDINARY_OPTIONS: Final = HOP_BY_HOP | {b"close"}
"""What Connection may name without a further field being dropped for it."""

_USUAL_OPTIONS: Final = {
    value: frozenset((value.lower(),)) for value in (b"keep-alive", b"Keep-Alive", b"close", b"upgrade", b"Upgrade")
}
_NEVER_NAMED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_DISGUISED: Final = frozenset((b"content_length", b"transfer_encoding"))

_LEARNED: Final = 512


class FieldTable:
    """Sorts the fields of a head into what goes on as it is and what the reader looks at.

    `noted` fields are handed to the reader, `dropped` ones are not forwarded (names in lower case). Names are looked up
    as they are written, and what is found is remembered, so that lower case is made once per spelling.
    """

    __slots__ = ("_dropped", "_learned", "_noted")

    def __init__(self, *, noted: frozenset[bytes], dropped: frozenset[bytes]) -> None:
        self._noted = noted
        self._dropped = dropped
        self._learned: dict[bytes, tuple[bytes, bool, bool]] = {}

    def sort(self, block: bytes) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
        """The lines to forward, in order, and the values of noted fields by name. Raises Malformed.

        The block matched the grammar, so its lines go on byte for byte.
        """
        lines = FIELD.findall(block)
        if len(lines) > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} header lines", Reason.HEADER_TOO_LARGE)
        kept: list[bytes] = []
        noted: dict[bytes, list[bytes]] = {}
        learned = self._learned
        for line, name, value in lines:
            use = learned.get(name) or self._learn(name)
            if use[1]:
                kept.append(line)
            if use[2]:
                noted.setdefault(use[0], []).append(value.rstrip(b" \t"))
        return kept, noted

    def _learn(self, name: bytes) -> tuple[bytes, bool, bool]:
        lower = name.lower()
        if lower in _DISGUISED:
            raise Malformed("a header name with an underscore looks like one that frames the message")
        if len(self._learned) >= _LEARNED:
            self._learned.clear()
        use = self._learned[name] = (lower, lower not in self._dropped, lower in self._noted)
        return use


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
