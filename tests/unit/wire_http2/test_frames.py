"""Transcripts of frames: what goes in, what comes out (RFC 9113 sections 3.4, 4, 5.1.1, 5.5 and 6)."""

import pytest

from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_BLOCK,
    MAX_CONTINUATIONS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    Frame,
    FrameReader,
    StreamFault,
)

START = frames.settings({})
FIRST: Frame = (SETTINGS, 0, 0, b"", 0)
CALM, PROTOCOL, SIZE, FLOW = (
    ErrorCode.ENHANCE_YOUR_CALM,
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.FRAME_SIZE_ERROR,
    ErrorCode.FLOW_CONTROL_ERROR,
)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def read(data: bytes, **how: int) -> list[Frame]:
    """The frames that come out behind the first SETTINGS."""
    read = list(FrameReader(**how).feed(START + data))
    assert read[0] == FIRST
    return read[1:]


def refused(data: bytes) -> ErrorCode:
    with pytest.raises(ConnectionFault) as caught:
        read(data)
    assert caught.value.why
    return caught.value.code


# --- the connection preface (section 3.4)


def test_a_client_begins_with_the_preface_and_settings() -> None:
    assert list(FrameReader(preface=True).feed(PREFACE + START)) == [FIRST]


@pytest.mark.parametrize("cut", range(1, len(PREFACE)))
def test_the_preface_in_two_pieces(cut: int) -> None:
    reader = FrameReader(preface=True)
    assert list(reader.feed(PREFACE[:cut])) == []
    assert list(reader.feed(PREFACE[cut:] + START)) == [FIRST]


