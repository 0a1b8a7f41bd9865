"""Connections of HTTP/2: preface, frames, header blocks and heads together."""

from random import Random
from typing import NamedTuple

import hpack as oracle
import hyperframe.frame as theirs
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError

from nova_sidecar.wire.grammar import MAX_FIELDS, Malformed
from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import (
    CONTINUATION,
    GOAWAY,
    HEADERS,
    MAX_BLOCK,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    WINDOW_UPDATE,
    ConnectionFault,
    Frame,
    FrameReader,
    StreamFault,
)  # fmt: skip
from nova_sidecar.wire.http2.heads import RequestHead, RequestReader, ResponseReader, TrailerReader
from nova_sidecar.wire.http2.hpack import Decoder, Fields, ListTooLarge
from nova_sidecar.wire.memo import GENERATION_BYTES

from .driver import attributes
from .mutate import mutated, pieces, shuffled

_START = [(":method", "POST"), (":scheme", "http"), (":path", "/pkg.Service/Do"), (":authority", "app")]
_ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
_FIELDS = [
    ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1.60"), ("x", "y" * 200),
    ("cookie", "a=b"), ("content-length", "3"), ("correlation-id", "1"), ("x-text", "ü"), ("grpc-status", "0"),
]  # fmt: skip
_ODD = [("é", "x"), ("Upper", "x"), ("", ""), ("x", " y"), ("connection", "close"), (":path", "/"), ("host", "b")]
_SPICE = [
    b"\0", b"\xff", b"\x20", b"\x3f\xe1\x1f", b"\x80", b"\xbe", b"\x40\x01a\x01b", b"\x7f\xff\xff\xff\xff\x7f", b"\r\n",
    frames.ping(b"12345678"), frames.SETTINGS_ACK, frames.rst_stream(1, 8), frames.data(1, b"", end=False),
    frames.frame_header(0, 9, 4, 1), frames.frame_header(5, 2, 0, 1), b"\0\0\1\1\4\0\0\0\1\x82", b"\x00\x01:\x01a",
    frames.window_update(0, 1), frames.window_update(1, 0), frames.goaway(1, 0), b"\0\0\5\0\x08\0\0\0\1\4",
]  # fmt: skip
_CAPTURED = frozenset((b"correlation-id",))
_REPLACED = (b"correlation-id", b"host", b":authority")
_SLOTS = attributes(RequestHead)


class Heads(NamedTuple):
    """The readers of one port."""

    requests: RequestReader
    responses: ResponseReader
    trailers: TrailerReader


def readers() -> Heads:
    """As a port makes them."""
    return Heads(RequestReader(capture=_CAPTURED, keyed=True), ResponseReader(drop=_CAPTURED), TrailerReader())


class Http2:
    """The target."""

    name = "http2"
    about = "connections of HTTP/2; hyperframe, PyPI's hpack and what we write ourselves are read alike"
    verdicts = ("read", "refused", "no request")

    def __init__(self) -> None:
        self._heads = readers()

    def make(self, rng: Random) -> bytes:
        """What a client sends, with frames out of order, frames that contradict their heads, or broken bytes."""
        parts = _conversation(rng)
        if rng.random() < 0.3:
            parts = shuffled(parts, rng)
        if rng.random() < 0.3:
            at = rng.randrange(len(parts))
            head, index = bytearray(parts[at]), rng.choice([0, 1, 2, 3, 3, 4, 4, 5, 8])
            head[index] = rng.choice([0, 1, 4, 5, 8, 9, 0x0C, 0x20, 0x2D, 0xFF, head[index] ^ 1])
            parts[at] = bytes(head)
        data = PREFACE + b"".join(parts)
        return data if rng.random() < 0.4 else mutated(data, rng, _SPICE, start=rng.choice([0, len(PREFACE)]))

    def check(self, data: bytes, rng: Random) -> str:
        """Whole and in pieces, and by the oracles."""
        whole, why = _frames([data])
        cut, why_cut = _frames(pieces(data, rng))
        assert whole == cut, "cuts matter"
        assert (why is None) == (why_cut is None), "cuts matter"
        assert why is None or why_cut is None or why.code == why_cut.code, "cuts matter"
        verdict = "read" if why is None else "refused"
        for frame in whole:
            _content(frame)
        _beside(data, whole)
        blocks = [frame[3] for frame in whole if frame[0] == HEADERS]
        if not self._read_heads(blocks):
            verdict = "no request"
        for memo in (self._heads.requests.memo, self._heads.responses.memo, self._heads.trailers.memo):
            for kept in (memo.young, memo._old):
                assert sum(map(len, kept)) <= GENERATION_BYTES
        assert len(self._heads.requests._known) <= 1024
        return verdict

    def _read_heads(self, blocks: list[bytes]) -> bool:
        """Whether one of them is a request's."""
        ours, check = Decoder(), oracle.Decoder(max_header_list_size=65_536)
        check.max_allowed_table_size = 4096
        good = False
        for block in blocks:
            try:
                fields = ours.decode(block)
            except (ListTooLarge, ConnectionFault):
                return good
            try:
                expected = [(bytes(name), bytes(value)) for name, value in check.decode(block, raw=True)]
            except HPACKError as error:
                raise AssertionError(f"we take what the oracle refuses: {error!r}") from error
            assert [(name, bytes(value)) for name, value in fields] == expected
            good |= _request(self._heads.requests, fields, expected)
            _others(self._heads, fields)
        return good


