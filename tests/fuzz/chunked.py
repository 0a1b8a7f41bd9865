"""The chunked coding alone: sizes, extensions, trailers."""

from random import Random

from nova_sidecar.wire.chunked import LAST_CHUNK, MAX_TRAILERS, ChunkedReader, chunk
from nova_sidecar.wire.grammar import Malformed

from .llhttp import Opinion
from .mutate import mutated, pieces, shuffled

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_PARTS = [b"3\r\nabc\r\n", b"A\r\n0123456789\r\n", b"1;a=b\r\nx\r\n", b'2;q="1\\"2"\r\nyz\r\n', b"00001\r\n\r\r\n"]
_ENDS = [b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\nHost: b\r\n\r\n", b"000;last\r\nX-A: b\r\nX-C: d\r\n\r\n"]
_SPICE = [
    b"\r", b"\n", b"\r\n", b"0\r\n", b"0\r\n\r\n", b"1\r\n", b";", b"=", b'"', b"\\", b" ", b"\t", b"-", b"+", b"0x",
    b"f" * 15, b"f" * 16, b"\0", b"\x80", b"_", b"Content-Length: 1\r\n", b"a" * 300,
]  # fmt: skip


class Chunked:
    """The target."""

    name = "chunked"
    about = "the chunked coding of HTTP/1.1; llhttp reads the same content, as it came and as it is written anew"
    verdicts = ("read", "refused", "cut short")

    def make(self, rng: Random) -> bytes:
        """Some chunks, an end, and what follows."""
        parts = [rng.choice(_PARTS) for _ in range(rng.randrange(5))] + [rng.choice(_ENDS), b"GET"]
        if rng.random() < 0.3:
            parts = shuffled(parts, rng)
        return mutated(b"".join(parts), rng, _SPICE)

    def check(self, data: bytes, rng: Random) -> str:
        """Whole, in pieces, and by llhttp."""
        whole, cut = _read([data]), _read(pieces(data, rng))
        assert whole == cut, "cuts matter"
        content, rest, trailers, state = whole
        came = Opinion(_HEAD + data)
        if state == "read":
            assert content == came.seen[0].body or not came.knows_all, "llhttp reads another content"
            assert came.seen[0].whole or not came.knows_all, "llhttp finds no end"
            assert data.endswith(rest)
            assert len(trailers) <= MAX_TRAILERS + 2
            sent = Opinion(_HEAD + (chunk(content) if content else b"") + LAST_CHUNK + trailers + b"\r\n")
            assert (sent.messages, sent.error) == ([(b"/", content)], "")
        return state


def _read(parts: list[bytes]) -> tuple[bytes, bytes, bytes, str]:
    """Content, rest, trailers and how it ended."""
    reader, content, rest = ChunkedReader(), b"", b""
    try:
        for part in parts:
            if reader.done:
                rest += part
            else:
                content += b"".join(reader.feed(part))
                assert len(reader._buffer) <= MAX_TRAILERS
                rest = reader.rest
    except Malformed:
        return b"", b"", b"", "refused"
    return content, rest, reader.trailers, "read" if reader.done else "cut short"
