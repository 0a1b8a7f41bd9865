"""Header compression (RFC 7541): blocks to fields with the peer's dynamic table, and fields to blocks without one.

Decoding. gRPC calls come in two kinds. Clients without tracing send the same few bytes in each call: a block decoded
before, under a table that has not changed since, is one look-up. Clients with tracing put a `traceparent` and a
`grpc-timeout` of its own into each call and into the table, so every index in every block is another: such blocks are
decoded field by field, which has to be quick. For that both tables are one list, with the static one reversed at its
end: index i is `table[-i]`, whichever table it belongs to. Strings that repeat are remembered, see `huffman`.
The first kind takes 0.1 µs, the second 5 µs for eleven fields of which two are new; PyPI's hpack takes 32 µs for those.

Encoding. Static indices, and literals that no table takes up, without Huffman: a block depends on nothing but its
fields, can be remembered, and takes another field by having its bytes appended.
"""

from typing import Final

from nova_sidecar.wire.http2 import huffman
from nova_sidecar.wire.http2.frames import ConnectionFault, ErrorCode
from nova_sidecar.wire.http2.secret import Secret
from nova_sidecar.wire.http2.static import NAMES, PAIRS, STATIC, Field

Fields = tuple[Field, ...]

DEFAULT_TABLE: Final = 4096
"""Bytes of the dynamic table that hold until SETTINGS say otherwise (RFC 9113 section 6.5.2)."""
ENTRY_COST: Final = 32
"""What a field counts beside its name and value (RFC 7541 section 4.1)."""

_STATIC: Final = len(STATIC)
_LARGEST_STATIC: Final = max(len(name) + len(value) + ENTRY_COST for name, value in STATIC)
_MEMO_BYTES: Final = 16 * 1024
_LONGEST_INTEGER: Final = 4  # bytes behind the prefix: indices and lengths up to 256 MiB
_MOST_UPDATES: Final = 2  # the smallest size and the last one (RFC 7541 section 4.2)
_SECRET_NAMES: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))


class ListTooLarge(Exception):  # noqa: N818 - it names what the message is
    """A header list over its limit (RFC 9113 section 10.5.1). The table is as it should be: only the stream suffers."""


