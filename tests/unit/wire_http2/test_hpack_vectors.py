"""The examples of RFC 7541 appendix C, byte for byte."""

import pytest

from nova_sidecar.wire.http2 import hpack
from nova_sidecar.wire.http2.hpack import Decoder

Exchange = list[tuple[str, dict[str, str], str]]

REQUESTS = [
    {":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com"},
    {
        ":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com", "cache-control": "no-cache",
    },
    {
        ":method": "GET", ":scheme": "https", ":path": "/index.html", ":authority": "www.example.com",
        "custom-key": "custom-value",
    },
]  # fmt: skip
FIRST, SECOND = "Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT"
LOCATION = "https://www.example.com"
COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
RESPONSES = [
    {":status": "302", "cache-control": "private", "date": FIRST, "location": LOCATION},
    {":status": "307", "cache-control": "private", "date": FIRST, "location": LOCATION},
    {
        ":status": "200", "cache-control": "private", "date": SECOND, "location": LOCATION, "content-encoding": "gzip",
        "set-cookie": COOKIE,
    },
]  # fmt: skip
REQUEST_TABLES = ["entries=1 used=57/4096", "entries=2 used=110/4096", "entries=3 used=164/4096"]
RESPONSE_TABLES = ["entries=4 used=222/256", "entries=4 used=222/256", "entries=3 used=215/256"]

PLAIN_REQUESTS = [  # C.3
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
]
HUFFMAN_REQUESTS = [  # C.4
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
]
PLAIN_RESPONSES = [  # C.5
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e"
    "1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "4803 3330 37c1 c0bf",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d"
    "4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572"
    "7369 6f6e 3d31",
]
HUFFMAN_RESPONSES = [  # C.6
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b"
    "97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf"
    "cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
]
TABLE_OF_256 = "3fe101"


def fields(expected: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in expected.items())


@pytest.mark.parametrize("blocks", [PLAIN_REQUESTS, HUFFMAN_REQUESTS])
def test_requests_on_one_connection(blocks: list[str]) -> None:
    decoder = Decoder()
    for block, expected, table in zip(blocks, REQUESTS, REQUEST_TABLES, strict=True):
        assert decoder.decode(bytes.fromhex(block)) == fields(expected)
        assert repr(decoder) == f"<Decoder {table}>"


@pytest.mark.parametrize("blocks", [PLAIN_RESPONSES, HUFFMAN_RESPONSES])
def test_responses_that_push_each_other_out_of_the_table(blocks: list[str]) -> None:
    decoder = Decoder()
    for number, (block, expected, table) in enumerate(zip(blocks, RESPONSES, RESPONSE_TABLES, strict=True)):
        assert decoder.decode(bytes.fromhex(("" if number else TABLE_OF_256) + block)) == fields(expected)
        assert repr(decoder) == f"<Decoder {table}>"


@pytest.mark.parametrize(
    ("block", "expected", "table"),
    [
        ("400a6375 73746f6d 2d6b6579 0d637573 746f6d2d 68656164 6572", {"custom-key": "custom-header"}, "1 used=55"),
        ("040c 2f73 616d 706c 652f 7061 7468", {":path": "/sample/path"}, "0 used=0"),
        ("82", {":method": "GET"}, "0 used=0"),
    ],
)
def test_representations(block: str, expected: dict[str, str], table: str) -> None:  # C.2
    decoder = Decoder()
    assert decoder.decode(bytes.fromhex(block)) == fields(expected)
    assert repr(decoder) == f"<Decoder entries={table}/4096>"


def test_a_literal_never_to_be_indexed_goes_on_as_one() -> None:  # C.2.3
    block = bytes.fromhex("1008 7061 7373 776f 7264 0673 6563 7265 74")
    ((name, value),) = Decoder().decode(block)
    assert (name, bytes(value)) == (b"password", b"secret")
    assert hpack.encode([(name, value)]) == block


def test_integers_longer_than_their_prefix() -> None:  # C.1
    value = b"v" * 1337
    encoded = hpack.literal(b"x", value)
    assert encoded[3:6] == bytes.fromhex("7fba09")  # 1337 - 127 = 1210 in groups of seven bits
    assert Decoder().decode(encoded) == ((b"x", value),)
    with_update = bytes.fromhex("3f9a0a")  # C.1.2: 1337 behind a prefix of five bits
    decoder = Decoder()
    assert decoder.decode(with_update) == ()
    assert repr(decoder) == "<Decoder entries=0 used=0/1337>"
