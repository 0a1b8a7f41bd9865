"""WebSockets byte by byte: the upgrade, frames, and a conversation through a sidecar."""

import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from typing import NamedTuple

from .message import request
from .peer import Listener, Peer
from .sidecar import Sidecar

KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(
    hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
).decode()
UPGRADE = request(
    "GET",
    "/chat",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)
SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes, *, masked: bool, final: bool = True) -> bytes:
    """One frame (RFC 6455 section 5.2)."""
    head = bytes([opcode | (0x80 if final else 0)])
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack("!BH", mask | 126, len(payload))
    else:
        head += struct.pack("!BQ", mask | 127, len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    stretched = key * (len(payload) // 4 + 1)
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(stretched[: len(payload)])).to_bytes(len(payload))


@dataclass
class Chat:
    """An open WebSocket through a sidecar."""

    sidecar: Sidecar
    client: Peer
    app: Peer

    def passes(self, data: bytes) -> None:
        """The same bytes go both ways."""
        for source, sink in ((self.client, self.app), (self.app, self.client)):
            source.send(data)
            assert sink.read_exactly(len(data)) == data

    @classmethod
    def open(cls, sidecar: Sidecar, listener: Listener, upgrade: bytes = UPGRADE, name: str | None = None) -> "Chat":
        """A client upgrades, and the app agrees."""
        client = sidecar.connect(name)
        client.send(upgrade)
        app = listener.accept()
        app.head()
        app.send(SWITCHED)
        assert client.response(interim=True).status == 101
        return cls(sidecar, client, app)

    def say(self, text: bytes) -> None:
        """A message of the client reaches the app."""
        data = frame(TEXT, text, masked=True)
        self.client.send(data)
        assert self.app.read_exactly(len(data)) == data

    def hear(self, text: bytes) -> None:
        """A message of the app reaches the client."""
        data = frame(TEXT, text, masked=False)
        self.app.send(data)
        assert self.client.read_exactly(len(data)) == data


class Frame(NamedTuple):
    """One frame, with its payload as it was before masking."""

    opcode: int
    payload: bytes
    masked: bool = False

    @property
    def code(self) -> int:
        """Of a close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2])


def read_frame(peer: Peer) -> Frame:
    """The next frame, of at most 125 bytes."""
    first, second = peer.read_exactly(2)
    assert first & 0x80
    mask = peer.read_exactly(4) if second & 0x80 else bytes(4)
    payload = peer.read_exactly(second & 0x7F)
    return Frame(first & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)), bool(second & 0x80))


def closing(code: int, *, masked: bool) -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack("!H", code), masked=masked)
