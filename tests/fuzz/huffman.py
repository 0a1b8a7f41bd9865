"""The Huffman code of HPACK: strings as zlib reads them for us, against PyPI's hpack."""

from collections.abc import Callable
from random import Random

from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

from nova_sidecar.wire.http2 import huffman
from nova_sidecar.wire.http2.frames import ConnectionFault

from .mutate import mutated

_ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_USUAL = b"0123456789abcdef-/=; .:_%ABCXYZ~|{}<>&*,!\"()?'+#$@[]^`"
_SPICE = [b"\xff", b"\xff\xff\xff\xff", b"\x00", b"\xfe", b"\x7f", b"\xff\xff\xff\xfc", b"\x1f", b"\xff\xc7"]


class Huffman:
    """The target."""

    name = "huffman"
    about = "Huffman-coded strings of header blocks; PyPI's hpack decodes or refuses each alike"
    verdicts = ("read", "refused")

    def make(self, rng: Random) -> bytes:
        """A coded string of usual, rare or any characters, most of them broken, or any bytes."""
        alphabet = rng.choice([_USUAL, bytes(range(256)), b"\x00\\\xc3\x0a\x16\xf9" + _USUAL])
        text = bytes(rng.choice(alphabet) for _ in range(rng.choice([0, 1, 2, 5, 20, 60, 300])))
        coded = _ENCODER.encode(text)
        if rng.random() < 0.2:
            return coded
        if rng.random() < 0.2:
            return rng.randbytes(rng.randrange(40))
        return mutated(coded, rng, _SPICE)

    def check(self, data: bytes, rng: Random) -> str:
        """With and without memory, by a table, and by the oracle."""
        read = _or_none(huffman.decode, data)
        assert read == _or_none(huffman.decode, data) == _or_none(huffman.decode_new, data), "memory matters"
        assert read == _or_none(huffman._decode_any, data), "zlib and the table differ"
        try:
            expected = decode_huffman(data)
        except HPACKDecodingError:
            expected = None
        assert read == expected, "the oracle differs"
        assert len(huffman._remembered) <= 1024
        if read is None:
            return "refused"
        assert len(read) <= 8 * len(data) // 5
        assert _ENCODER.encode(read) == data, "another string has the same code"
        return "read"


def _or_none(decode: Callable[[bytes], bytes], data: bytes) -> bytes | None:
    try:
        return decode(data)
    except ConnectionFault:
        return None
