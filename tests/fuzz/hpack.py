"""Header blocks of HPACK, one after the other on one connection: indices, literals, sizes of the table."""

from random import Random

import hpack as oracle
from hpack.exceptions import HPACKError

from nova_sidecar.wire.http2 import hpack
from nova_sidecar.wire.http2.frames import ConnectionFault
from nova_sidecar.wire.http2.hpack import DEFAULT_TABLE, Decoder, Fields, ListTooLarge
from nova_sidecar.wire.http2.secret import Secret

from .mutate import mutated, shuffled

_MARK = b"\xfe|block|"
"""Between the blocks of one case: cases are bytes."""
_MAX_LIST = 65_536
_NAMES = [b":path", b"cookie", b"x-a", b"x-b", b"traceparent", b"", b"n" * 130, b"te"]
_VALUES = [
    b"",
    b"1",
    b"/",
    b"trailers",
    b"00-0af7651916cd43dd8448eb211c80319c-01",
    b"v" * 300,
    b"\xff\x00",
    b"w" * 3000,
]
_SPICE = [
    b"\x80", b"\x82", b"\xbe", b"\xbf", b"\xff\x00", b"\xff\xff\xff\xff\xff\x0f", b"\x20", b"\x3f\xe1\x1f",
    b"\x3f\xe2\x1f", b"\x40\x01a\x01b", b"\x00\x00\x00", b"\x10\x01k\x01s", b"\x7f",
    b"\x0f\x80\x80\x80\x80\x01", b"\x41\x81\xff", _MARK,
]  # fmt: skip


class Hpack:
    """The target."""

    name = "hpack"
    about = "header blocks; PyPI's hpack reads the same fields, and reads what is written anew"
    verdicts = ("read", "refused", "too large")

    def make(self, rng: Random) -> bytes:
        """Blocks by the oracle's encoder, some of them broken, lost or out of order."""
        encoder = oracle.Encoder()
        blocks = []
        usual = [(rng.choice(_NAMES), rng.choice(_VALUES)) for _ in range(rng.randrange(4))]
        for _ in range(rng.randrange(1, 6)):
            if rng.random() < 0.2:
                encoder.header_table_size = rng.choice([0, 64, 128, 1000, DEFAULT_TABLE])
            fields = usual + [(rng.choice(_NAMES), rng.choice(_VALUES)) for _ in range(rng.randrange(4))]
            typed = [
                oracle.NeverIndexedHeaderTuple(*each) if rng.random() < 0.1 else oracle.HeaderTuple(*each)
                for each in fields
            ]
            blocks.append(encoder.encode(typed, huffman=rng.random() < 0.5))
        if rng.random() < 0.05:
            blocks.append(b"\x40\x01l\x7f\xe1\x15" + b"w" * 2912 + b"\xbe" * rng.choice([20, 30, 1000]))
        if rng.random() < 0.3:
            blocks = shuffled(blocks, rng)
        data = _MARK.join(blocks)
        return data if rng.random() < 0.2 else mutated(data, rng, _SPICE)

    def check(self, data: bytes, rng: Random) -> str:
        """Block by block beside the oracle, each of some blocks twice, so that memory has its say."""
        ours, theirs = Decoder(max_list=_MAX_LIST), oracle.Decoder(max_header_list_size=1 << 24)
        theirs.max_allowed_table_size = DEFAULT_TABLE
        verdict = "read"
        for block in data.split(_MARK):
            for _ in range(rng.choice([1, 1, 2, 3])):
                read = _read(ours, block)
                expected = _expected(theirs, block)
                if read is None:
                    assert expected is None or _stricter(block), "we refuse what the oracle takes"
                    return "refused"
                assert expected is not None, "we take what the oracle refuses"
                _bounded(ours)
                size = sum(len(name) + len(value) + 32 for name, value in expected)
                assert (read == "too large") is (size > _MAX_LIST)
                if read == "too large":
                    verdict = "too large"
                else:
                    assert [(name, bytes(value)) for name, value in read] == expected, "the oracle reads other fields"
                    _goes_on(read)
        return verdict


def _read(decoder: Decoder, block: bytes) -> Fields | str | None:
    try:
        return decoder.decode(block)
    except ListTooLarge:
        return "too large"
    except ConnectionFault:
        return None


def _expected(decoder: oracle.Decoder, block: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except (HPACKError, IndexError):  # its decoder runs over the end of some blocks
        return None


def _bounded(decoder: Decoder) -> None:
    """The table keeps to its size and knows it; so does the memo."""
    entries = decoder._table[: -hpack._STATIC]
    assert decoder._used == sum(len(name) + len(value) + 32 for name, value in entries)
    assert decoder._used <= decoder._limit <= DEFAULT_TABLE
    largest = max(map(len, decoder._memo), default=0)
    assert sum(len(block) + 32 for block in decoder._memo) <= max(hpack._MEMO_BYTES, largest + 32)


def _stricter(block: bytes) -> bool:
    """Where we refuse more: integers of more than four further bytes, and a third table size update in a block."""
    return any(byte in b"\x0f\x1f\x3f\x7f\xff" for byte in block) or sum(byte & 0xE0 == 0x20 for byte in block) > 2


def _goes_on(fields: Fields) -> None:
    """What is written anew, any decoder reads, and what was never to be indexed stays so."""
    again = oracle.Decoder(max_header_list_size=1 << 24).decode(hpack.encode(fields), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in again] == [(n, bytes(v)) for n, v in fields]
    for (_, value), each in zip(fields, again, strict=True):
        assert not (type(value) is Secret and each.indexable), "a secret may be indexed further on"
