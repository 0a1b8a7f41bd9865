"""The frame tracker against a plain reading of the RFC; tests/fuzz holds it against wsproto, another implementation."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from nova_sidecar.wire.websocket import FrameTracker, Stop, close_frame

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTROL = (CLOSE, PING, PONG)


class Frame(NamedTuple):
    opcode: int
    size: int
    final: bool = True
    reserved: int = 0


def encode(frame: Frame, *, masked: bool) -> bytes:
    first = frame.opcode | frame.reserved << 4 | (0x80 if frame.final else 0)
    mask = 0x80 if masked else 0
    if frame.size < 126:
        head = bytes((first, mask | frame.size))
    elif frame.size < 1 << 16:
        head = bytes((first, mask | 126)) + frame.size.to_bytes(2)
    else:
        head = bytes((first, mask | 127)) + frame.size.to_bytes(8)
    return head + (b"mask" if masked else b"") + b"\x88" * frame.size  # a payload that looks like close frames


class Places(NamedTuple):
    """Offsets at which a stream is between frames, between messages, and where its close frame begins."""

    frames: set[int]
    messages: set[int]
    close: int | None


def places(frames: list[Frame], *, masked: bool) -> tuple[bytes, Places]:
    """The reference: offsets added up from what was put in."""
    data, between_frames, between_messages, close, fragmented = b"", {0}, {0}, None, False
    for frame in frames:
        if frame.opcode == CLOSE and close is None:
            close = len(data)
        data += encode(frame, masked=masked)
        if frame.opcode < CLOSE:
            fragmented = not frame.final
        between_frames.add(len(data))
        if not fragmented:
            between_messages.add(len(data))
    return data, Places(between_frames, between_messages, close)


SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65_535, 65_536, 70_000]))


@st.composite
def conversations(draw: st.DrawFn, closes: bool = False) -> list[Frame]:
    """Frames in an order that the RFC allows."""
    frames: list[Frame] = []
    for _ in range(draw(st.integers(0, 6))):
        fragments = draw(st.integers(1, 3))
        for index in range(fragments):
            opcode = 0 if index else draw(st.sampled_from([TEXT, BINARY]))
            reserved = 0 if index else draw(st.sampled_from([0, 4]))
            frames.append(Frame(opcode, draw(SIZES), final=index == fragments - 1, reserved=reserved))
            if draw(st.booleans()):
                frames.append(Frame(draw(st.sampled_from([PING, PONG])), draw(st.integers(0, 125))))
    if closes:
        frames.append(Frame(CLOSE, draw(st.sampled_from([0, 2, 125]))))
    return frames


def chunks(data: bytes, cuts: list[int]) -> Iterator[tuple[int, bytes]]:
    """The data in pieces, each with its end's offset."""
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    start = 0
    for end in ends:
        yield end, data[start:end]
        start = end


CUTS = st.lists(st.integers(0, 300_000), max_size=12)


@given(conversations(), CUTS, st.booleans())
def test_it_knows_at_every_cut_whether_it_is_between_frames_and_messages(
    frames: list[Frame], cuts: list[int], masked: bool
) -> None:
    data, expected = places(frames, masked=masked)
    tracker = FrameTracker(masked=masked)
    for end, piece in chunks(data, cuts):
        assert tracker.feed(piece) == len(piece)
        assert (tracker.between_frames, tracker.between_messages) == (end in expected.frames, end in expected.messages)
    assert not tracker.lost
    assert not tracker.closing


@given(conversations(), st.integers(0, 300_000), st.booleans())
def test_it_stops_at_the_first_end_of_a_message(frames: list[Frame], cut: int, masked: bool) -> None:
    data, expected = places(frames, masked=masked)
    start = cut % (len(data) + 1)
    tracker = FrameTracker(masked=masked)
    tracker.feed(data[:start])
    if tracker.between_messages:
        return
    stop = start + tracker.feed(data[start:], Stop.MESSAGE_END)
    assert stop == min(end for end in expected.messages if end > start)
    assert tracker.between_messages


