"""One end of an HTTP/2 connection in a transcript: frames made by hand, and read with no code of the sidecar's."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, Encoder

from .peer import Ended, Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
NAMES = {
    DATA: "DATA", HEADERS: "HEADERS", RST: "RST_STREAM", SETTINGS: "SETTINGS", PING: "PING", GOAWAY: "GOAWAY",
    WINDOW: "WINDOW_UPDATE",
}  # fmt: skip

Fields = list[tuple[str, str]]


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ends(self) -> bool:
        """Whether it ends its stream."""
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """Error code of RST_STREAM or GOAWAY."""
        at = 0 if self.kind == RST else 4
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def number(self) -> int:
        """The 31 bits at the beginning: an increment, or the last stream of GOAWAY."""
        return int.from_bytes(self.payload[:4], "big") & 0x7FFFFFFF

    def __repr__(self) -> str:
        return f"{NAMES.get(self.kind, self.kind)}[{self.stream}] flags={self.flags} {self.payload[:60]!r}"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame, right or wrong."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: dict[int, int] | None = None) -> bytes:
    """SETTINGS with these values."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in (values or {}).items()))


def window(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def rst(stream: int, code: int = 8) -> bytes:
    """RST_STREAM; CANCEL unless told."""
    return frame(RST, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: int = 0) -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))


def request_fields(path: str = "/a", method: str = "GET", extra: Iterable[tuple[str, str]] = ()) -> Fields:
    """A plain request."""
    return [(":method", method), (":scheme", "http"), (":authority", "shop:80"), (":path", path), *extra]


def grpc_fields(path: str = "/s.S/M", extra: Iterable[tuple[str, str]] = ()) -> Fields:
    """A gRPC request."""
    return request_fields(path, "POST", [("te", "trailers"), ("content-type", "application/grpc"), *extra])


class End:
    """One end: sends what it is told, answers SETTINGS and PING by itself, and hands out all other frames in order."""

    def __init__(self, peer: Peer, *, client: bool, initial: dict[int, int] | None = None) -> None:
        self.peer = peer
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.settings: dict[int, int] = {}
        self.seen: list[Frame] = []
        if not client:
            assert peer.read_exactly(len(PREFACE)) == PREFACE
        self.send((PREFACE if client else b"") + settings(initial))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.peer.send(data)

    def headers(self, stream: int, fields: Fields, *, end: bool = False) -> None:
        """Send one HEADERS frame."""
        block = self.encoder.encode(fields)
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block))

    def data(self, stream: int, payload: bytes, *, end: bool = False) -> None:
        """Send one DATA frame."""
        self.send(frame(DATA, END_STREAM if end else 0, stream, payload))

    def any(self) -> Frame:
        """The next frame of any kind."""
        size = int.from_bytes(self.peer.read_exactly(3), "big")
        kind, flags, stream = struct.unpack(">BBI", self.peer.read_exactly(6))
        found = Frame(kind, flags, stream, self.peer.read_exactly(size))
        self.seen.append(found)
        return found

    def next(self, *kinds: int, stream: int | None = None) -> Frame:
        """The next frame of one of these kinds; others but HEADERS, DATA, RST_STREAM and GOAWAY are passed over."""
        while True:
            found = self.any()
            if found.kind == SETTINGS and not found.flags & ACK:
                for at in range(0, len(found.payload), 6):
                    name, value = struct.unpack_from(">HI", found.payload, at)
                    self.settings[name] = value
                self.send(frame(SETTINGS, ACK))
            elif found.kind == PING and not found.flags & ACK and PING not in kinds:
                self.send(frame(PING, ACK, 0, found.payload))
            if found.kind in kinds and (stream is None or found.stream == stream):
                return found
            assert found.kind not in (HEADERS, DATA, RST, GOAWAY), f"{found} instead of {kinds}"

    def fields(self, found: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame."""
        return {str(key): str(value) for key, value in self.decoder.decode(found.payload)}

    def head(self, stream: int | None = None) -> tuple[Frame, dict[str, str]]:
        """The next HEADERS frame and its fields."""
        found = self.next(HEADERS, stream=stream)
        assert found.flags & END_HEADERS
        return found, self.fields(found)

    def body(self, stream: int) -> bytes:
        """Content up to END_STREAM, which a DATA frame brings."""
        content = b""
        while True:
            found = self.next(DATA, stream=stream)
            content += found.payload
            if found.ends:
                return content

    def expect_end(self, code: int) -> Frame:
        """GOAWAY with this code, then the end of the connection."""
        while True:
            found = self.any()
            if found.kind == GOAWAY:
                break
        assert found.code == code, found
        self.peer.expect_closed()
        return found

    def in_step(self) -> list[Frame]:
        """Everything that came until the other end has read all of this; it answers a PING behind it."""
        opaque = struct.pack(">Q", len(self.seen) + 1)
        self.send(frame(PING, 0, 0, opaque))
        came = []
        while True:
            try:
                found = self.any()
            except Ended as error:
                raise AssertionError(f"ended after {came}") from error
            if found.kind == PING and found.flags & ACK and found.payload == opaque:
                return came
            if found.kind == SETTINGS and not found.flags & ACK:
                self.send(frame(SETTINGS, ACK))
            came.append(found)