def _conversation(rng: Random) -> list[bytes]:
    """Frames of a client that are right."""
    encoder = oracle.Encoder()
    parts = [frames.settings({1: 4096, 4: 65_535})]
    for number in range(rng.randrange(1, 6)):
        stream = 2 * number + 1
        fields = [*rng.choice([_START, _START, _START, _ANSWER, []]), *rng.sample(_FIELDS, rng.randrange(5))]
        if rng.random() < 0.7:
            fields.append(("traceparent", f"00-{rng.getrandbits(128):032x}-01"))
        if rng.random() < 0.1:
            fields.append(rng.choice(_ODD))
        block = encoder.encode(fields, huffman=rng.random() < 0.5)
        parts.append(frames.headers(stream, block, end=False, max_frame=rng.choice([SMALLEST_MAX_FRAME, 40])))
        parts.append(frames.data(stream, b"x" * rng.randrange(50), end=rng.random() < 0.8))
        if rng.random() < 0.2:
            parts.append(rng.choice([frames.ping(b"12345678"), frames.window_update(stream, 100), frames.goaway(1, 0)]))
    return parts


def _frames(parts: list[bytes]) -> tuple[list[Frame], ConnectionFault | None]:
    reader, read = FrameReader(preface=True), []
    try:
        for part in parts:
            for frame in reader.feed(part):
                read.append(frame)  # noqa: PERF402 - those before a fault count
            assert reader.tail <= MAX_BLOCK + SMALLEST_MAX_FRAME + 9
    except ConnectionFault as why:
        return read, why
    return read, None


def _content(frame: Frame) -> None:
    """What is in frames of control is read, or refused as it must."""
    kind, _, stream, payload, _ = frame
    try:
        if kind == SETTINGS:
            assert all(1 <= name <= 6 and value < 1 << 32 for name, value in frames.read_settings(payload))
        elif kind == WINDOW_UPDATE:
            assert 1 <= frames.read_increment(stream, payload) <= frames.LARGEST_WINDOW
        elif kind == RST_STREAM:
            frames.read_code(payload)
        elif kind == GOAWAY:
            frames.read_goaway(payload)
    except (ConnectionFault, StreamFault):
        pass


def _beside(data: bytes, read: list[Frame]) -> None:
    """hyperframe finds the same frames; header blocks in pieces are put together."""
    at, found, block = len(PREFACE), [], b""
    while len(found) < len(read) and at + 9 <= len(data):
        frame, length = theirs.Frame.parse_frame_header(memoryview(data[at : at + 9]))
        try:
            frame.parse_body(memoryview(data[at + 9 : at + 9 + length]))
        except HyperframeError as error:
            # extensions are ignored, whatever is in them; the others are judged by their readers (`_content`)
            if data[at + 3] <= CONTINUATION and not isinstance(frame, theirs.WindowUpdateFrame | theirs.SettingsFrame):
                raise AssertionError("we take what hyperframe refuses") from error
        at += 9 + length
        if isinstance(frame, theirs.ContinuationFrame):
            block += bytes(frame.data)
            if "END_HEADERS" in frame.flags:
                found.append((HEADERS, block))
        elif isinstance(frame, theirs.HeadersFrame):
            block = bytes(frame.data)
            if "END_HEADERS" in frame.flags:
                found.append((HEADERS, block))
        elif isinstance(frame, theirs.DataFrame):
            found.append((0, bytes(frame.data)))
        else:
            found.append((data[at - 6 - length], data[at - length : at]))
    assert found == [(kind, payload) for kind, _, _, payload, _ in read], "hyperframe finds other frames"


def _request(reader: RequestReader, fields: Fields, expected: list[tuple[bytes, bytes]]) -> bool:
    """A request's head is read alike with and without memory, and loses nothing but what is replaced."""
    fresh = RequestReader(capture=_CAPTURED, keyed=True)
    try:
        head = reader.read(fields)
    except Malformed:
        try:
            fresh.read(fields)
        except Malformed:
            return False
        raise AssertionError("memory refuses a head") from None
    other = fresh.read(fields)
    assert [getattr(head, name) for name in _SLOTS] == [getattr(other, name) for name in _SLOTS], "memory matters"
    forward = [(bytes(name), bytes(value)) for name, value in oracle.Decoder().decode(head.forward, raw=True)]
    sent = [each for each in expected if each[0] not in _REPLACED]
    assert sorted(sent) == sorted(each for each in forward if each[0] != b":authority")
    assert len(fields) <= MAX_FIELDS
    again = fresh.read(Decoder().decode(head.forward))
    assert (again.forward, again.length, again.path) == (head.forward, head.length, head.path)
    return True


def _others(heads: Heads, fields: Fields) -> None:
    """The same fields as a response's and as trailers: refused, or read alike with and without memory."""
    fresh = readers()
    for known, new in ((heads.responses.read, fresh.responses.read), (heads.trailers.read, fresh.trailers.read)):
        read = []
        for each in (known, new):
            try:
                read.append(each(fields).forward)
            except Malformed:
                read.append(None)
        assert read[0] == read[1], "memory matters"
        if read[0] is not None:
            again = Decoder().decode(read[0])
            assert new(again).forward == read[0]