@given(conversations(closes=True), CUTS, st.booleans())
def test_it_stops_before_the_close_frame(frames: list[Frame], cuts: list[int], masked: bool) -> None:
    data, expected = places(frames, masked=masked)
    tracker = FrameTracker(masked=masked)
    passed = 0
    for _, piece in chunks(data, cuts):
        if tracker.feed(piece, Stop.CLOSE) < len(piece):
            break
        passed += len(piece)
    assert tracker.between_messages, "the close frame was left out"
    assert passed <= (expected.close or 0) < passed + len(piece)


@given(conversations(closes=True), CUTS)
def test_what_follows_a_close_frame_means_nothing(frames: list[Frame], cuts: list[int]) -> None:
    data, _ = places(frames, masked=True)
    tracker = FrameTracker(masked=True)
    for _, piece in chunks(data + b"\xff\xff\xff", cuts):
        tracker.feed(piece)
    assert tracker.closing
    assert not tracker.lost
    assert not tracker.between_frames


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x83\x80", "an opcode nobody defined"),
        (b"\x8b\x80", "a control opcode nobody defined"),
        (b"\x09\x80", "a ping in fragments"),
        (b"\x89\xfe\x00\x7e", "a ping of 126 bytes"),
        (b"\x88\x81", "a close frame of one byte"),
        (b"\x88\xfe\x00\x7a", "a close frame that spells its length in two bytes"),
        (b"\x80\x80", "a continuation of nothing"),
        (b"\x01\x80mask\x81\x80", "a message within a message"),
        (b"\x81\x00", "no mask"),
        (b"\x82\xfe\x00\x7d", "two bytes for a length of 125"),
        (b"\x82\xff" + (65_535).to_bytes(8), "eight bytes for a length of 65535"),
        (b"\x82\xff" + (1 << 63).to_bytes(8), "a length of 64 bits"),
    ],
)
def test_what_the_rfc_forbids_loses_the_track(data: bytes, why: str) -> None:
    whole = FrameTracker(masked=True)
    assert whole.feed(data + b"rest") == len(data) + 4, why
    assert whole.lost, why
    assert not whole.between_frames
    bytewise = FrameTracker(masked=True)
    for byte in data:
        bytewise.feed(bytes((byte,)))
    assert bytewise.lost, why
    assert bytewise.feed(b"\x81\x80mask", Stop.MESSAGE_END) == 6, "a lost tracker lets everything pass"


def test_a_server_must_not_mask() -> None:
    tracker = FrameTracker(masked=False)
    tracker.feed(encode(Frame(TEXT, 3), masked=True))
    assert tracker.lost


def test_an_incomplete_head_is_all_it_keeps() -> None:
    tracker = FrameTracker(masked=True)
    tracker.feed(encode(Frame(BINARY, 1 << 20), masked=True)[:13])
    assert len(tracker._head) == 13
    tracker.feed(b"k" + b"x" * 1000)
    assert tracker._head == b""
    assert tracker._left == (1 << 20) - 1000


def test_close_frames_are_read_by_others() -> None:
    for client in (True, False):  # `client` reads what a server wrote
        protocol = FrameProtocol(client=client, extensions=[])
        protocol.receive_bytes(close_frame(1012, b"leaving", b"" if client else b"\x01\xfe\x7f\x80"))
        (frame,) = protocol.received_frames()
        assert (frame.opcode, frame.payload) == (CLOSE, (1012, "leaving"))


def test_its_state_is_told() -> None:
    tracker = FrameTracker(masked=False)
    assert repr(tracker) == "<FrameTracker between messages>"
    tracker.feed(b"\x01\x01")
    assert repr(tracker) == "<FrameTracker in a frame>"
    tracker.feed(b"x")
    assert repr(tracker) == "<FrameTracker in a message>"
