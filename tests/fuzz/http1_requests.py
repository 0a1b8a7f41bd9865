"""Requests of HTTP/1.1: heads, bodies, and several on one connection."""

from random import Random
from typing import NamedTuple

from nova_sidecar.policy.retry import ATTEMPT
from nova_sidecar.wire.chunked import LAST_CHUNK, ChunkedReader, chunk
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import MAX_HEAD, Malformed
from nova_sidecar.wire.head import check_start, head_end, without_empty_lines
from nova_sidecar.wire.request import RequestHead, RequestReader
from tests.loopback.support.message import chunked, request

from .driver import attributes
from .http1 import broken, check_bound
from .llhttp import Opinion, origin_form
from .mutate import pieces

HIDDEN = request("GET", "/hidden")
"""A request in a body: a difference in framing makes it one more request."""
REQUESTS = [
    request("GET", "/a?b=c", "Accept: */*", "Cookie: a=1; b=2"),
    request("POST", "/post", body=b"hello") + request("GET", "/next"),
    request("POST", "/hide", body=HIDDEN) + request("GET", "/next"),
    request("POST", "/chunks", "Transfer-Encoding: chunked") + chunked(b"abc", HIDDEN, trailers=["X-Sum: 1"]) + HIDDEN,
    request("PUT", "/ext", "Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + HIDDEN,
    request("OPTIONS", "*") + request("HEAD", "http://app/abs") + request("GET", "/", "Connection: close"),
]
MORE = [
    *REQUESTS,
    request("GET", "/", "Correlation-Id: 1", "X-Nova-Attempt: 1", "Idempotency-Key: k", "Connection: X-Own, close"),
    request("POST", "/", "Expect: 100-continue", body=b"abc") + b"\r\n\r\n" + HIDDEN,
    request("GET", "/", "Upgrade: websocket", "Connection: Upgrade", "TE: trailers", "Keep-Alive: 5"),
    request("GET", "http://other:80?q", "X-Long: " + "a" * 300),
]
SPICE = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"-", b"0", b"5", b"f", b"\x0b", b"\x7f",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"Host: b\r\n", b"0\r\n\r\n", b"1\r\n",
    b"HTTP/1.1", b"\xff", HIDDEN,
]  # fmt: skip
_CAPTURED = frozenset((b"correlation-id", ATTEMPT))
_SLOTS = tuple(name for name in attributes(RequestHead) if name != "captured")


class Read(NamedTuple):
    """One whole request."""

    head: RequestHead
    body: bytes
    trailers: bytes


def reader() -> RequestReader:
    """As a port makes it."""
    return RequestReader(capture=_CAPTURED, upgrades="none", host=b"app", keyed=True)


class Connection:
    """Reads as a connection does (transport.downstream), without one."""

    def __init__(self, heads: RequestReader) -> None:
        self.read: list[Read] = []
        self.refused: Malformed | None = None
        self.over = False
        """Whether nothing is read any more: refused, or the client's last request."""
        self._heads = heads
        self._buffer = b""
        self._searched = 0
        self._head: RequestHead | None = None
        self._chunks: ChunkedReader | None = None
        self._body = b""

    def feed(self, data: bytes) -> None:
        """Bytes as they come."""
        self._buffer += data
        try:
            while not self.over and (self._read_body() if self._head else self._read_head()):
                pass
        except Malformed as why:
            self.refused = why
            self.over = True

    def _read_head(self) -> bool:
        if self._buffer[:1] == b"\r":
            self._buffer = without_empty_lines(self._buffer)
        if self._buffer in (b"", b"\r"):
            return False
        end = head_end(self._buffer, self._searched)
        if end < 0:
            check_start(self._buffer)
            self._searched = len(self._buffer)
            assert self._searched < MAX_HEAD, "more is kept than a head may take"
            return False
        self._head = self._heads.read(self._buffer[:end])
        self._buffer, self._searched, self._body = self._buffer[end:], 0, b""
        self._chunks = ChunkedReader() if self._head.length == CHUNKED else None
        return True

    def _read_body(self) -> bool:
        assert self._head is not None
        trailers = b""
        if self._chunks is not None:
            self._body += b"".join(self._chunks.feed(self._buffer))
            self._buffer = b""
            if not self._chunks.done:
                return False
            self._buffer, trailers = self._chunks.rest, self._chunks.trailers
        else:
            left = self._head.length - len(self._body)
            self._body += self._buffer[:left]
            self._buffer = self._buffer[left:]
            if len(self._body) < self._head.length:
                return False
        self.read.append(Read(self._head, self._body, trailers))
        self.over = not self._head.keep_alive
        self._head = None
        return True


class Requests:
    """The target."""

    name = "http1-requests"
    about = "request heads and bodies of HTTP/1.1; llhttp reads what goes on, and what came, alike"
    verdicts = ("read", "refused")

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
        assert [_told(each) for each in whole.read] == [_told(each) for each in cut.read], "cuts, or memory, matter"
        assert (whole.refused is None) == (cut.refused is None), "cuts, or memory, matter"
        opinion = Opinion(data)
        reached = [(each.head.forward.split(b" ", 2)[1], each.body) for each in whole.read]
        expected = [(origin_form(each.method, each.target), each.body) for each in opinion.seen if each.whole]
        reached = reached if opinion.knows_all else reached[: len(expected)]
        assert reached == expected[: len(reached)], "llhttp reads other requests"
        for each in whole.read:
            _goes_on(each)
        self._bounded()
        return "refused" if whole.refused else "read"

    def _bounded(self) -> None:
        heads = self._heads
        check_bound(heads.memo)
        assert len(heads._lines) <= 256
        assert max(len(heads._fields._learned), len(heads._fields._names)) <= 512


def _told(read: Read) -> tuple[object, ...]:
    head = read.head
    return (*(getattr(head, name) for name in _SLOTS), sorted(head.captured.items()), read.body, read.trailers)


def _goes_on(read: Read) -> None:
    """What the app gets is read by us as it was, and by llhttp as one request."""
    head = read.head
    framing = b"transfer-encoding: chunked\r\n" if head.length == CHUNKED else b""
    again = reader().read(head.forward + framing + b"\r\n")
    assert (again.forward, again.length, again.verb, again.path) == (head.forward, head.length, head.verb, head.path)
    body = (chunk(read.body) if read.body else b"") + LAST_CHUNK + read.trailers + b"\r\n" if framing else read.body
    opinion = Opinion(head.forward + framing + b"\r\n" + body)
    if opinion.error != "a method it does not know":
        (seen,) = opinion.seen
        target = head.forward.split(b" ", 2)[1]
        assert (seen.method, seen.target, seen.body, seen.whole) == (head.method, target, read.body, True), (
            opinion.error
        )
