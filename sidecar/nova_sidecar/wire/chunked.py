"""The chunked coding (RFC 9112 section 7.1), read strictly and written anew.

Bodies are never passed on as they came: sizes are checked, extensions dropped and the chunks framed again, so that no
two parsers can disagree on where the message ends. A chunk that arrives in pieces goes on in pieces, at once.
"""

import re
from typing import Final

from nova_sidecar.wire.fields import HOP_BY_HOP, FieldTable, joined
from nova_sidecar.wire.grammar import Malformed

MAX_SIZE_LINE: Final = 256
"""Bytes of the line that holds a chunk's size and extensions."""
MAX_TRAILERS: Final = 8 * 1024
"""Bytes of the trailer section."""
LAST_CHUNK: Final = b"0\r\n"

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15}+)[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_FIELDS: Final = FieldTable(
    noted=frozenset(),
    dropped=HOP_BY_HOP
    | {b"content-length", b"host", b"trailer", b"content-encoding", b"content-type", b"authorization", b"cookie"},
)
"""Fields that frame, route or authenticate do not belong into trailers (RFC 9110 section 6.5.1)."""

_SIZE_LINE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


def chunk(data: bytes) -> bytes:
    """One chunk that holds the data, which must not be empty: an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedReader:
    """Takes the bytes of one chunked body and gives its content. `rest` is what came after its end."""

    __slots__ = ("_buffer", "_left", "_state", "rest", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE_LINE
        self._left = 0
        self._buffer = b""
        self.rest = b""
        self.trailers = b""
        """Trailer fields ready to be written, without the final empty line."""

    @property
    def done(self) -> bool:
        """Whether the body is complete, trailers included."""
        return self._state == _DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The content in these bytes, in pieces. Raises Malformed; nothing may be fed after the end."""
        pieces: list[bytes] = []
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at = 0
        while self._state != _DONE:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                if not piece:
                    return pieces
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return pieces
                self._state = _DATA_END
            step = self._step(data, at)
            if step < 0:
                self._buffer = data[at:]
                return pieces
            at = step
        self.rest = data[at:]
        return pieces

    def _step(self, data: bytes, at: int) -> int:
        """Read one line or the trailers from `at`; the position after it, or -1 when more bytes are needed."""
        if self._state == _SIZE_LINE:
            return self._size_line(data, at)
        if self._state == _DATA_END:
            end = data[at : at + 2]
            if end != b"\r\n"[: len(end)]:
                raise Malformed("a chunk is longer than its size")
            if len(end) < 2:
                return -1
            self._state = _SIZE_LINE
            return at + 2
        return self._trailer_section(data, at)

    def _size_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + MAX_SIZE_LINE)
        if end < 0:
            seen = data[at : at + MAX_SIZE_LINE]
            if len(seen) == MAX_SIZE_LINE or b"\n" in seen:
                raise Malformed("a chunk size line is too long or ends with a bare LF")
            return -1
        match = _SIZE.fullmatch(data, at, end)
        if match is None:
            raise Malformed("a chunk size is not a hexadecimal number")
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILERS
        return end + 2

    def _trailer_section(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._state = _DONE
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        if end < 0:
            seen = data[at : at + MAX_TRAILERS]
            if len(seen) == MAX_TRAILERS or b"\n" in seen.replace(b"\r\n", b""):
                raise Malformed("the trailer section is too long or has a bare LF")
            return -1
        block = data[at : end + 4]
        self.trailers = joined(_TRAILER_FIELDS.sort(block[:-4].split(b"\r\n"))[0])
        self._state = _DONE
        return end + 4
