"""hyperframe as the oracle of frames, and streams of bytes cut anywhere."""

import contextlib
import itertools

import hyperframe.exceptions
import hyperframe.frame as theirs
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.wire.http2 import frames
from nova_sidecar.wire.http2.frames import (
    CONTINUATION,
    DATA,
    HEADERS,
    PUSH_PROMISE,
    WINDOW_UPDATE,
    ConnectionFault,
    Frame,
    FrameReader,
    StreamFault,
)

STREAMS = st.integers(0, 50).map(lambda number: 2 * number + 1)
CODES = st.integers(0, 2**32 - 1)
BLOCKS = st.binary(max_size=200)


@st.composite
def written(draw: st.DrawFn) -> tuple[theirs.Frame, Frame]:
    """A frame of the oracle's, and how we should read it."""
    stream = draw(STREAMS)
    end = draw(st.booleans())
    kind = draw(st.sampled_from([DATA, DATA, HEADERS, HEADERS, 2, 3, 4, 6, 7, 8]))
    frame: theirs.Frame
    if kind in (DATA, HEADERS):
        payload = draw(BLOCKS)
        flags = ["END_STREAM"] if end else []
        if kind == HEADERS:
            flags.append("END_HEADERS")
            if draw(st.booleans()):
                flags.append("PRIORITY")
        pad = draw(st.sampled_from([None, 0, 1, 255]))
        if pad is not None:
            flags.append("PADDED")
        made = theirs.DataFrame if kind == DATA else theirs.HeadersFrame
        frame = made(stream, payload, flags=flags)
        frame.pad_length = pad or 0
    elif kind == 2:
        frame = theirs.PriorityFrame(stream, depends_on=draw(STREAMS) + 100, stream_weight=draw(st.integers(0, 255)))
    elif kind == 3:
        frame = theirs.RstStreamFrame(stream, error_code=draw(CODES))
    elif kind == 4:
        frame = theirs.SettingsFrame(0, settings=draw(st.dictionaries(st.integers(7, 100), CODES)))
    elif kind == 6:
        frame = theirs.PingFrame(0, opaque_data=draw(st.binary(min_size=8, max_size=8)), flags=["ACK"] if end else [])
    elif kind == 7:
        frame = theirs.GoAwayFrame(0, last_stream_id=stream, error_code=draw(CODES), additional_data=draw(BLOCKS))
    else:
        frame = theirs.WindowUpdateFrame(draw(st.sampled_from([0, stream])), draw(st.integers(1, 2**31 - 1)))
    raw = frame.serialize()
    content = frame.data if isinstance(frame, theirs.DataFrame | theirs.HeadersFrame) else raw[9:]
    return frame, (kind, raw[4], frame.stream_id, content, len(raw) - 9)


@given(st.lists(written(), max_size=10))
def test_what_they_write_we_read(made: list[tuple[theirs.Frame, Frame]]) -> None:
    data = frames.settings({}) + b"".join(frame.serialize() for frame, _ in made)
    assert list(FrameReader().feed(data))[1:] == [expected for _, expected in made]


@given(st.lists(written(), max_size=10), st.lists(st.integers(0, 2000), max_size=12))
def test_the_cuts_do_not_matter(made: list[tuple[theirs.Frame, Frame]], cuts: list[int]) -> None:
    data = frames.PREFACE + frames.settings({}) + b"".join(frame.serialize() for frame, _ in made)
    data += frames.headers(1, b"x" * 20_000, end=True)
    reader = FrameReader(preface=True)
    read: list[Frame] = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        read += reader.feed(data[start:end])
    assert read == list(FrameReader(preface=True).feed(data))
    assert read[-1][3] == b"x" * 20_000
    assert reader.tail == 0


@given(st.binary(max_size=60), st.sampled_from([*range(10), 0x42]), st.integers(0, 255), st.integers(0, 5))
def test_any_frame_is_read_alike_or_refused(payload: bytes, kind: int, flags: int, stream: int) -> None:
    data = frames.frame_header(len(payload), kind, flags, stream) + payload
    ours: list[Frame] | None = None
    reader = FrameReader()
    with contextlib.suppress(ConnectionFault, StreamFault):
        read = list(reader.feed(frames.settings({}) + data))[1:]
        if read and kind == WINDOW_UPDATE:
            frames.read_increment(stream, payload)
        ours = read
    try:
        frame, length = theirs.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9:]))
    except hyperframe.exceptions.HyperframeError:
        reserved = kind == WINDOW_UPDATE and payload[:1] >= b"\x80"  # the oracle does not ignore the bit (section 6.9)
        assert ours is None or reserved, "we took what the oracle refuses"
        return
    assert length == len(payload)
    if ours is None:
        assert (
            kind in (CONTINUATION, PUSH_PROMISE)
            or (stream % 2 == 0 and kind != 2)
            or "PADDED" in frame.flags
            or (kind == 4 and b"\0\2" in payload)
        )
    elif ours:
        ((_, _, number, content, flow),) = ours
        assert (number, flow) == (stream, length)
        if isinstance(frame, theirs.DataFrame | theirs.HeadersFrame):
            assert content == frame.data


@given(STREAMS, CODES, st.integers(1, 2**31 - 1), st.booleans(), BLOCKS)
def test_what_we_write_they_read(stream: int, code: int, size: int, flag: bool, text: bytes) -> None:
    def parsed(data: bytes) -> theirs.Frame:
        frame, length = theirs.Frame.parse_frame_header(memoryview(data[:9]), strict=True)
        assert length == len(data) - 9
        frame.parse_body(memoryview(data[9:]))
        return frame

    reset, goaway = parsed(frames.rst_stream(stream, code)), parsed(frames.goaway(stream, code, text))
    assert (reset.stream_id, reset.error_code) == (stream, code)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (stream, code, text)
    assert parsed(frames.window_update(stream, size)).window_increment == size
    ping = parsed(frames.ping(text[:8].ljust(8), ack=flag))
    assert (ping.opaque_data, "ACK" in ping.flags) == (text[:8].ljust(8), flag)
    data = parsed(frames.data(stream, text, end=flag))
    assert (data.stream_id, data.data, "END_STREAM" in data.flags) == (stream, text, flag)
    head = parsed(frames.headers(stream, text, end=flag))
    assert (head.data, "END_STREAM" in head.flags, "END_HEADERS" in head.flags) == (text, flag, True)
    assert parsed(frames.settings({3: size, 4: 5})).settings == {3: size, 4: 5}
    assert "ACK" in parsed(frames.settings_ack()).flags
