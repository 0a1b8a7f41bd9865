"""What the decoder remembers, and what it refuses (RFC 7541, RFC 9113 sections 4.3 and 10.5.1)."""

import operator

import hpack as oracle
import pytest

from nova_sidecar.wire.http2 import hpack
from nova_sidecar.wire.http2.frames import ConnectionFault, ErrorCode
from nova_sidecar.wire.http2.hpack import Decoder, ListTooLarge
from nova_sidecar.wire.http2.secret import Secret

INSERT = b"\x40\x01a\x01b"
"""a: b, into the dynamic table."""
NEWEST = b"\xbe"


def refused(*blocks: bytes) -> str:
    """Feed all but the last; how the last one is refused."""
    decoder = Decoder()
    for block in blocks[:-1]:
        decoder.decode(block)
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(blocks[-1])
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR
    return caught.value.why


# --- the memo


def test_a_block_under_the_same_table_gives_the_same_object() -> None:
    decoder = Decoder()
    assert decoder.decode(b"\x82\x86") is decoder.decode(b"\x82\x86")


def test_a_change_of_the_table_changes_what_a_block_means() -> None:
    decoder = Decoder()
    decoder.decode(INSERT)
    assert decoder.decode(NEWEST) == ((b"a", b"b"),)
    generation = decoder.generation
    assert decoder.decode(NEWEST) == ((b"a", b"b"),)
    assert decoder.generation == generation
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.generation > generation
    assert decoder.decode(NEWEST) == ((b"c", b"d"),)


def test_a_block_that_inserts_inserts_each_time() -> None:
    decoder = Decoder()
    for count in (1, 2, 3):
        decoder.decode(INSERT)
        assert repr(decoder) == f"<Decoder entries={count} used={34 * count}/4096>"


def test_a_block_that_resizes_resizes_each_time() -> None:
    decoder = Decoder()
    decoder.decode(b"\x20")
    decoder.decode(b"\x3f\xe1\x1f")
    decoder.decode(INSERT)
    decoder.decode(b"\x20")
    assert repr(decoder) == "<Decoder entries=0 used=0/0>"


def test_the_memo_is_bounded() -> None:
    decoder = Decoder()
    for number in range(2000):
        decoder.decode(hpack.encode([(b"n", b"%d" % number)]))
    assert sum(len(block) for block in decoder._memo) <= 16 * 1024


# --- the table


def test_an_entry_larger_than_the_table_empties_it() -> None:  # RFC 7541 section 4.4
    decoder = Decoder()
    decoder.decode(INSERT)
    value = b"v" * 5000
    block = oracle.Encoder().encode([(b"n", value)], huffman=False)
    assert decoder.decode(block) == ((b"n", value),)
    assert repr(decoder) == "<Decoder entries=0 used=0/4096>"
    assert "index" in refused(INSERT, block, NEWEST)


def test_the_name_of_an_entry_that_its_own_literal_pushes_out() -> None:  # RFC 7541 section 4.4
    decoder = Decoder()
    decoder.decode(b"\x3f\x01")  # a table of 32 bytes holds nothing
    decoder.decode(b"\x3f\x09")  # one of 40 holds one entry
    decoder.decode(b"\x40\x03abc\x01d")
    assert decoder.decode(b"\x7e\x02ef") == ((b"abc", b"ef"),)
    assert decoder.decode(NEWEST) == ((b"abc", b"ef"),)


def test_size_updates_stand_first_and_stay_below_the_limit() -> None:
    assert Decoder().decode(b"\x20\x3f\xe1\x1f\x82") == ((b":method", b"GET"),)
    assert "first" in refused(b"\x82\x20")
    assert "size" in refused(b"\x3f\xe2\x1f")  # 4097
    assert "too many" in refused(b"\x20\x20\x20")
    assert Decoder(max_table=8192).decode(b"\x3f\xe2\x1f") == ()


def test_a_table_smaller_than_peers_may_use_is_not_offered() -> None:
    with pytest.raises(ValueError, match="4096"):
        Decoder(max_table=1000)


