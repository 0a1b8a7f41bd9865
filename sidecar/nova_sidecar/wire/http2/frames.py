"""HTTP/2 frames (RFC 9113 sections 4 and 6): reading them from a connection's bytes, and writing them.

Nearly all frames are DATA and HEADERS without padding, whole in the chunk that brought them: for those the reader does
one unpacking, a few comparisons and one slice (0.3 µs a frame). Everything else goes through `_unusual`, which checks
what the frame alone can tell: sizes, stream ids, padding, and that nothing comes between the frames of a header block.

A header block is handed on whole, as one HEADERS item, so its length is bounded here. What may come without end for
nothing (PING, SETTINGS, empty frames) is counted where connections live, see `policy.flood`.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 section 3.4)."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

SMALLEST_MAX_FRAME: Final = 16_384
LARGEST_MAX_FRAME: Final = 16_777_215
LARGEST_WINDOW: Final = 2_147_483_647
DEFAULT_WINDOW: Final = 65_535

MAX_BLOCK: Final = 64 * 1024
"""Bytes of one header block, compressed."""
MAX_CONTINUATIONS: Final = 16
"""CONTINUATION frames of one header block; an honest sender needs as many as the block has times 16 KiB."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):  # noqa: N818 - it names whose end it means
    """The peer broke the protocol in a way that ends the connection: the code for GOAWAY, and why, for the log."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        self.code = code
        self.why = why
        super().__init__(why)


class StreamFault(Exception):  # noqa: N818 - it names whose end it means
    """The peer broke the protocol in a way that ends one stream: the code for RST_STREAM, and why, for the log."""

    def __init__(self, stream: int, code: ErrorCode, why: str) -> None:
        self.stream = stream
        self.code = code
        self.why = why
        super().__init__(why)


Frame = tuple[int, int, int, bytes, int]
"""Type, flags, stream, payload, and the bytes that count for flow control (DATA: padding included).

