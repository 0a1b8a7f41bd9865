"""Thousands of slightly broken conversations: a fault is one of the known ones, what gets through is what hpack reads.

The seeds are fixed, so that a failure comes back.
"""

import random

import hpack as oracle
import pytest
from hpack.exceptions import HPACKError

from nova_sidecar.wire.grammar import MAX_FIELDS, Malformed
from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import HEADERS, PREFACE, ConnectionFault, FrameReader
from nova_sidecar.wire.http2.heads import RequestReader
from nova_sidecar.wire.http2.hpack import Decoder, ListTooLarge

START = [(":method", "POST"), (":scheme", "http"), (":path", "/pkg.Service/Do"), (":authority", "app")]
FIELDS = [
    ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1.60"), ("x", "y" * 200),
    ("cookie", "a=b"), ("content-length", "3"), ("correlation-id", "1"), ("x-text", "ü"),
]  # fmt: skip
ODD = [("é", "x"), ("Upper", "x"), ("", ""), ("x", " y"), ("connection", "close")]
SPICE = [
    b"\0", b"\xff", b"\x20", b"\x3f\xe1\x1f", b"\x80", b"\xbe", b"\x40\x01a\x01b", b"\x7f\xff\xff\xff\xff\x7f", b"\r\n",
    frames.ping(b"12345678"), frames.SETTINGS_ACK, frames.rst_stream(1, 8), frames.data(1, b"", end=False),
    frames.frame_header(0, 9, 4, 1), frames.frame_header(5, 2, 0, 1), b"\0\0\1\1\4\0\0\0\1\x82", b"\x00\x01:\x01a",
]  # fmt: skip


def conversation(rng: random.Random) -> bytes:
    """What a client sends, whole."""
    encoder = oracle.Encoder()
    parts = [PREFACE, frames.settings({1: 4096})]
    for number in range(rng.randrange(1, 6)):
        fields = [*START, *rng.sample(FIELDS, rng.randrange(5)), ("traceparent", f"00-{rng.getrandbits(128):032x}-01")]
        if rng.random() < 0.1:
            fields.append(rng.choice(ODD))
        block = encoder.encode(fields, huffman=rng.random() < 0.5)
        parts.append(frames.headers(2 * number + 1, block, end=False, max_frame=rng.choice([16_384, 40])))
        parts.append(frames.data(2 * number + 1, b"x" * rng.randrange(50), end=True))
    return b"".join(parts)


def broken(data: bytes, rng: random.Random) -> bytes:
    """The same with one to three small accidents behind the preface."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(PREFACE), len(data) + 1)
        end = min(len(data), at + rng.choice([1, 1, 2, 5, 20]))
        accident = rng.choice(["insert", "replace", "delete", "repeat", "flip"])
        if accident == "insert":
            data = data[:at] + rng.choice(SPICE) + data[at:]
        elif accident == "replace":
            data = data[:at] + rng.choice(SPICE) + data[end:]
        elif accident == "delete":
            data = data[:at] + data[end:]
        elif accident == "repeat":
            data = data[:end] + data[at:]
        elif at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
    return data


@pytest.mark.parametrize("seed", range(4))
def test_broken_conversations(seed: int) -> None:
    rng = random.Random(seed)
    reader = RequestReader(capture=frozenset((b"correlation-id",)))
    heads = faults = 0
    for _ in range(500):
        data = broken(conversation(rng), rng)
        connection, decoder = FrameReader(preface=True), Decoder()
        check = oracle.Decoder(max_header_list_size=65_536)
        check.max_allowed_table_size = 4096
        cut = rng.randrange(len(data))
        try:
            for part in (data[:cut], data[cut:]):
                for kind, _, _, payload, _ in connection.feed(part):
                    if kind == HEADERS:
                        heads += _read(reader, decoder, check, payload)
        except ConnectionFault:
            faults += 1
    assert heads > 400
    assert faults > 50


def _read(reader: RequestReader, decoder: Decoder, check: oracle.Decoder, block: bytes) -> int:
    try:
        fields = decoder.decode(block)
    except ListTooLarge:
        return 0
    try:
        expected = [tuple(field) for field in check.decode(block, raw=True)]
    except HPACKError as error:
        pytest.fail(f"we took what the oracle refuses: {error!r} in {block.hex()}")
    assert [(name, bytes(value)) for name, value in fields] == expected
    try:
        head = reader.read(fields)
    except Malformed:
        return 0
    forward = oracle.Decoder().decode(head.forward, raw=True)
    sent = [(name, value) for name, value in expected if name not in (b"correlation-id", b"host", b":authority")]
    assert len(fields) <= MAX_FIELDS
    assert sorted(sent) == sorted((name, value) for name, value in forward if name != b":authority")
    return 1
