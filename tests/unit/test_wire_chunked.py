"""The chunked coding as transcripts, and in every way it can be cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.wire.chunked import MAX_SIZE_LINE, MAX_TRAILERS, ChunkedReader, chunk
from nova_sidecar.wire.grammar import Malformed


def content(reader: ChunkedReader, *reads: bytes) -> bytes:
    return b"".join(piece for data in reads for piece in reader.feed(data))


def test_chunks_until_the_last_one() -> None:
    reader = ChunkedReader()

    assert content(reader, b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1") == b"abc0123456789"
    assert reader.done
    assert reader.rest == b"GET / HTTP/1.1"


def test_pieces_go_on_before_their_chunk_is_whole() -> None:
    reader = ChunkedReader()

    assert reader.feed(b"ff\r\nab") == [b"ab"]
    assert reader.feed(b"cd") == [b"cd"]
    assert not reader.done


def test_extensions_are_read_past() -> None:
    assert content(ChunkedReader(), b'3;name="v" ;x\r\nabc\r\n0;end\r\n\r\n') == b"abc"


def test_trailers_are_kept_but_for_those_that_frame_route_or_authenticate() -> None:
    reader = ChunkedReader()
    content(
        reader,
        b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    )

    assert reader.done
    assert reader.trailers == b"X-Sum: 1\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_however_it_is_cut_the_content_is_the_same(chunks: list[bytes], data: st.DataObject) -> None:
    text = b"".join(map(chunk, chunks)) + b"0\r\nX-T: 1\r\n\r\nrest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reader = ChunkedReader()
    got, rest = b"", b""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        if reader.done:
            rest += text[start:end]
            continue
        got += b"".join(reader.feed(text[start:end]))
    assert got == b"".join(chunks)
    assert reader.done
    assert reader.rest + rest == b"rest"
    assert reader.trailers == b"X-T: 1\r\n"


BAD = {
    "no number": b"x\r\n",
    "empty size": b"\r\n",
    "hex prefix": b"0x3\r\nabc\r\n",
    "sign": b"+3\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "space inside": b"3 3\r\nabc\r\n",
    "underscore": b"1_0\r\n",
    "bare lf after size": b"3\nabc\r\n",
    "bare lf after data": b"3\r\nabc\n0\r\n\r\n",
    "bare cr in extension": b"3;a\rb\r\nabc\r\n",
    "too much data": b"3\r\nabcd\r\n",
    "sixteen digits": b"1000000000000000\r\n",
    "endless extension": b"3;" + b"a" * MAX_SIZE_LINE,
    "endless trailers": b"0\r\n" + b"X: 1\r\n" * MAX_TRAILERS,
    "malformed trailer": b"0\r\nX : 1\r\n\r\n",
    "folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
    "bare lf after the last chunk": b"0\r\n\n",
    "bare lf in trailers": b"0\r\nX: 1\n\r\n",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_bad_framing_is_refused_whole_and_byte_by_byte(text: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkedReader().feed(text)
    with pytest.raises(Malformed):
        content(ChunkedReader(), *(text[at : at + 1] for at in range(len(text))))


@given(st.binary(max_size=200))
def test_no_bytes_break_it(text: bytes) -> None:
    reader = ChunkedReader()
    try:
        got = content(reader, text)
    except Malformed:
        return
    assert len(got) + len(reader.rest) <= len(text)