The payload of DATA and HEADERS is without padding and priority, that of HEADERS is the whole header block, whatever
frames it came in. Types above CONTINUATION are extensions: to be ignored (RFC 9113 section 5.5)."""

_HEADER: Final = Struct(">HBBBL")
_unpack: Final = _HEADER.unpack_from
pack: Final = _HEADER.pack
"""`frame_header` for whoever cannot pay for a call: length >> 8, length & 0xFF, type, flags, stream."""
_LONG: Final = Struct(">L")
_SETTING: Final = Struct(">HL")

_UNUSUAL_FLAGS: Final = PADDED | PRIORITIZED
_OWN_STREAM: Final = 0x8000_0001  # reserved bit and parity
_STREAM_BITS: Final = 0x7FFF_FFFF
_BEGINNING: Final = -1

_EXACT: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM: Final = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION))
_ON_CONNECTION: Final = frozenset((SETTINGS, PING, GOAWAY))


class FrameReader:
    """Takes the bytes of one direction of a connection and gives its frames.

    `max_frame` is what this side announced as SETTINGS_MAX_FRAME_SIZE. With `preface` the peer is a client, whose bytes
    begin with `PREFACE`. The first frame must be SETTINGS (RFC 9113 section 3.4). Push is never enabled here, so all
    streams are the client's and have odd numbers in both directions.
    """

    __slots__ = ("_block", "_continuations", "_flags", "_special", "_tail", "_unread_preface", "max_frame")

    def __init__(self, max_frame: int = SMALLEST_MAX_FRAME, *, preface: bool = False) -> None:
        self.max_frame = max_frame
        self._unread_preface = PREFACE if preface else b""
        self._tail = b""
        self._special = _BEGINNING  # 0: usual; above: the stream whose header block is incomplete
        self._block = b""
        self._flags = 0
        self._continuations = 0

    @property
    def tail(self) -> int:
        """Bytes kept of a frame or header block that is not complete."""
        return len(self._tail) + len(self._block)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes.

        Raises ConnectionFault in its place among them, after which nothing may be fed. It must be iterated to its end:
        what is left is kept only then.
        """
        if self._unread_preface:
            data = self._read_preface(data)
        elif self._tail:
            data = self._tail + data
        at, end = 9, len(data)  # `at` is where a payload begins
        max_frame, unpack = self.max_frame, _unpack
        while at <= end:
            high, low, kind, flags, stream = unpack(data, at - 9)
            length = high << 8 | low
            after = at + length
            if length > max_frame:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than announced")
            if after > end:
                break
            if (
                kind < 2
                and stream & _OWN_STREAM == 1
                and not flags & _UNUSUAL_FLAGS
                and (flags & END_HEADERS or not kind)
                and not self._special
            ):
                yield kind, flags, stream, data[at:after], length
            elif (frame := self._unusual(kind, flags, stream & _STREAM_BITS, data[at:after])) is not None:
                yield frame
            at = after + 9
        self._tail = data[at - 9 :] if at > 9 else data

    def _read_preface(self, data: bytes) -> bytes:
        """What follows the preface in these bytes. Raises ConnectionFault."""
        expected = self._unread_preface
        seen = data[: len(expected)]
        if not expected.startswith(seen):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with the HTTP/2 preface")
        self._unread_preface = expected[len(seen) :]
        return data[len(seen) :]

    def _unusual(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        """Check a frame in full; None when it is only a part of a header block."""
        length = len(payload)
        if self._special:
            if self._special == _BEGINNING:
                if kind != SETTINGS or flags & ACK:
                    raise _broken("the first frame is not SETTINGS")
                self._special = 0
            elif kind != CONTINUATION or stream != self._special:
                raise _broken("another frame within a header block")
            else:
                return self._continue(flags, payload)
        elif kind == CONTINUATION:
            raise _broken("CONTINUATION without a header block to continue")
        _check_stream(kind, stream)
        _check_size(kind, flags, length)
        if kind < 2:
            if flags & PADDED:
                payload = _unpadded(payload)
            if kind == HEADERS:
                if flags & PRIORITIZED:
                    payload = _without_priority(payload)
                if not flags & END_HEADERS:
                    self._special, self._flags, self._block, self._continuations = stream, flags, payload, 0
                    return None
        return kind, flags, stream, payload, length

    def _continue(self, flags: int, payload: bytes) -> Frame | None:
        self._continuations += 1
        if self._continuations > MAX_CONTINUATIONS or len(self._block) + len(payload) > MAX_BLOCK:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long or in too many pieces")
        self._block += payload
        if not flags & END_HEADERS:
            return None
        block, stream = self._block, self._special
        self._block, self._special = b"", 0
        return HEADERS, self._flags | END_HEADERS, stream, block, len(block)


def _broken(why: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, why)


def _check_stream(kind: int, stream: int) -> None:
    """Raises ConnectionFault where a frame of this kind cannot be on this stream."""
    if kind == PUSH_PROMISE:
        raise _broken("PUSH_PROMISE, though push is off")
    if stream:
        if kind in _ON_CONNECTION:
            raise _broken("a frame for the connection names a stream")
        if not stream & 1 and kind < CONTINUATION and kind != PRIORITY:
            raise _broken("a frame on a stream that only a server could have opened")
    elif kind in _ON_STREAM:
        raise _broken("a frame for a stream names none")


def _check_size(kind: int, flags: int, length: int) -> None:
    """Raises ConnectionFault for a frame whose type fixes its size. That PRIORITY of a wrong size could end the stream
    alone is waived (RFC 9113 section 5.4.1): nobody sends it by accident."""
    exact = _EXACT.get(kind)
    if exact is None:
        wrong = (length if flags & ACK else length % 6) if kind == SETTINGS else kind == GOAWAY and length < 8
    else:
        wrong = length != exact
    if wrong:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "the length of a frame does not fit its type")


