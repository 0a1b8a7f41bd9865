"""Stored responses as bytes, for a store outside of the sidecar.

What comes back from there is taken for hostile: it may be cut short, of another version, or written by somebody else
who can reach the store. Whatever is not exactly what `encode` makes of an acceptable response is None, a miss. In
particular no line of a head can frame the message, end it early, or bring a cookie along.

    "NV1" kind ─┬─ "N": names that Vary has, joined by commas
                └─ "E": times and flags, lengths, CRC-32 of all that follows, key, target, head, etag, modified, body
"""

import struct
from math import isfinite
from typing import Final
from zlib import crc32

from nova_sidecar.policy.freshness import Stored, Terms
from nova_sidecar.wire.directives import LONGEST
from nova_sidecar.wire.grammar import FIELD_LINE, MAX_FIELDS, MAX_HEAD, STATUS_LINE, TOKEN

_MAGIC: Final = b"NV1"
_NAMES: Final = _MAGIC + b"N"
_ENTRY: Final = _MAGIC + b"E"
_FORM: Final = struct.Struct("!4sddddBHIIIHHII")
_FORBIDDEN: Final = frozenset((
    b"age", b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"set-cookie", b"set-cookie2", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"content_length", b"transfer_encoding",
))  # fmt: skip
MOST_NAMES: Final = 32
LONGEST_KEY: Final = 65_536
LONGEST_VALIDATOR: Final = 8192


def encode(stored: Stored, now: float, wall: float) -> bytes:
    """A response; `wall` is the time of day, seconds since 1970, at `now`."""
    parts = (stored.key, stored.target, stored.head, stored.etag, stored.modified, stored.body)
    content = b"".join(parts)
    terms = stored.terms
    made = wall - stored.age_at(now)
    return _FORM.pack(
        _ENTRY, made, terms.lifetime, terms.while_revalidate, terms.if_error, int(terms.always_ask),
        stored.status, *(len(part) for part in parts), crc32(content),
    ) + content  # fmt: skip


def encode_names(names: tuple[bytes, ...]) -> bytes:
    """The fields by which the responses to a request differ, in place of a response."""
    return _NAMES + b",".join(names)


def decode_names(data: bytes) -> tuple[bytes, ...] | None:
    """What `encode_names` made; None where it is anything else."""
    if not data.startswith(_NAMES) or len(data) > LONGEST_KEY:
        return None
    names = tuple(data[len(_NAMES) :].split(b","))
    if not 0 < len(names) <= MOST_NAMES or list(names) != sorted(set(names)):
        return None
    return names if all(TOKEN.fullmatch(name) and name == name.lower() for name in names) else None


def decode(  # noqa: PLR0911 - a line for each doubt
    data: bytes, key: bytes, now: float, wall: float, largest: int
) -> Stored | None:
    """What `encode` made of a response to `key` with a body of at most `largest` bytes; None where it is anything else,
    or of no use any more."""
    if len(data) < _FORM.size or len(data) > _FORM.size + largest + MAX_HEAD + 3 * LONGEST_KEY:
        return None
    found = _FORM.unpack_from(data)
    if found[0] != _ENTRY:
        return None
    made, lifetime, while_revalidate, if_error = found[1:5]
    flags, status = found[5], found[6]
    lengths, checksum = found[7:13], found[13]
    content = data[_FORM.size :]
    if sum(lengths) != len(content) or crc32(content) != checksum:
        return None
    parts: list[bytes] = []
    at = 0
    for length in lengths:
        parts.append(content[at : at + length])
        at += length
    stored_key, target, head, etag, modified, body = parts
    terms = _terms(lifetime, while_revalidate, if_error, flags)
    if stored_key != key or terms is None or not isfinite(made) or len(body) > largest:
        return None
    if not (_sound(head, status) and _validator(etag) and _validator(modified) and b"\n" not in target):
        return None
    if status == 204 and body:
        return None
    return Stored(
        key, target, status, head, body, at=now, age=max(0.0, wall - made), terms=terms, etag=etag, modified=modified
    )


def _terms(lifetime: float, while_revalidate: float, if_error: float, flags: int) -> Terms | None:
    if flags not in (0, 1) or not all(map(isfinite, (lifetime, while_revalidate, if_error))):
        return None
    if not (0 <= lifetime <= LONGEST and 0 <= while_revalidate <= LONGEST and -1 <= if_error <= LONGEST):
        return None
    return Terms(lifetime, while_revalidate, if_error, always_ask=bool(flags))


def _sound(head: bytes, status: int) -> bool:
    """Whether it is a status line and fields that may be in a stored head, and nothing else."""
    if len(head) > MAX_HEAD or not head.endswith(b"\r\n"):
        return False
    start, *lines = head[:-2].split(b"\r\n")
    match = STATUS_LINE.fullmatch(start)
    if match is None or int(match[2]) != status or len(lines) > MAX_FIELDS:
        return False
    for line in lines:
        field = FIELD_LINE.fullmatch(line)
        if field is None or field[1].lower() in _FORBIDDEN:
            return False
    return 200 <= status < 600 and status != 304


def _validator(value: bytes) -> bool:
    return len(value) <= LONGEST_VALIDATOR and b"\r" not in value and b"\n" not in value and b"\0" not in value