class Decoder:
    """Decodes the header blocks of one direction of a connection, in order.

    `max_table` is what this side announced as SETTINGS_HEADER_TABLE_SIZE, at least 4096: a peer may use that much
    before it has read the announcement. `max_list` bounds the list that one block may become, names, values and 32
    bytes for each field together.
    """

    __slots__ = (
        "_largest",
        "_limit",
        "_max_list",
        "_max_table",
        "_memo",
        "_memo_room",
        "_table",
        "_used",
        "generation",
    )

    def __init__(self, max_table: int = DEFAULT_TABLE, max_list: int = 65_536) -> None:
        if max_table < DEFAULT_TABLE:
            raise ValueError("a peer may use a table of 4096 bytes before it learns otherwise")
        self._max_table = max_table
        self._max_list = max_list
        self._limit = DEFAULT_TABLE
        self._table: list[Field] = list(reversed(STATIC))  # oldest, ..., newest, static 61, ..., static 1
        self._used = 0
        self._largest = _LARGEST_STATIC  # no entry was ever larger
        self._memo: dict[bytes, Fields] = {}
        self._memo_room = _MEMO_BYTES
        self.generation = 0
        """How often the dynamic table has changed."""

    def decode(self, block: bytes) -> Fields:
        """The fields of a block, in order; the same object for the same block, as long as the table stays the same.

        Raises ConnectionFault, after which the decoder is of no use, or ListTooLarge, after which it is.
        """
        found = self._memo.get(block)
        if found is not None:
            return found
        generation = self.generation
        try:
            fields = self._fields(block)
        except IndexError:
            raise _fault("a header block ends too early or has an index that is in no table") from None
        changed = generation != self.generation
        if changed and self._memo:
            self._forget()
        if len(fields) * self._largest + 2 * len(block) > self._max_list:
            self._check_list(fields)
        found = tuple(fields)
        if not changed:
            self._memo_room -= len(block) + ENTRY_COST
            if self._memo_room < 0:
                self._forget()
            self._memo[block] = found
        return found

    def _fields(self, block: bytes) -> list[Field]:  # noqa: PLR0912, PLR0915 - one loop: calls would cost a third more
        fields: list[Field] = []
        append, table = fields.append, self._table
        at, end, updates = 0, len(block), 0
        while at < end:
            byte = block[at]
            at += 1
            if byte > 0x80:  # a whole field from a table
                if byte == 0xFF:
                    index, at = _integer(block, at, 0x7F)
                    append(table[-index])
                else:
                    append(table[128 - byte])
                continue
            if byte >= 0x40:
                if byte == 0x80:
                    raise _fault("an index of zero")
                prefix = byte & 0x3F
                index, at = _integer(block, at, 0x3F) if prefix == 0x3F else (prefix, at)
            elif byte < 0x20:
                prefix = byte & 0xF
                index, at = _integer(block, at, 0xF) if prefix == 0xF else (prefix, at)
            else:
                if fields or updates == _MOST_UPDATES:
                    raise _fault("a table size update that does not stand first, or one too many")
                updates += 1
                at = self._resize(block, at - 1)
                continue
            if index:
                name = table[-index][0]
            else:
                name, at = _string(block, at)
            length = block[at]  # `_string`, without the price of a call
            start = at + 1
            if length & 0x7F == 0x7F:
                length, start = _integer(block, start, 0x7F)
                coded = block[at] & 0x80
                at = start + length
            else:
                coded = length & 0x80
                at = start + (length & 0x7F)
            value = block[start:at]
            if at > end:
                raise IndexError
            if byte < 0x40:
                if coded:
                    value = huffman.decode(value)
                append((name, Secret(value) if byte >= 0x10 else value))
                continue
            if coded:
                value = huffman.decode_new(value)  # if it comes again, it comes from the table
            field = (name, value)
            append(field)
            # Add the entry; the oldest make room (RFC 7541 section 4.4).
            size = len(name) + len(value) + ENTRY_COST
            self._used += size
            if self._used > self._limit:
                if size > self._limit:
                    self._used -= size
                    self._evict(0)  # one larger than the table empties it
                    continue
                self._evict(self._limit)
            if size > self._largest:  # noqa: PLR1730 - max() would be a call
                self._largest = size
            table.insert(-_STATIC, field)
            self.generation += 1
        return fields

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until the others take no more than this."""
        table, used = self._table, self._used
        while used > room:
            name, value = table.pop(0)
            used -= len(name) + len(value) + ENTRY_COST
        self._used = used
        self.generation += 1

    def _resize(self, block: bytes, at: int) -> int:
        """Take over a table size update; the position after it (RFC 7541 section 6.3)."""
        size, at = block[at] & 0x1F, at + 1
        if size == 0x1F:
            size, at = _integer(block, at, 0x1F)
        if size > self._max_table:
            raise _fault("a table size above the one announced")
        self._limit = size
        self._evict(size)
        return at

    def _forget(self) -> None:
        self._memo.clear()
        self._memo_room = _MEMO_BYTES

    def _check_list(self, fields: list[Field]) -> None:
        if sum(len(name) + len(value) for name, value in fields) + ENTRY_COST * len(fields) > self._max_list:
            raise ListTooLarge(f"the header list is larger than {self._max_list} bytes")

    def __repr__(self) -> str:
        return f"<Decoder entries={len(self._table) - _STATIC} used={self._used}/{self._limit}>"


def _fault(why: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, why)


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was full, and the position after it (RFC 7541 section 5.1)."""
    value, shift = prefix, 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= 7 * _LONGEST_INTEGER:
            raise _fault("an integer is too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string and the position after it (RFC 7541 section 5.2)."""
    length = block[at]
    at += 1
    coded = length & 0x80
    length &= 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    text = block[at : at + length]
    at += length
    if at > len(block):
        raise IndexError
    return huffman.decode(text) if coded else text, at


def _prefixed(value: int, prefix: int, pattern: int) -> bytes:
    """An integer behind a pattern of bits (RFC 7541 section 5.1); `prefix` is its largest value there."""
    if value < prefix:
        return bytes((pattern | value,))
    octets = bytearray((pattern | prefix,))
    value -= prefix
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_SHORT: Final = tuple(bytes((length,)) for length in range(0x7F))
_INDEXED: Final = {field: bytes((0x80 | index,)) for field, index in PAIRS.items()}
_WITHOUT_INDEXING, _NEVER_INDEXED = 0x00, 0x10
_NAMES: Final = 512
_LONGEST_NAME: Final = 64
_names: Final[dict[bytes, bytes]] = {}
"""First halves of literals, for the names that were used last."""


def text(value: bytes) -> bytes:
    """A string with its length, not Huffman-coded."""
    length = len(value)
    return (_SHORT[length] if length < 0x7F else _prefixed(length, 0x7F, 0)) + value


def literal_name(name: bytes) -> bytes:
    """The first half of `literal`: what stays the same while values change. The value follows as `text`."""
    found = _names.get(name)
    if found is None:
        found = _named(name, _NEVER_INDEXED if name in _SECRET_NAMES else _WITHOUT_INDEXING)
        if len(name) <= _LONGEST_NAME:
            if len(_names) >= _NAMES:
                _names.clear()
            _names[name] = found
    return found


def _named(name: bytes, pattern: int) -> bytes:
    index = NAMES.get(name)
    return _prefixed(index, 0xF, pattern) if index else bytes((pattern,)) + text(name)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that no table takes up; credentials and cookies are marked so for all hops that follow."""
    length = len(value)
    start = _names.get(name) or literal_name(name)
    return start + (_SHORT[length] if length < 0x7F else _prefixed(length, 0x7F, 0)) + value


def literals(lines: bytes) -> bytes:
    """The fields of HTTP/1.1's form, each line with its CRLF and its name in lower case."""
    return b"".join([literal(*line.split(b": ", 1)) for line in lines.split(b"\r\n")[:-1]])


def never_indexed(name: bytes, value: bytes) -> bytes:
    """A field that no table on the way may take up (RFC 7541 section 7.1.3)."""
    return _named(name, _NEVER_INDEXED) + text(value)


def encode(fields: Fields | list[Field]) -> bytes:
    """A block for these fields, which any decoder reads in any state."""
    return b"".join([encode_field(name, value) for name, value in fields])


def encode_field(name: bytes, value: bytes) -> bytes:
    """One field of such a block; what came as never to be indexed stays so."""
    if type(value) is Secret:
        return never_indexed(name, value)
    return _INDEXED.get((name, value)) or literal(name, value)
