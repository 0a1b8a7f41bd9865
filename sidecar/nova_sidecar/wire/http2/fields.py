"""The fields of HTTP/2 heads: what a message may hold (RFC 9113 section 8.2), checked and encoded once for each field.

HPACK carries any bytes, HTTP does not. A proxy that passes on a line break in a value hands it to the next one who
turns it into HTTP/1.1, so what is refused there is refused here: control characters, white space around values, names
in upper case, fields of the connection, names that a CGI-like app takes for others.
"""

from collections.abc import Iterable
from typing import Final

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import LENGTH, MAX_FIELDS, TOKEN, Malformed
from nova_sidecar.wire.http2.hpack import encode_field
from nova_sidecar.wire.http2.secret import Secret
from nova_sidecar.wire.http2.static import Field

OWN_EACH_TIME: Final = frozenset((b"date", b"grpc-timeout", b"traceparent", b"tracestate", b"x-request-id"))
"""Fields that say something else in every message: a head is remembered without them."""
UNDECLARED: Final = -1
"""Length of a body that only END_STREAM ends."""

_OF_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_DISGUISED: Final = frozenset((b"content_length", b"transfer_encoding"))
TEXT: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_UPPER: Final = bytes(range(0x41, 0x5B))
SPACE: Final = b" \t"
"""What may stand in a value, and what may not stand around it (RFC 9113 section 8.2.1)."""

_LEARNED: Final = 512
_LONGEST_LEARNED: Final = 512

Use = tuple[bytes, bool]
"""What is done with a field: how it goes on, b"" if it does not, and whether the reader looks at it."""


class FieldTable:
    """Checks the fields of heads and says what is done with them. `noted` fields are handed to the reader, `dropped`
    ones do not go on, nor `guarded` ones in any spelling (see `wire.fields`). Fields are remembered, 512 at most: even
    in a new head most were seen before."""

    __slots__ = ("_dropped", "_guarded", "_learned", "_noted")

    def __init__(
        self, *, noted: frozenset[bytes], dropped: frozenset[bytes], guarded: frozenset[bytes] = frozenset()
    ) -> None:
        self._guarded = guarded
        self._noted = noted
        self._dropped = dropped
        self._learned: dict[Field, Use] = {}

    def sort(self, fields: Iterable[Field]) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
        """The encoded fields to pass on, and the values of noted ones by name. Raises Malformed."""
        kept: list[bytes] = []
        noted: dict[bytes, list[bytes]] = {}
        learned = self._learned
        for field in fields:
            use = learned.get(field) or self._learn(field)
            if use[0]:
                kept.append(use[0])
            if use[1]:
                noted.setdefault(field[0], []).append(plain(field[1]))
        return kept, noted

    def _learn(self, field: Field) -> Use:
        name, value = field
        check_name(name)
        check_value(value)
        if name == b"te" and value.lower() != b"trailers":
            raise Malformed("te is something else than trailers")
        goes = name not in self._dropped and name.replace(b"_", b"-") not in self._guarded
        use = (encode_field(name, value) if goes else b"", name in self._noted)
        if len(name) + len(value) <= _LONGEST_LEARNED:
            if len(self._learned) >= _LEARNED:
                self._learned.clear()
            self._learned[field] = use
        return use


def check_name(name: bytes) -> None:
    """Raises Malformed for a name that no field of a message can have."""
    if not TOKEN.fullmatch(name):
        if name[:1] == b":":
            raise Malformed("a pseudo-header field stands where none can")
        raise Malformed("a field name is not a token")
    if len(name.translate(None, _UPPER)) != len(name):
        raise Malformed("a field name is not in lower case")
    if name in _OF_CONNECTION:
        raise Malformed("a field that belongs to an HTTP/1.1 connection")
    if name in _DISGUISED:
        raise Malformed("a field name with an underscore looks like one that frames the message")


def check_value(value: bytes) -> None:
    """Raises Malformed for control characters, and for white space around the value (RFC 9113 section 8.2.1)."""
    if value.translate(None, TEXT):
        raise Malformed("a field value holds control characters")
    if len(value.strip(SPACE)) != len(value):
        raise Malformed("a field value begins or ends with white space")


def check_count(fields: tuple[Field, ...]) -> None:
    """Raises Malformed for more fields than a head may have."""
    if len(fields) > MAX_FIELDS:
        raise Malformed(f"more than {MAX_FIELDS} header fields", Reason.HEADER_TOO_LARGE)


def split(fields: tuple[Field, ...], own: frozenset[bytes]) -> tuple[list[Field], list[Field]]:
    """The fields without those named, and those. Raises Malformed for too many of them."""
    check_count(fields)
    rest: list[Field] = []
    owned: list[Field] = []
    for field in fields:
        if field[0] in own:
            owned.append(field)
        else:
            rest.append(field)
    return rest, owned


def read_pseudo(fields: tuple[Field, ...], known: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo-header fields at the beginning, each once and of those known (section 8.3). Their values are
    the caller's to check. Raises Malformed."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        if name not in known or name in found:
            raise Malformed("a pseudo-header field is unknown, or comes twice")
        found[name] = plain(value)
    return found


def read_length(values: list[bytes] | None) -> int:
    """Bytes of the body, `UNDECLARED` without Content-Length. Raises Malformed."""
    if values is None:
        return UNDECLARED
    if len(values) != 1 or not LENGTH.fullmatch(values[0]):
        raise Malformed("Content-Length is not one number")
    return int(values[0])


def plain(value: bytes) -> bytes:
    """The value for those who compare it, whatever it came as."""
    return bytes(value) if type(value) is Secret else value
