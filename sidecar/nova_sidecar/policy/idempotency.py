"""Requests that take effect once, however often they are sent: keys, what a key stands for, and what is remembered.

A client that gets no answer cannot know whether its request took effect. With an Idempotency-Key it may send it again:
the first request that comes with a key is the one that acts, and all others with it get its answer
(draft-ietf-httpapi-idempotency-key-header).

    free ── first request ──▶ leased ── answer ──▶ kept (keepFor)
      ▲                         │  └── acted, no answer that can be repeated ──▶ spent (keepFor): 409
      └── 5xx, refused, ended ──┘

Rules:

* A key is the caller's: it counts within one port, method, path, host and identity. Identity is what was verified about
  the caller, else a hash of what the caller shows. Nobody can reach another one's answer by guessing a key.
* A key names one request. Another one under the same key (query or body differ) is the caller's mistake, and refused.
* What is kept: 2xx, 3xx, and 4xx that are final. A 5xx says that the request failed, and statuses that ask to come
  again (401, 408, 421, 425, 429) that it did not act: both may be repeated.
* Who leads has a lease, which ends by itself when the leader does. Only the lease's owner may renew, finish or free it.
* Whatever comes from a store may have been written by anybody: it is read as strictly as a message from the network,
  and what it may say is bounded by what would have been kept.
* Set-Cookie is not kept: a session is not to be had twice, nor to lie in a store.
"""

import hashlib
import re
from collections import OrderedDict
from enum import StrEnum
from http import HTTPStatus
from typing import Final, NamedTuple

KEY: Final = b"idempotency-key"
LONGEST_KEY: Final = 255
LARGEST: Final = 1_048_576
"""Bytes of the largest answer that any policy keeps; what was kept under another policy stays good."""
LEASE: Final = 10.0
"""Seconds that a leader is believed to live without a word; it renews three times as often."""
REPLAYED: Final = b"idempotent-replayed: true\r\n"
"""Line of an answer that was given before."""

_QUOTED: Final = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\]){1,512})" *(?:;[ -~]*)?')
"""A String with its parameters, which mean nothing here (RFC 9651 section 3.3.3)."""
_BARE: Final = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,255}")
"""What clients send that do not know the draft: a UUID, an order's number, a hash."""

_MAGIC: Final = b"nova1"
_TOKEN: Final = 16
_PRINT: Final = 32
_FIXED: Final = len(_MAGIC) + 1 + _PRINT
_MOST_FIELDS: Final = 100
_LONGEST_HEAD: Final = 32 * 1024
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+[\t\x20-\x7e\x80-\xff]*+")
_NOT_KEPT: Final = frozenset(
    (
        b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"set-cookie", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"x-nova-reject", b"x-nova-retried", b"idempotent-replayed",
    )
)  # fmt: skip
"""Fields that frame a message, belong to a connection or a person, or are Nova's own word."""
_COME_AGAIN: Final = frozenset((401, 407, 408, 421, 425, 429))
_NO_CONTENT: Final = frozenset((204, 304))

LONGEST_VALUE: Final = _FIXED + 8 + _LONGEST_HEAD + LARGEST
"""Bytes of the longest value that `encode` makes; what is longer, Nova has not written."""


class Result(StrEnum):
    """What became of a request with a key; the value is what people see in metrics."""

    FIRST = "first"  # went to the app
    REPLAYED = "replayed"
    CONFLICT = "conflict"  # the first one is under way, or has left no answer
    MISMATCH = "mismatch"  # the key belongs to another request
    INVALID = "invalid"  # none where one is required, or none that can be one
    UNGUARDED = "unguarded"  # went to the app, known to this pod alone since the store is lost
    STORE_LOST = "store_lost"  # refused for that
    ENDED = "ended"  # its caller, or its time, was gone while it waited


class Kept(StrEnum):
    """What became of a leader's answer; the value is what people see in metrics."""

    STORED = "stored"
    SPENT = "spent"  # the request has acted, and there is no answer to repeat: too large, or cut off
    FREED = "freed"  # a 5xx, a refusal, a status that asks to come again: it may be repeated
    OVERTAKEN = "overtaken"  # the lease had run out, and somebody else has it
    LOCAL = "local"  # kept in this pod alone, for want of a store


class HostileError(ValueError):
    """A value in the store that Nova has not written so; the message says what is wrong and has nothing of it."""


class Lease(NamedTuple):
    """Somebody is at it: a token of theirs, and what they were asked."""

    token: bytes
    fingerprint: bytes


class Spent(NamedTuple):
    """It was done, and its answer cannot be repeated."""

    fingerprint: bytes


class Record(NamedTuple):
    """An answer as it is kept. `fields` is its lines, each with CRLF, without those that frame it."""

    fingerprint: bytes
    status: int
    fields: bytes
    body: bytes

    def head(self) -> bytes:
        """Status line and fields for the client, each with its CRLF."""
        length = b"" if self.status in _NO_CONTENT else b"content-length: %d\r\n" % len(self.body)
        return b"HTTP/1.1 %d %b\r\n%b%b%b" % (self.status, _phrase(self.status), self.fields, length, REPLAYED)


Remembered = Lease | Spent | Record


# --- of a request


