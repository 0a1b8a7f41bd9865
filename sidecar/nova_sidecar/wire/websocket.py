"""Where frames and messages of a WebSocket end (RFC 6455 section 5), told without looking at what is in them.

    FIN RSV opcode │ MASK length │ 2 or 8 bytes more of length │ 4 bytes of mask │ payload
    one byte       │ one byte    │ when length is 126 or 127   │ when MASK is set │ skipped by arithmetic

A message is one frame with FIN, or a first frame without it and continuations up to one with it; control frames
(close, ping, pong) may stand between its fragments. The reserved bits belong to extensions (permessage-deflate marks
compressed messages with RSV1), and no extension moves a frame's end, so they are let through.

A tracker that meets what the RFC forbids has lost the track, for good: nobody can say where such a stream's next
message ends. It costs a fixed price per frame and none per byte, and holds at most an incomplete frame head.
"""

from enum import Enum
from typing import Final

CLOSE: Final = 8
_PONG: Final = 10
_BINARY: Final = 2
_FIN: Final = 0x80
_MASK: Final = 0x80
_TWO_BYTES: Final = 126
_LONGEST_HEAD: Final = 14
_SHORT_HEAD: Final = 6
_WHOLE: Final = bytes(_FIN | reserved << 4 | opcode for reserved in range(8) for opcode in (1, _BINARY))
"""First bytes of messages of one frame."""
_BETWEEN: Final = -1


class Stop(Enum):
    """Where `FrameTracker.feed` looks no further."""

    MESSAGE_END = "message end"  # behind the first frame after which no message is under way
    CLOSE = "close"  # before the first byte of a close frame


class FrameTracker:
    """One direction of one WebSocket; `masked` says whether it is the client's (section 5.1: only those are masked).

    A small message costs about 0.8 µs.
    """

    __slots__ = ("_fragmented", "_head", "_left", "_mask", "closing", "lost")

    def __init__(self, *, masked: bool) -> None:
        self._mask = _MASK if masked else 0
        self._head = b""
        self._left = _BETWEEN  # bytes of the present frame's payload
        self._fragmented = False
        self.closing = False
        """Whether a close frame has begun; what follows it means nothing (section 5.5.1)."""
        self.lost = False
        """Whether the stream broke the RFC."""

    @property
    def between_frames(self) -> bool:
        """Whether a control frame may be put in here."""
        return self._left < 0 and not self._head and not self.lost and not self.closing

    @property
    def ended(self) -> bool:
        """Whether its close frame is complete."""
        return self.closing and self._left < 0 and not self._head

    @property
    def between_messages(self) -> bool:
        """Whether the stream may be ended here without cutting a message."""
        return self.between_frames and not self._fragmented

    def feed(self, data: bytes, stop: Stop | None = None) -> int:
        """Follow the stream over `data`; returns how far: to its end, or to the first place that `stop` names."""
        size, at, left = len(data), 0, self._left
        if self.lost:
            return size
        while True:
            if left >= 0:
                at += left
                if at > size:
                    self._left = at - size
                    return size
                self._left = left = _BETWEEN
                if stop is Stop.MESSAGE_END and not self._fragmented:
                    return at
            if at == size or self.closing:
                return size
            if stop is Stop.CLOSE and not self._head and data[at] & 15 == CLOSE:
                return at
            if size - at >= _SHORT_HEAD and not self._head and not self._fragmented and data[at] in _WHOLE:
                left = data[at + 1] ^ self._mask  # the fast path: a short message in one frame
                if left < _TWO_BYTES:
                    at += _SHORT_HEAD if self._mask else 2
                    continue
            taken, left = self._read_head(data, at)
            if left < 0:
                return size
            at += taken

    def _read_head(self, data: bytes, at: int) -> tuple[int, int]:
        """How many bytes of `data` the frame's head takes, and the length of its payload; -1 where there is none yet,
        or never will be."""
        known = len(self._head)
        head = self._head + data[at : at + _LONGEST_HEAD - known]
        if len(head) < 2:
            self._head = head
            return 0, _BETWEEN
        length = head[1] & 127
        taken = 2
        if length >= _TWO_BYTES:
            taken = 4 if length == _TWO_BYTES else 10
            if len(head) < taken:
                self._head = head
                return 0, _BETWEEN
            length = int.from_bytes(head[2:taken])
        if not self._accept(head[0], head[1], length):
            self.lost = True
            self._head = b""
            return 0, _BETWEEN
        taken += 4 if self._mask else 0
        if len(head) < taken:
            self._head = head
            return 0, _BETWEEN
        self._begin(head[0])
        self._head = b""
        return taken - known, length

    def _accept(self, first: int, second: int, length: int) -> bool:
        """Whether a frame may begin like this, here (sections 5.2, 5.4 and 5.5)."""
        opcode = first & 15
        spelled = second & 127
        if second & _MASK != self._mask:
            return False
        if opcode >= CLOSE:
            return opcode <= _PONG and first >= _FIN and spelled < _TWO_BYTES and (opcode, spelled) != (CLOSE, 1)
        if opcode > _BINARY or (opcode == 0) is not self._fragmented:
            return False
        if spelled < _TWO_BYTES:
            return True  # section 5.2: otherwise "the minimal number of bytes MUST be used", and at most 63 bits
        return _TWO_BYTES <= length < 1 << 16 if spelled == _TWO_BYTES else 1 << 16 <= length < 1 << 63

    def _begin(self, first: int) -> None:
        opcode = first & 15
        if opcode < CLOSE:
            self._fragmented = first < _FIN
        elif opcode == CLOSE:
            self.closing = True

    def __repr__(self) -> str:
        state = "lost" if self.lost else "closing" if self.closing else "in a frame" if not self.between_frames else ""
        return f"<FrameTracker {state or ('in a message' if self._fragmented else 'between messages')}>"


def close_frame(code: int, why: bytes = b"", mask: bytes = b"") -> bytes:
    """A close frame (section 5.5.1): `why` of at most 123 bytes, four bytes of `mask` where a client speaks."""
    payload = code.to_bytes(2) + why
    if not mask:
        return bytes((_FIN | CLOSE, len(payload))) + payload
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((_FIN | CLOSE, _MASK | len(payload))) + mask + masked
