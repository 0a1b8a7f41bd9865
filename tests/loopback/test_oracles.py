"""The same hostile bytes for nginx, HAProxy and Nova: Nova refuses whatever either of them refuses.

Every row that one of them takes and Nova refuses is explained in `STRICTER`: strictness is the point, but nobody should
be refused for no reason.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .support.app import App, Call
from .support.message import Message, chunked, request, response
from .support.oracles import available, running
from .support.peer import Peer
from .support.sidecar import ONCE, Sidecar, document, inbound
from .test_smuggling import REFUSED_AT_THE_HEAD, REFUSED_IN_THE_BODY, post

GOOD = {
    "plain": request(),
    "body": request("POST", "/", body=b"abc"),
    "chunked": post("Transfer-Encoding: chunked", body=chunked(b"abc", b"de")),
    "chunked, odd case": post("transfer-ENCODING: Chunked", body=b"0003\r\nabc\r\n000\r\n\r\n"),
    "chunk extension": post("Transfer-Encoding: chunked", body=b"3;a=b\r\nabc\r\n0\r\n\r\n"),
    "trailer": post("Transfer-Encoding: chunked", body=chunked(b"abc", trailers=["X-Sum: 1"])),
    "absolute form": request("GET", "http://app/x", host="app"),
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: app\r\n\r\n",
    "empty line first": b"\r\n" + request(),
    "odd target": request("GET", "/a?b=%00&c=|"),
    "no space after colon": b"GET / HTTP/1.1\r\nHost:app\r\n\r\n",
    "tabs around a value": b"GET / HTTP/1.1\r\nHost: app\r\nX: \ta\t\r\n\r\n",
}
STRICTER = {
    # rows, as a regular expression: why Nova refuses what nginx 1.22 or HAProxy 2.6 takes
    r"CL and TE|TE and CL|CL 0 and TE|CL in Connection": "RFC 9112 section 6.1 allows to drop "
    "Content-Length, and calls it an attempt at smuggling; no client has a reason to send both",
    r"TE in HTTP/1.0": "RFC 9112 section 6.1: the framing of such a message is faulty",
    r"CL b'5, ?5'": "RFC 9112 section 6.3 allows to merge equal values; a sender that repeats them is broken",
    r"chunked and comma": "an empty list element is legal and pointless, and parsers split on it differently",
    r"fold|leading space": "RFC 9112 section 5.2: 400, or replace by spaces, which apps of another mind do not see",
    r"LF|CR|line break in name": "RFC 9112 section 2.2 allows a bare LF; who does not take it reads another message",
    r"request line|after the version": "RFC 9112 section 3 allows other white space; request splitting begins there",
    r"fragment in the target|asterisk for GET": "not a request target (RFC 9112 section 3.2)",
    r"(value|target|host) with 0x": "no value holds control characters (RFC 9110 section 5.5); terminals act on them",
    r"name with|field without colon": "not a token; nginx drops such a line in silence, so client and app disagree",
    r"chunk size|trailer": "RFC 9112 section 7.1: not a chunk, or longer than any that has a purpose",
}


@dataclass
class Fate:
    """What became of some bytes: the status that the client saw first, and the complete requests the app got."""

    status: int | None
    reached: list[Message]

    @property
    def accepted(self) -> bool:
        """The app answered, so the proxy took the bytes for a request."""
        return self.status is not None and self.status < 400


@dataclass
class Judge:
    """One proxy in front of its own app."""

    name: str
    address: tuple[str, int]
    app: App

    def judge(self, data: bytes) -> Fate:
        """Send the bytes, then nothing more, and see what happens."""
        before = len(self.app.calls)
        with Peer.connect(self.address) as client:
            client.socket.settimeout(3)
            client.send_if_open(data)
            try:
                status: int | None = client.head().status
            except (AssertionError, ValueError, ConnectionError):
                status = None  # closed without an answer, or not one that a client could read
        return Fate(status, [call.request for call in self.app.calls[before:]])


def _answer(_: Call) -> bytes:
    return response("200 OK", "Connection: close", body=b"ok")


@pytest.fixture(scope="module")
def nova(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with App(_answer) as app:
        sidecar = Sidecar.start(document(inbound(app.address, pool=ONCE)), tmp_path_factory.mktemp("nova"))
        try:
            yield Judge("nova", sidecar.address(), app)
        finally:
            sidecar.stop()


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    program: str = request.param
    if not available(program):
        pytest.skip(f"{program} is not installed; on Debian: apt-get install {program}")
    with App(_answer) as app, running(program, app.address, tmp_path_factory.mktemp(program)) as address:
        yield Judge(program, address, app)


@pytest.mark.parametrize("name", GOOD)
def test_all_agree_on_what_is_good(nova: Judge, oracle: Judge, name: str) -> None:
    ours, theirs = nova.judge(GOOD[name]), oracle.judge(GOOD[name])

    assert (ours.status, theirs.status) == (200, 200)
    assert [(each.method, each.body) for each in ours.reached] == [(each.method, each.body) for each in theirs.reached]


@pytest.mark.timeout(120)
def test_nova_is_at_least_as_strict(nova: Judge, oracle: Judge) -> None:
    """One table at a time: a test per row and oracle would say nothing more."""
    weaker, stricter = [], []
    for name, data in (REFUSED_AT_THE_HEAD | REFUSED_IN_THE_BODY | GOOD).items():
        if len(data) > 100_000:
            continue  # a question of limits, not of reading
        ours, theirs = nova.judge(data), oracle.judge(data)
        if ours.accepted and not theirs.accepted:
            weaker.append((name, ours, theirs))
        if theirs.accepted and not ours.accepted:
            stricter.append(name)
    assert not weaker
    assert [name for name in stricter if not re.search("|".join(STRICTER), name)] == []
    assert stricter, f"{oracle.name} refused every row: the table has lost its edge, or the oracle is broken"