def _unpadded(payload: bytes) -> bytes:
    """The payload without padding (RFC 9113 section 6.1). Raises ConnectionFault."""
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = payload[0]
    if padding >= len(payload):
        raise _broken("a frame holds less than its padding")
    return payload[1 : len(payload) - padding]


def _without_priority(payload: bytes) -> bytes:
    """The header block behind the priority fields, which are ignored (RFC 9113 section 5.3.2)."""
    if len(payload) < 5:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority fields")
    return payload[5:]


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values, in order, unknown ones left out. Raises ConnectionFault (RFC 9113 section 6.5.2)."""
    found = []
    for name, value in _SETTING.iter_unpack(payload):
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if (name == ENABLE_PUSH and value > 1) or (
            name == MAX_FRAME_SIZE and not SMALLEST_MAX_FRAME <= value <= LARGEST_MAX_FRAME
        ):
            raise _broken("a setting has a value it cannot have")
        if HEADER_TABLE_SIZE <= name <= MAX_HEADER_LIST_SIZE:
            found.append((name, value))
    return found


def read_increment(stream: int, payload: bytes) -> int:
    """Bytes that WINDOW_UPDATE adds, 1 to 2^31-1. Raises StreamFault, or ConnectionFault on stream 0, for none."""
    increment: int = _LONG.unpack(payload)[0] & _STREAM_BITS
    if not increment:
        if stream:
            raise StreamFault(stream, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE adds nothing")
        raise _broken("WINDOW_UPDATE adds nothing")
    return increment


def read_code(payload: bytes) -> int:
    """The error code of RST_STREAM; unknown codes are no fault (RFC 9113 section 7)."""
    code: int = _LONG.unpack(payload)[0]
    return code


def read_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Last stream, error code and debug data of GOAWAY."""
    return _LONG.unpack_from(payload)[0] & _STREAM_BITS, _LONG.unpack_from(payload, 4)[0], payload[8:]


def frame_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before a payload."""
    return pack(length >> 8, length & 0xFF, kind, flags, stream)


def data(stream: int, payload: bytes, *, end: bool = False) -> bytes:
    """One DATA frame; the payload must fit the peer's frame size."""
    return frame_header(len(payload), DATA, END_STREAM if end else 0, stream) + payload


def headers(stream: int, block: bytes, *, end: bool, max_frame: int = SMALLEST_MAX_FRAME) -> bytes:
    """HEADERS, and CONTINUATION where the block is longer than the peer's frame size."""
    flags = END_STREAM if end else 0
    if len(block) <= max_frame:
        return frame_header(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [frame_header(max_frame, HEADERS, flags, stream) + block[:max_frame]]
    for at in range(max_frame, len(block), max_frame):
        part = block[at : at + max_frame]
        last = END_HEADERS if at + max_frame >= len(block) else 0
        parts.append(frame_header(len(part), CONTINUATION, last, stream) + part)
    return b"".join(parts)


def settings(values: dict[int, int]) -> bytes:
    """SETTINGS with these identifiers and values."""
    return frame_header(6 * len(values), SETTINGS, 0, 0) + b"".join(_SETTING.pack(*pair) for pair in values.items())


SETTINGS_ACK: Final = frame_header(0, SETTINGS, ACK, 0)


def settings_ack() -> bytes:
    """The acknowledgement of SETTINGS."""
    return SETTINGS_ACK


def ping(opaque: bytes, *, ack: bool = False) -> bytes:
    """PING with eight bytes."""
    return frame_header(8, PING, ACK if ack else 0, 0) + opaque


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY: streams above `last_stream` were not and will not be looked at."""
    return frame_header(8 + len(debug), GOAWAY, 0, 0) + _LONG.pack(last_stream) + _LONG.pack(code) + debug


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame_header(4, RST_STREAM, 0, stream) + _LONG.pack(code)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return frame_header(4, WINDOW_UPDATE, 0, stream) + _LONG.pack(increment)