@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"\0", b"\x16\x03\x01", START])
def test_another_preface(wrong: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        list(FrameReader(preface=True).feed(wrong))
    assert caught.value.code is PROTOCOL


@pytest.mark.parametrize(
    "first", [frames.ping(b"12345678"), frames.SETTINGS_ACK, frames.data(1, b"a"), frames.headers(1, b"\x82", end=True)]
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    with pytest.raises(ConnectionFault, match="SETTINGS"):
        list(FrameReader().feed(first))


# --- sizes (section 4.2)


def test_a_frame_as_large_as_announced_and_one_byte_more() -> None:
    assert read(frame(DATA, 0, 1, b"x" * 16_384)) == [(DATA, 0, 1, b"x" * 16_384, 16_384)]
    assert refused(frame(DATA, 0, 1, b"x" * 16_385)) is SIZE
    assert len(read(frame(DATA, 0, 1, b"x" * 20_000), max_frame=20_000)) == 1


def test_a_frame_too_large_is_refused_by_its_header_alone() -> None:
    assert refused(frame(DATA, 0, 1, b"x" * 16_385)[:9]) is SIZE
    assert refused(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01") is SIZE


@pytest.mark.parametrize(
    "wrong",
    [
        frame(PRIORITY, 0, 1, b"\0" * 4),
        frame(PRIORITY, 0, 1, b"\0" * 6),
        frame(RST_STREAM, 0, 1, b"\0" * 3),
        frame(RST_STREAM, 0, 1, b"\0" * 5),
        frame(SETTINGS, 0, 0, b"\0" * 5),
        frame(SETTINGS, ACK, 0, b"\0" * 6),
        frame(PING, 0, 0, b"\0" * 7),
        frame(PING, ACK, 0, b"\0" * 9),
        frame(GOAWAY, 0, 0, b"\0" * 7),
        frame(WINDOW_UPDATE, 0, 0, b"\0" * 3),
        frame(WINDOW_UPDATE, 0, 1, b"\0" * 5),
        frame(DATA, PADDED, 1),
        frame(HEADERS, END_HEADERS | PADDED, 1),
        frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"\0" * 4),
    ],
)
def test_sizes_that_types_fix(wrong: bytes) -> None:
    assert refused(wrong) is SIZE


# --- streams (sections 5.1.1 and 6)


@pytest.mark.parametrize("kind", [DATA, HEADERS, PRIORITY, RST_STREAM])
def test_frames_that_need_a_stream(kind: int) -> None:
    assert refused(frame(kind, END_HEADERS, 0, b"\0" * (5 if kind == PRIORITY else 4))) is PROTOCOL


@pytest.mark.parametrize(("kind", "size"), [(SETTINGS, 0), (PING, 8), (GOAWAY, 8)])
def test_frames_that_need_the_connection(kind: int, size: int) -> None:
    assert refused(frame(kind, 0, 1, b"\0" * size)) is PROTOCOL


@pytest.mark.parametrize("kind", [DATA, HEADERS, RST_STREAM, WINDOW_UPDATE])
def test_streams_of_a_server_do_not_exist(kind: int) -> None:
    assert refused(frame(kind, END_HEADERS, 2, b"\0\0\0\1")) is PROTOCOL


def test_priority_may_name_any_stream() -> None:  # section 6.3: in any state
    assert read(frame(PRIORITY, 0, 2, b"\0" * 5)) == [(PRIORITY, 0, 2, b"\0" * 5, 5)]


def test_the_reserved_bit_is_ignored() -> None:  # section 4.1
    assert read(frame(DATA, 0, 0x8000_0001, b"a")) == [(DATA, 0, 1, b"a", 1)]
    assert read(frame(PING, 0, 0x8000_0000, b"12345678")) == [(PING, 0, 0, b"12345678", 8)]


def test_push_is_off() -> None:  # section 8.4
    assert refused(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82")) is PROTOCOL


# --- flags and padding (sections 4.1, 6.1, 6.2)


def test_padding_is_taken_away_and_counts_for_the_windows() -> None:
    assert read(frame(DATA, PADDED | END_STREAM, 1, b"\x03abc\0\0\0")) == [(DATA, PADDED | END_STREAM, 1, b"abc", 7)]
    assert read(frame(DATA, PADDED, 1, b"\x00")) == [(DATA, PADDED, 1, b"", 1)]
    assert read(frame(DATA, PADDED, 1, b"\x02\0\0")) == [(DATA, PADDED, 1, b"", 3)]


@pytest.mark.parametrize("kind", [DATA, HEADERS])
def test_more_padding_than_frame(kind: int) -> None:
    assert refused(frame(kind, PADDED | END_HEADERS, 1, b"\x01")) is PROTOCOL
    assert refused(frame(kind, PADDED | END_HEADERS, 1, b"\x05abcd")) is PROTOCOL


def test_headers_with_padding_and_priority() -> None:
    flags = END_HEADERS | PADDED | PRIORITIZED
    ((kind, _, stream, block, _),) = read(frame(HEADERS, flags, 1, b"\x02" + b"\x80\0\0\0\xff" + b"\x82\x86" + b"\0\0"))
    assert (kind, stream, block) == (HEADERS, 1, b"\x82\x86")


def test_flags_without_a_meaning_are_ignored() -> None:
    assert read(frame(PING, 0x7E, 0, b"12345678")) == [(PING, 0x7E, 0, b"12345678", 8)]
    assert read(frame(DATA, 0x52, 1, b"a")) == [(DATA, 0x52, 1, b"a", 1)]


def test_unknown_types_are_handed_on_to_be_ignored() -> None:  # sections 4.1 and 5.5
    ((kind, _, stream, payload, _),) = read(frame(0x10, 0xFF, 4, b"u=1"))
    assert kind > CONTINUATION
    assert (stream, payload) == (4, b"u=1")


# --- header blocks (sections 4.3 and 6.10)


def test_a_block_in_pieces_comes_out_whole() -> None:
    data = frame(HEADERS, END_STREAM, 1, b"ab") + frame(CONTINUATION, 0, 1, b"c") + frame(CONTINUATION, 4, 1, b"de")
    assert read(data) == [(HEADERS, END_STREAM | END_HEADERS, 1, b"abcde", 5)]


def test_padding_within_a_block_in_pieces() -> None:
    data = frame(HEADERS, PADDED, 1, b"\x01ab\0") + frame(CONTINUATION, END_HEADERS, 1, b"c")
    assert read(data)[0][3] == b"abc"


@pytest.mark.parametrize(
    "between",
    [
        frame(DATA, 0, 1, b"a"),
        frame(DATA, 0, 3, b"a"),
        frame(HEADERS, END_HEADERS, 3, b"a"),
        frame(PRIORITY, 0, 1, b"\0" * 5),
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(0x10, 0, 1, b"an extension"),
        frame(CONTINUATION, END_HEADERS, 3, b"a"),
        frame(CONTINUATION, END_HEADERS, 0, b"a"),
    ],
)
def test_nothing_may_come_within_a_header_block(between: bytes) -> None:
    assert refused(frame(HEADERS, 0, 1, b"a") + between) is PROTOCOL


def test_a_continuation_of_nothing() -> None:
    assert refused(frame(CONTINUATION, END_HEADERS, 1, b"a")) is PROTOCOL
    assert refused(frame(HEADERS, 4, 1, b"a") + frame(CONTINUATION, 4, 1, b"a")) is PROTOCOL


def test_a_header_block_is_bounded() -> None:  # section 10.5.1, CVE-2024-27316 and its like
    block = b"x" * MAX_BLOCK
    (found,) = read(frames.headers(1, block, end=True))
    assert found[3] == block
    assert refused(frames.headers(1, block + b"x", end=True)) is CALM


def test_continuations_are_bounded() -> None:
    pieces = frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 1) * (MAX_CONTINUATIONS - 1)
    assert len(read(pieces + frame(CONTINUATION, END_HEADERS, 1, b"b"))) == 1
    assert refused(pieces + frame(CONTINUATION, 0, 1) * 2) is CALM


# --- what frames say


def test_settings_are_read_in_order_and_unknown_ones_left_out() -> None:  # section 6.5.2
    payload = bytes.fromhex("0004 00000001 00aa 00000001 0004 00000002 0003 ffffffff 0000 00000001")
    assert frames.read_settings(payload) == [(4, 1), (4, 2), (3, 0xFFFF_FFFF)]


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("0002 00000002", PROTOCOL),
        ("0004 80000000", FLOW),
        ("0005 00003fff", PROTOCOL),
        ("0005 01000000", PROTOCOL),
    ],
)
def test_settings_with_values_they_cannot_have(setting: str, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(bytes.fromhex(setting))
    assert caught.value.code is code


@pytest.mark.parametrize(
    "setting", ["0002 00000001", "0004 7fffffff", "0005 00004000", "0005 00ffffff", "0006 ffffffff"]
)
def test_settings_with_the_outermost_values_they_can_have(setting: str) -> None:
    assert len(frames.read_settings(bytes.fromhex(setting))) == 1


def test_an_increment_is_31_bits_and_not_zero() -> None:  # section 6.9
    assert frames.read_increment(1, b"\xff\xff\xff\xff") == 2**31 - 1
    with pytest.raises(StreamFault) as stream:
        frames.read_increment(3, b"\x80\0\0\0")
    assert (stream.value.stream, stream.value.code) == (3, PROTOCOL)
    with pytest.raises(ConnectionFault):
        frames.read_increment(0, b"\0\0\0\0")


def test_goaway_and_rst_stream() -> None:
    ((_, _, _, payload, _),) = read(frames.goaway(7, ErrorCode.NO_ERROR, b"why"))
    assert frames.read_goaway(payload) == (7, 0, b"why")
    assert frames.read_goaway(b"\xff\xff\xff\xff\0\0\0\x63") == (2**31 - 1, 0x63, b"")
    ((_, _, _, payload, _),) = read(frames.rst_stream(1, 0xDEAD))
    assert frames.read_code(payload) == 0xDEAD  # unknown codes are no fault (section 7)


# --- order


def test_what_came_before_a_fault_is_handed_on() -> None:
    reading = FrameReader().feed(START + frames.data(1, b"a") + frame(PING, 0, 1, b"12345678"))
    assert next(reading) == FIRST
    assert next(reading) == (DATA, 0, 1, b"a", 1)
    with pytest.raises(ConnectionFault):
        next(reading)


def test_what_is_kept_can_be_told() -> None:
    reader = FrameReader()
    assert len(list(reader.feed(START + frame(HEADERS, 0, 1, b"abc") + b"\0\0"))) == 1
    assert reader.tail == 5


def test_long_blocks_are_written_in_pieces() -> None:
    written = frames.headers(1, b"x" * 40_000, end=True)
    assert read(written) == [(HEADERS, END_STREAM | END_HEADERS, 1, b"x" * 40_000, 40_000)]
    assert written[:9] == frames.frame_header(SMALLEST_MAX_FRAME, HEADERS, END_STREAM, 1)
