"""Thousands of slightly broken messages: what gets through must be what another parser reads too.

llhttp, the parser of Node.js, is the second opinion: the requests that reach the app must be the first ones of those
that llhttp finds in the client's bytes, with the same method, target and body. The seeds are fixed, so that a failure
comes back; HIDDEN in a seed makes a difference in framing visible as one more request.
"""

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httptools
import pytest

from .conftest import StartSidecar
from .support.app import App, Call
from .support.message import chunked, request, response
from .support.peer import Ended
from .support.sidecar import ONCE, Sidecar, document, inbound

HIDDEN = request("GET", "/hidden")
REQUESTS = [
    request("GET", "/a?b=c", "Accept: */*", "Cookie: a=1; b=2"),
    request("POST", "/post", body=b"hello") + request("GET", "/next"),
    request("POST", "/hide", body=HIDDEN) + request("GET", "/next"),
    request("POST", "/chunks", "Transfer-Encoding: chunked") + chunked(b"abc", HIDDEN, trailers=["X-Sum: 1"]) + HIDDEN,
    request("PUT", "/ext", "Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + HIDDEN,
    request("OPTIONS", "*") + request("HEAD", "http://app/abs") + request("GET", "/", "Connection: close"),
]
RESPONSES = [
    response("200 OK", "X-A: b", body=b"hello"),
    response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"abc", b"de", trailers=["X-Sum: 1"]),
    response("204 No Content", body=None),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(body=b"late"),
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    response("500 Oops", "Connection: close", "Set-Cookie: a=1", body=b"oops"),
]
SPICE = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"-", b"0", b"5", b"f", b"\x0b", b"\x7f",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"Host: b\r\n", b"0\r\n\r\n", b"1\r\n",
    b"HTTP/1.1", b"\xff", HIDDEN,
]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data with one to three small accidents."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([1, 1, 2, 5, 20]))
        accident = rng.choice(["insert", "insert", "replace", "delete", "repeat", "flip", "case"])
        if accident == "insert":
            data = data[:at] + rng.choice(SPICE) + data[at:]
        elif accident == "replace":
            data = data[:at] + rng.choice(SPICE) + data[end:]
        elif accident == "delete":
            data = data[:at] + data[end:]
        elif accident == "repeat":
            data = data[:end] + data[at:]
        elif accident == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif accident == "case":
            data = data[:at] + data[at:end].swapcase() + data[end:]
    return data


_REWRITTEN = re.compile("chunk extension|Transfer-Encoding")
"""What llhttp refuses and Nova removes or writes anew: odd extensions, a tab behind chunked, framing in trailers."""
_SPACED_EXTENSION = re.compile(rb"\r\n[0-9A-Fa-f]+[ \t]+;")  # legal (section 7.1.1), but not for llhttp


@dataclass
class Opinion:
    """What llhttp reads."""

    messages: list[tuple[bytes, bytes]] = field(default_factory=list)
    target: bytes = b""
    body: bytes = b""
    knows_all: bool = True

    def on_message_begin(self) -> None:
        self.target = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages.append((self.target, self.body))

    @classmethod
    def of(cls, data: bytes) -> "Opinion":
        """The requests that llhttp finds complete, target and body of each."""
        opinion = cls()
        parser = httptools.HttpRequestParser(opinion)
        try:
            parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            opinion.knows_all = False  # it has a list of methods; HTTP has none
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            opinion.knows_all = not (_REWRITTEN.search(str(error)) or _SPACED_EXTENSION.search(data))
        return opinion


@pytest.fixture
def edge(start: StartSidecar) -> Iterator[Callable[[Callable[[Call], bytes | None]], tuple[Sidecar, App]]]:
    """A sidecar in front of an app that answers like this."""
    apps = []

    def make(answer: Callable[[Call], bytes | None]) -> tuple[Sidecar, App]:
        apps.append(App(answer))
        return start(document(inbound(apps[-1].address, pool=ONCE))), apps[-1]

    yield make
    for each in apps:
        each.stop()


@pytest.mark.parametrize("seed", range(4))
def test_broken_requests(edge, seed: int) -> None:
    sidecar, app = edge(lambda _: response(body=b"ok"))
    rng = random.Random(seed)
    for _ in range(400):
        data = mutated(rng.choice(REQUESTS), rng)
        before = len(app.calls)
        with sidecar.connect() as client, contextlib.suppress(ConnectionError, OSError):
            client.send(data)
            client.finish()
            client.expect_closed()

        reached = [(call.request.target.encode("latin-1"), call.request.body) for call in app.calls[before:]]
        opinion = Opinion.of(data)
        expected = [(_origin_form(target), body) for target, body in opinion.messages]
        assert reached[: None if opinion.knows_all else len(expected)] == expected[: len(reached)], data
    assert not app.broken, app.broken
    assert len(app.calls) > 100, "hardly anything came through: the accidents are too large to tell anything"


@pytest.mark.parametrize("seed", range(2))
def test_broken_responses(edge, seed: int) -> None:
    """However an app answers, a client reads one well-formed response or sees that it is broken off."""
    rng = random.Random(seed)
    reply = b""

    def answer(call: Call) -> None:
        call.peer.send(reply)

    sidecar, _ = edge(answer)
    whole = 0
    for number in range(400):
        reply = mutated(rng.choice(RESPONSES), rng)
        with sidecar.connect() as client, contextlib.suppress(Ended, ConnectionError):
            client.send(request("GET", f"/{number}"))
            assert 200 <= client.response().status < 600, reply
            assert client.poll() == b"", (reply, client)
            whole += 1
    assert whole > 100


def _origin_form(target: bytes) -> bytes:
    return re.sub(rb"^(?i:https?)://[^/?]+/?", b"/", target)
