"""PyPI's hpack as the oracle: each of the two reads what the other writes, and what one takes the other takes alike."""

import hpack as oracle
from hpack.exceptions import HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_sidecar.wire.http2 import hpack, huffman
from nova_sidecar.wire.http2.frames import ConnectionFault
from nova_sidecar.wire.http2.hpack import Decoder, Fields, ListTooLarge
from nova_sidecar.wire.http2.static import STATIC

NAMES = st.one_of(
    st.sampled_from([name for name, _ in STATIC] + [b"traceparent", b"grpc-timeout", b"x-a", b"x-b", b"n" * 200]),
    st.binary(max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        [value for _, value in STATIC] + [b"1", b"2", b"00-0af7651916cd43dd8448eb211c80319c-01", b"v" * 300]
    ),
    st.binary(max_size=40),
    st.text("0123456789abcdef-/", max_size=60).map(str.encode),
)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[bytes, Fields]]:
    """Blocks that the oracle's encoder makes one after the other, with what they mean: with and without Huffman, with
    a table that changes its size, with fields never to be indexed and fields that come again."""
    encoder = oracle.Encoder()
    usual = draw(LISTS)
    made = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            encoder.header_table_size = draw(st.sampled_from([0, 64, 128, 1000, 4096]))
        fields = [*usual, *draw(LISTS)] if draw(st.booleans()) else usual
        typed = [
            oracle.NeverIndexedHeaderTuple(*field) if draw(st.integers(0, 9)) == 0 else oracle.HeaderTuple(*field)
            for field in fields
        ]
        made.append((encoder.encode(typed, huffman=draw(st.booleans())), tuple(fields)))
    return made


def plain(fields: Fields) -> Fields:
    return tuple((name, bytes(value)) for name, value in fields)


@given(conversations())
def test_what_their_encoder_writes_we_read(blocks: list[tuple[bytes, Fields]]) -> None:
    decoder = Decoder(max_list=1 << 20)
    for block, fields in blocks:
        assert plain(decoder.decode(block)) == fields


@given(st.lists(LISTS, max_size=4))
def test_what_we_write_their_decoder_reads(lists: list[list[tuple[bytes, bytes]]]) -> None:
    decoder = oracle.Decoder(max_header_list_size=1 << 20)
    for fields in lists:
        assert [tuple(field) for field in decoder.decode(hpack.encode(fields), raw=True)] == fields


def test_never_indexed_survives_us() -> None:
    encoded = oracle.Encoder().encode([oracle.NeverIndexedHeaderTuple(b"x-key", b"1"), (b"x-other", b"2")])
    again = oracle.Decoder().decode(hpack.encode(Decoder().decode(encoded)), raw=True)
    assert [field.indexable for field in again] == [False, True]


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([b"\x82", b"\xbe", b"\x3f\xe1\x1f", b"\x20"])), max_size=6
    )
)
@settings(max_examples=500)
def test_any_bytes_are_read_alike_or_refused_by_both(blocks: list[bytes]) -> None:
    ours, theirs = Decoder(max_list=1 << 20), oracle.Decoder(max_header_list_size=1 << 20)
    theirs.max_allowed_table_size = 4096
    for block in blocks:
        try:
            read = plain(ours.decode(block))
        except ConnectionFault:
            read = None
        try:
            expected = tuple(tuple(field) for field in theirs.decode(block, raw=True))
        except (HPACKError, IndexError):
            expected = None
        if read is None and expected is not None:
            assert _stricter(block), block.hex()
        if read is None or expected is None:
            assert read is None, "we took what the oracle refuses"
            return
        assert read == expected


def _stricter(block: bytes) -> bool:
    """Where we refuse more: integers of more than four further bytes, and a third table size update in a block."""
    return any(byte in b"\x0f\x1f\x3f\x7f\xff" for byte in block) or sum(byte & 0xE0 == 0x20 for byte in block) > 2


@given(st.binary(max_size=12))
@settings(max_examples=1000)
def test_huffman_of_any_bytes(raw: bytes) -> None:
    expected: bytes | None
    try:
        expected = bytes(oracle.huffman_table.decode_huffman(raw))
    except HPACKError:
        expected = None
    try:
        assert huffman.decode(raw) == expected
    except ConnectionFault:
        assert expected is None


@given(st.one_of(st.binary(max_size=200), st.text("abcdefghij0123456789-_/", max_size=200).map(str.encode)))
def test_huffman_there_and_back(text: bytes) -> None:
    constants = oracle.huffman_constants
    coder = oracle.huffman.HuffmanEncoder(constants.REQUEST_CODES, constants.REQUEST_CODES_LENGTH)
    assert huffman.decode(coder.encode(text)) == text


def test_every_character_alone_and_beside_every_length_of_padding() -> None:
    constants = oracle.huffman_constants
    coder = oracle.huffman.HuffmanEncoder(constants.REQUEST_CODES, constants.REQUEST_CODES_LENGTH)
    for character in range(256):
        for before in (b"", b"0", b"00", b"A", b"&", b"000", b"A0", b"&0"):
            text = before + bytes((character,))
            assert huffman.decode(coder.encode(text)) == text


@given(LISTS, st.integers(100, 2000))
def test_the_list_is_measured_as_the_oracle_does(fields: list[tuple[bytes, bytes]], limit: int) -> None:
    block = hpack.encode(fields)
    try:
        oracle.Decoder(max_header_list_size=limit).decode(block, raw=True)
        fits = True
    except oracle.OversizedHeaderListError:
        fits = False
    try:
        Decoder(max_list=limit).decode(block)
        assert fits
    except ListTooLarge:
        assert not fits