def parse_key(value: bytes) -> bytes | None:
    """The key in a field's value, 1 to 255 characters; None where there is none. A String as the draft wants it, or the
    same without quotes as most clients send it; two fields make a list, which is neither."""
    if _BARE.fullmatch(value):
        return value
    match = _QUOTED.fullmatch(value)
    if match is None:
        return None
    key = match.group(1).replace(b'\\"', b'"').replace(b"\\\\", b"\\") if b"\\" in match.group(1) else match.group(1)
    return key if len(key) <= LONGEST_KEY else None


def scope(key: bytes, method: bytes, host: bytes, path: bytes, identity: bytes, *, port: bytes) -> str:
    """What a key stands for, 64 hexadecimal digits; nothing of it can be read back."""
    return _hash(key, port, method, host.lower(), path, identity).hex()


def identity(*, subject: bytes, tenant: bytes, shown: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Who asks: what was verified, or, where nobody was, the fields that were shown (name and value)."""
    if subject:
        return _hash(b"subject", tenant, subject)
    return _hash(b"shown", tenant, *(part for field in shown for part in field))


def fingerprint(query: bytes, body: bytes | None, length: int) -> bytes:
    """What a request says, 32 bytes. `body` None: it is larger than is compared, and counts by its length alone."""
    if body is None:
        return _hash(b"long", query, b"%d" % length)
    return _hash(b"body", query, body)


def _hash(*parts: bytes) -> bytes:
    """Each part with its length in front, so that no two lists of parts say the same."""
    made = hashlib.sha256()
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


# --- of an answer


def storable(status: int) -> bool:
    """Whether an answer with this status is the request's last word."""
    return 200 <= status < 500 and status not in _COME_AGAIN


def kept_fields(head: bytes) -> bytes | None:
    """Of an answer's head as it goes on (status line, then fields, each with CRLF), the fields that are kept; None
    where they are too many or too long."""
    lines = head.split(b"\r\n")[1:-1]
    kept = [line for line in lines if line.partition(b":")[0].lower() not in _NOT_KEPT]
    fields = b"".join(line + b"\r\n" for line in kept)
    return fields if len(kept) <= _MOST_FIELDS and len(fields) <= _LONGEST_HEAD else None


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


# --- as it is stored


def encode(remembered: Remembered) -> bytes:
    """The value for the store."""
    if isinstance(remembered, Lease):
        return b"".join((_MAGIC, b"L", remembered.fingerprint, remembered.token))
    if isinstance(remembered, Spent):
        return b"".join((_MAGIC, b"S", remembered.fingerprint))
    sizes = b"%03d%05d" % (remembered.status, len(remembered.fields))
    return b"".join((_MAGIC, b"R", remembered.fingerprint, sizes, remembered.fields, remembered.body))


def decode(value: bytes, most: int = LARGEST) -> Remembered:
    """What a value of the store says; a record's body has `most` bytes at most. Raises HostileError."""
    kind, content = value[len(_MAGIC) : len(_MAGIC) + 1], value[_FIXED:]
    if value[: len(_MAGIC)] != _MAGIC or len(value) < _FIXED:
        raise HostileError("expected a value of this policy")
    print_ = value[len(_MAGIC) + 1 : _FIXED]
    if kind == b"L" and len(content) == _TOKEN:
        return Lease(content, print_)
    if kind == b"S" and not content:
        return Spent(print_)
    if kind != b"R":
        raise HostileError("expected a lease, a spent key or an answer")
    return _record(print_, content, most)


def _record(print_: bytes, content: bytes, most: int) -> Record:
    sizes = content[:8]
    if len(sizes) < 8 or not sizes.isdigit():
        raise HostileError("expected a status and a length")
    status, length = int(sizes[:3]), int(sizes[3:])
    fields, body = content[8 : 8 + length], content[8 + length :]
    if not storable(status):
        raise HostileError("expected a status that is kept")
    if len(fields) < length or length > _LONGEST_HEAD or len(body) > most:
        raise HostileError("expected an answer that would have been kept")
    if status in _NO_CONTENT and body:
        raise HostileError("expected no content with this status")
    _check(fields)
    return Record(print_, status, fields, body)


def _check(fields: bytes) -> None:
    if not fields:
        return
    *lines, last = fields.split(b"\r\n")
    if last or len(lines) > _MOST_FIELDS:
        raise HostileError("expected whole lines")
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or match.group(1).lower() in _NOT_KEPT:
            raise HostileError("expected fields that are kept")


# --- without a store


class LocalRecords:
    """What one sidecar remembers by itself, as far as memory allows. `most` bytes; the longest untouched leave.

    Values are those of `encode`; `now` in seconds on a clock that does not step.
    """

    __slots__ = ("_most", "_values", "size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.size = 0
        """Bytes in use."""

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, now: float) -> bytes | None:
        """What stands under a name."""
        found = self._values.get(name)
        if found is None:
            return None
        if now >= found[1]:
            self.drop(name)
            return None
        return found[0]

    def put(self, name: str, value: bytes, seconds: float, now: float) -> None:
        """Remember it for so long, unless it alone is too much."""
        self.drop(name)
        if len(value) > self._most:
            return
        self._values[name] = (value, now + seconds)
        self.size += len(value)
        while self.size > self._most:
            self.drop(next(iter(self._values)))

    def drop(self, name: str) -> None:
        """Forget it."""
        found = self._values.pop(name, None)
        if found is not None:
            self.size -= len(found[0])

    def __repr__(self) -> str:
        return f"<LocalRecords {len(self._values)} names, {self.size} bytes>"
