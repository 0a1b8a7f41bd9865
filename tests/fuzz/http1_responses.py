"""Responses of HTTP/1.1: interim ones, heads, and bodies of every framing, up to the end of the connection."""

from random import Random
from typing import NamedTuple

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.wire.chunked import LAST_CHUNK, ChunkedReader, chunk
from nova_sidecar.wire.fields import CHUNKED, UNTIL_CLOSE
from nova_sidecar.wire.grammar import MAX_HEAD, Malformed
from nova_sidecar.wire.head import head_end
from nova_sidecar.wire.response import ResponseHead, ResponseReader
from tests.loopback.support.message import chunked, response

from .driver import attributes
from .http1 import broken, check_bound
from .http1_requests import SPICE
from .llhttp import Opinion
from .mutate import pieces

RESPONSES = [
    response("200 OK", "X-A: b", body=b"hello"),
    response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"abc", b"de", trailers=["X-Sum: 1"]),
    response("204 No Content", body=None),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(body=b"late"),
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    response("500 Oops", "Connection: close", "Set-Cookie: a=1", body=b"oops"),
]
MORE = [
    *RESPONSES,
    response("304 Not Modified", "Content-Length: 5", "ETag: x", body=None),
    response("503 Busy", "Retry-After: 3", "X-Nova-Reject: overloaded", "Correlation-Id: 1", body=b"no"),
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\nConnection: X-Own\r\nX-Own: 1\r\n\r\nok",
]
_SLOTS = attributes(ResponseHead)


def reader() -> ResponseReader:
    """As a port makes it."""
    return ResponseReader(drop=frozenset((b"correlation-id",)), outcomes=Outcomes(BreakerPolicy()))


class Read(NamedTuple):
    """What came of one answer."""

    interim: list[ResponseHead]
    head: ResponseHead | None
    body: bytes
    trailers: bytes
    whole: bool


class Connection:
    """Reads as a connection to an upstream does (transport.upstream), without one: one answer to a GET."""

    def __init__(self, heads: ResponseReader) -> None:
        self.refused: Malformed | None = None
        self._heads = heads
        self._interim: list[ResponseHead] = []
        self._head: ResponseHead | None = None
        self._buffer = self._body = self._trailers = b""
        self._searched = 0
        self._chunks = ChunkedReader()
        self._whole = False

    def feed(self, data: bytes) -> None:
        """Bytes as they come."""
        try:
            while self.refused is None and not self._whole and data:
                data = self._read_body(data) if self._head else self._read_head(data)
        except Malformed as why:
            self.refused = why

    def read(self) -> Read:
        """What it came to when the connection ended."""
        if self.refused is not None:  # how much of a body came before does depend on cuts
            return Read(self._interim, self._head, b"", b"", False)
        ended = self._head is not None and self._head.length == UNTIL_CLOSE
        return Read(self._interim, self._head, self._body, self._trailers, self._whole or ended)

    def _read_head(self, data: bytes) -> bytes:
        data = self._buffer + data
        end = head_end(data, self._searched)
        if end < 0:
            self._buffer, self._searched = data, len(data)
            assert len(data) < MAX_HEAD, "more is kept than a head may take"
            return b""
        self._buffer, self._searched = b"", 0
        head = self._heads.read(data[:end])
        if head.status < 200 and head.status != 101:
            self._interim.append(head)
        else:
            self._head = head
            self._whole = head.length == 0
        return data[end:]

    def _read_body(self, data: bytes) -> bytes:
        assert self._head is not None
        if self._head.length == CHUNKED:
            self._body += b"".join(self._chunks.feed(data))
            self._whole, self._trailers = self._chunks.done, self._chunks.trailers
        elif self._head.length == UNTIL_CLOSE:
            self._body += data
        else:
            self._body += data[: self._head.length - len(self._body)]
            self._whole = len(self._body) == self._head.length
        return b""


class Responses:
    """The target."""

    name = "http1-responses"
    about = "response heads and bodies of HTTP/1.1; llhttp reads what goes on, and what came, alike"
    verdicts = ("read", "refused", "cut short")

    def __init__(self) -> None:
        self._heads = reader()

    def make(self, rng: Random) -> bytes:
        """Broken in its bytes, or in the order of its lines."""
        return broken(MORE, rng, SPICE)

    def check(self, data: bytes, rng: Random) -> str:
        """Whole and in pieces, with and without memory, and by llhttp."""
        whole, cut = Connection(self._heads), Connection(reader())
        whole.feed(data)
        for piece in pieces(data, rng):
            cut.feed(piece)
        read = whole.read()
        assert _told(read) == _told(cut.read()), "cuts, or memory, matter"
        assert (whole.refused is None) == (cut.refused is None), "cuts, or memory, matter"
        check_bound(self._heads.memo)
        for head in read.interim:
            _goes_on(head, b"", b"")
        if whole.refused or read.head is None or not read.whole:
            return "refused" if whole.refused else "cut short"
        if read.head.status != 101:
            _came(read, Opinion(data, responses=True))
            _goes_on(read.head, read.body, read.trailers)
        return "read"


def _told(read: Read) -> object:
    heads = [[getattr(head, name) for name in _SLOTS] for head in (*read.interim, read.head) if head is not None]
    return heads, read.body, read.trailers, read.whole


def _came(read: Read, opinion: Opinion) -> None:
    """llhttp has found the same answer, if it can read it at all."""
    seen = [each for each in opinion.seen if each.status >= 200]
    assert read.head is not None
    if seen and opinion.knows_all:
        assert (seen[0].status, seen[0].body) == (read.head.status, read.body), "llhttp reads another response"
    assert seen or opinion.error or not opinion.knows_all, "llhttp finds no response"


def _goes_on(head: ResponseHead, body: bytes, trailers: bytes) -> None:
    """What the client gets is read by us as it was, and by llhttp as one response."""
    framing = b"transfer-encoding: chunked\r\n" if head.length in (CHUNKED, UNTIL_CLOSE) else b""
    again = reader().read(head.forward + framing + b"\r\n")
    assert again.forward == head.forward
    assert again.status == head.status
    assert again.length == (CHUNKED if framing else head.length)
    sent = (chunk(body) if body else b"") + LAST_CHUNK + trailers + b"\r\n" if framing else body
    opinion = Opinion(head.forward + framing + b"\r\n" + sent, responses=True)
    (seen,) = opinion.seen
    assert (seen.status, seen.body) == (head.status, body), opinion.error
    assert seen.whole, f"no end: {opinion.error}"