# --- broken blocks


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xc0",  # nothing in the dynamic table
        b"\xff\x00",  # index 127
        b"\xff",  # an integer that does not end
        b"\xff\x80\x80\x80",
        b"\xff\x80\x80\x80\x80\x80\x01",  # longer than any index
        b"\x0f\xff\xff\xff\xff\x7f",
        b"\x7f",
        b"\x41",  # no value
        b"\x41\x05abc",  # the value ends too early
        b"\x40\x05abc",  # the name does
        b"\x00",
        b"\x00\x01",
        b"\x10\x01a",
        b"\x40\x01a\x81",
        b"\x40\x01a\x7f",
        b"\x40\x01a\x7f\xff\xff\xff\x7f",
        b"\x7f\x01\x01a",  # the name of an entry that is not there
    ],
)
def test_blocks_that_break_the_format(block: bytes) -> None:
    assert refused(block)
    assert refused(b"\x82", INSERT[:1] + b"\x01x\x01y", b"\x82" + block)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"\xff", "eight ones"),
        (b"\x07\xff", "0, then eleven ones"),
        (b"\x00", "0, then zeros for padding"),
        (b"\x18", "a, then no ones"),
        (b"\xff\xff\xff\xff", "the end-of-string code"),
        (b"\xff\xff\xff\xfc", "the end-of-string code, padded with zeros"),
        (b"\xfe", "a code that does not end"),
        (b"\xff\xfe", "a long code that does not end"),
    ],
)
def test_huffman_strings_that_break_the_format(raw: bytes, what: str) -> None:  # RFC 7541 section 5.2
    assert refused(b"\x00\x01a" + bytes((0x80 | len(raw),)) + raw), what


# --- the list


def test_a_list_too_large_leaves_the_table_as_it_should_be() -> None:
    decoder = Decoder(max_list=300)
    with pytest.raises(ListTooLarge):
        decoder.decode(INSERT + NEWEST * 20 + b"\x40\x01c\x01d")
    assert decoder.decode(b"\xbe\xbf") == ((b"c", b"d"), (b"a", b"b"))


def test_a_list_too_large_changes_what_other_blocks_mean() -> None:
    decoder = Decoder(max_list=300)
    decoder.decode(INSERT)
    assert decoder.decode(NEWEST) == ((b"a", b"b"),)
    with pytest.raises(ListTooLarge):
        decoder.decode(b"\x40\x01c\x01d" + NEWEST * 20)
    assert decoder.decode(NEWEST) == ((b"c", b"d"),)


def test_indices_cannot_blow_a_list_up() -> None:
    decoder = Decoder(max_list=65_536)
    value = b"v" * 4000
    decoder.decode(oracle.Encoder().encode([(b"n", value)], huffman=False))
    assert len(decoder.decode(NEWEST * 16)) == 16
    with pytest.raises(ListTooLarge):
        decoder.decode(NEWEST * 17)
    with pytest.raises(ListTooLarge):
        decoder.decode(NEWEST * 60_000)


def test_a_list_that_fits_exactly() -> None:
    block = hpack.encode([(b"a", b"b")] * 3)
    assert len(Decoder(max_list=102).decode(block)) == 3
    with pytest.raises(ListTooLarge):
        Decoder(max_list=101).decode(block)


# --- encoding


def test_blocks_use_the_static_table_and_nothing_else() -> None:
    assert hpack.encode([(b":method", b"POST"), (b":status", b"204"), (b":path", b"/a")]) == b"\x83\x89\x04\x02/a"
    assert hpack.encode([(b"te", b"trailers")]) == b"\x00\x02te\x08trailers"
    assert hpack.literal(b"www-authenticate", b"x") == b"\x0f\x2e\x01x"  # index 61 does not fit four bits


@pytest.mark.parametrize("name", [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"])
def test_credentials_are_never_indexed(name: bytes) -> None:  # RFC 7541 section 7.1.3
    (field,) = oracle.Decoder().decode(hpack.literal(name, b"secret"), raw=True)
    assert not field.indexable
    assert hpack.literal(name, b"s") == hpack.literal_name(name) + hpack.text(b"s")


def test_a_secret_equals_only_its_like() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert hash(Secret(b"a")) == hash(Secret(b"a"))
    assert Secret(b"a") != b"a"
    assert not operator.eq(b"a", Secret(b"a"))
    assert {(b"n", b"a"): 1}.get((b"n", Secret(b"a"))) is None
