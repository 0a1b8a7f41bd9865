"""Every fault of an upstream and of a client, in every phase of a request, inbound and outbound.

One row is one fault. For each it is asserted what the other side sees, under which reason it is counted, what the
access log says, and that nothing is left: no exchange, no connection to the app, no place of the limiter.
"""

import json
import select
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from nova_api.policies import BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .support.message import chunked, request, response
from .support.peer import PATIENCE, Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound
from .support.waiting import eventually
from .support.wire import Wire

IMPATIENT = TimeoutPolicy(request=Duration(1), attempt=Duration(0.3), connect=Duration(0.3), stream_idle=Duration(0.3))
NO_BREAKER, NO_RETRY = BreakerPolicy(mode="Off"), RetryPolicy(mode="Off")
SIDES = pytest.mark.parametrize("side", ["web", "db"], ids=["inbound", "outbound"])
LEFT_BEHIND = {
    "nova_requests_in_flight", "nova_pool_connections", "nova_downstream_connections", "nova_limiter_in_flight",
}  # fmt: skip
"""Gauges that are 0 when nothing is under way."""
GARBAGE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n"

LENGTH = response("200 OK", "Content-Length: 100", body=None)
CHUNKED = response("200 OK", "Transfer-Encoding: chunked", body=None)
CLOSING = response("200 OK", body=None)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One impatient sidecar for all rows: nothing that one leaves behind may disturb the next."""
    upstream = Listener()
    config = document(
        inbound(upstream.address, pool=ONCE, timeout=IMPATIENT),
        outbound(upstream.address, pool=ONCE, timeout=IMPATIENT, circuit_breaker=NO_BREAKER, retry=NO_RETRY),
    )
    sidecar = Sidecar.start(config, tmp_path_factory.mktemp("matrix"))
    sockets = sidecar.sockets
    yield sidecar, upstream
    try:
        eventually(lambda: sidecar.sockets <= sockets)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        upstream.close_all()
    assert not sidecar.complaints(), sidecar.complaints()


class Counted:
    """What changed in the sidecar since the row began."""

    def __init__(self, sidecar: Sidecar, side: str) -> None:
        self._sidecar = sidecar
        self._side = side
        self._seen = len(sidecar.text)
        self._before = self._rejected()

    def _page(self) -> list[tuple[str, int]]:
        """Samples with their values; hundreds of rows look several times each, so without a parser of metrics."""
        lines = self._sidecar.status("/metrics")[1].decode().splitlines()
        return [(line.rpartition(" ")[0], int(float(line.rpartition(" ")[2]))) for line in lines if line[0] != "#"]

    def _rejected(self) -> Counter[str]:
        mine = [(name, value) for name, value in self._page() if f'name="{self._side}"' in name and value]
        found = [(name, value) for name, value in mine if name.startswith("nova_rejected_total")]
        return Counter({name.split('reason="')[1].split('"')[0]: value for name, value in found})

    def settled(self) -> bool:
        """Whether nothing of the row is left."""
        return not [name for name, value in self._page() if value and name.partition("{")[0] in LEFT_BEHIND]

    def check(self, *expected: tuple[int, str]) -> None:
        """Nothing is left, and these statuses and reasons were logged and counted, no others."""
        eventually(self.settled)
        eventually(lambda: len(self._lines()) >= len(expected))
        assert self._lines() == list(expected)
        assert self._rejected() - self._before == Counter(reason for _, reason in expected if reason)

    def _lines(self) -> list[tuple[int, str]]:
        lines = [
            json.loads(line) for line in self._sidecar.text[self._seen :].splitlines(keepends=True) if line[-1:] == "\n"
        ]
        return [(line["status"], line["reason"]) for line in lines if line["event"] == "exchange"]


@pytest.fixture
def row(one: tuple[Sidecar, Listener], side: str) -> Iterator[tuple[Wire, Counted]]:
    """A transcript and what it changes."""
    wire = Wire(*one)
    counted = Counted(one[0], side)
    yield wire, counted
    wire.close()
    wire.drop_pending()
    eventually(counted.settled)


# the upstream

Act = Callable[[Peer], object]


def stall(peer: Peer) -> None:
    """Say nothing more, and keep the connection."""


def garbage(peer: Peer) -> None:
    """Say something that is no HTTP, and keep the connection."""
    peer.send(GARBAGE)


ACTS: dict[str, Act] = {"resets": Peer.reset, "closes": Peer.close, "stalls": stall, "garbage": garbage}
GONE = {"resets": "upstream_reset", "closes": "upstream_reset"}
BEFORE = GONE | {"stalls": "attempt_timeout", "garbage": "bad_response"}
STATUS = {"upstream_reset": 502, "bad_response": 502, "attempt_timeout": 504}
IN_BODY = GONE | {"stalls": "stream_idle_timeout"}
IN_OPEN_END = {"resets": "upstream_reset", "stalls": "stream_idle_timeout"}
IN_CHUNKS = IN_BODY | {"garbage": "bad_response"}


class Phase(NamedTuple):
    """How far an app gets before it fails, and what the client then sees for each way to fail."""

    reads: int | None
    """Bytes of the request's body it reads; None: it does not even read the head."""
    sends: bytes
    reasons: dict[str, str]
    got: bytes | None = None
    """The part of the response's body that reaches the client; None: not even a head does."""


PHASES = {
    "before it reads": Phase(None, b"", BEFORE),
    "after the head": Phase(0, b"", BEFORE),
    "after half a body": Phase(500, b"", GONE | {"garbage": "bad_response"}),
    "after the request": Phase(1000, b"", BEFORE),
    "in the status line": Phase(1000, b"HTTP/1.1 20", GONE | {"stalls": "attempt_timeout"}),
    "in a field": Phase(1000, b"HTTP/1.1 200 OK\r\nContent-Le", GONE | {"stalls": "attempt_timeout"}),
    "before the empty line": Phase(1000, b"HTTP/1.1 200 OK\r\nX: y\r\n", BEFORE),
    "after early hints": Phase(1000, b"HTTP/1.1 103 Early Hints\r\n\r\n", BEFORE),
    "after its head": Phase(1000, LENGTH, IN_BODY, b""),
    "in its body": Phase(1000, LENGTH + b"some", IN_BODY, b"some"),
    "after its chunked head": Phase(1000, CHUNKED, IN_CHUNKS, b""),
    "in a chunk size": Phase(1000, CHUNKED + b"4\r\nsome\r\n1", IN_CHUNKS, b"some"),
    "in a chunk": Phase(1000, CHUNKED + b"10\r\nsome", IN_BODY, b"some"),
    "between chunks": Phase(1000, CHUNKED + b"4\r\nsome\r\n", IN_CHUNKS, b"some"),
    "after its last chunk": Phase(1000, CHUNKED + b"4\r\nsome\r\n0\r\n", IN_CHUNKS, b"some"),
    "in its trailers": Phase(1000, CHUNKED + b"4\r\nsome\r\n0\r\nX-Sum: ", IN_BODY, b"some"),
    "before its own end": Phase(1000, CLOSING + b"some", IN_OPEN_END, b"some"),
}  # fmt: skip
ROWS = [(phase, act) for phase, it in PHASES.items() for act in it.reasons]


@SIDES
@pytest.mark.parametrize(("phase", "act"), ROWS, ids=[f"{act} {phase}" for phase, act in ROWS])
def test_an_upstream(row: tuple[Wire, Counted], side: str, phase: str, act: str) -> None:
    """What the client gets of an upstream that does this then."""
    wire, counted = row
    it, reason = PHASES[phase], PHASES[phase].reasons[act]
    client = wire.client(side)
    whole = request("POST", "/", body=bytes(1000))
    client.send(whole[:-500] if it.reads == 500 else whole)
    app = wire.app()
    assert select.select([app.socket], [], [], PATIENCE)[0], "it fails when the request is there, not before"
    if it.reads is not None:
        app.head()
        app.read_exactly(it.reads)
    app.send(it.sends)
    if it.got is not None:
        assert client.head().status == 200
        if it.got:
            client.read_until(it.got)
    ACTS[act](app)
    if it.got is not None:
        rest = client.expect_closed()
        assert b"0\r\n\r\n" not in rest, "half a response must not look whole"
        status = 200
    else:
        status = STATUS[reason]
        answer = client.response()
        assert (answer.status, answer.get("x-nova-reject")) == (status, reason)
    if act in {"stalls", "garbage"}:
        app.expect_closed()
    client.close()
    counted.check((status, reason))


@SIDES
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
@pytest.mark.parametrize("act", ["resets", "closes", "garbage"])
def test_what_an_upstream_does_after_its_response(row: tuple[Wire, Counted], side: str, framing: str, act: str) -> None:
    """The response is whole: nothing that follows can take it back, or get into the next one."""
    wire, counted = row
    client, app, _ = wire.arrived(request(), side)
    if framing == "until close":
        app.send(CLOSING + b"some")
        app.close()
    else:
        app.send(response(body=b"some") if framing == "length" else CHUNKED + chunked(b"some"))
    assert client.response().body == b"some"
    if framing != "until close":
        try:
            ACTS[act](app)
        except ConnectionError:
            assert act == "garbage", "the sidecar may have closed it: it uses no connection twice here"
    with wire.client(side) as second:
        second.send(request("GET", "/2"))
        other = wire.app()
        other.request()
        other.send(response(body=b"2"))
        assert second.response().body == b"2"
    client.close()
    counted.check((200, ""), (200, ""))


@SIDES
@pytest.mark.parametrize("fields", [(), ("Connection: close",)], ids=["kept", "closed"])
@pytest.mark.parametrize("status", ["200 OK", "413 Content Too Large", "500 Oops"])
def test_an_early_answer(row: tuple[Wire, Counted], side: str, fields: tuple[str, ...], status: str) -> None:
    """Before the request is complete: the client gets it at once; what it still sends goes nowhere."""
    wire, counted = row
    client = wire.client(side)
    client.send(request("PUT", "/", "Content-Length: 1000000") + bytes(1000))
    app = wire.app()
    app.head()
    app.send(response(status, *fields, body=b"early"))
    answer = client.response()
    assert (answer.status, answer.body, answer.get("connection")) == (int(status[:3]), b"early", "close")
    app.expect_closed()
    client.send_if_open(bytes(1000))
    client.close()
    counted.check((int(status[:3]), ""))


@SIDES
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upstream_that_trickles(row: tuple[Wire, Counted], side: str, framing: str) -> None:
    """Every byte in a segment of its own says the same."""
    wire, counted = row
    client, app, _ = wire.arrived(request(), side)
    whole = response(body=b"byte by byte") if framing == "length" else CHUNKED + chunked(b"byte by", b" byte")
    for byte in whole:
        app.send(bytes([byte]))
    assert client.response().body == b"byte by byte"
    client.close()
    counted.check((200, ""))


@SIDES
def test_an_upstream_that_trickles_its_head_for_too_long(row: tuple[Wire, Counted], side: str) -> None:
    """Bytes are no progress: the attempt's budget is one for the whole head."""
    wire, counted = row
    client, app, _ = wire.arrived(request(), side)
    app.trickle(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100, every=0.02)
    app.expect_closed()
    assert client.response().get("x-nova-reject") == "attempt_timeout"
    client.close()
    counted.check((504, "attempt_timeout"))


# the client


class Turn(NamedTuple):
    """How far a client gets before it fails, and what is said of it for each way to fail."""

    sends: bytes
    app: str
    """What the app has done by then: nothing, read the head (``head``), or begun to answer (``answer``)."""
    expected: dict[str, tuple[int, str] | None]
    """Status and reason by way to fail; None: no exchange, no line."""


LEFT = {"resets": (0, "client_closed"), "closes": (0, "client_closed")}
NEVER: dict[str, tuple[int, str] | None] = {"resets": None, "closes": None}
UPLOAD = request("POST", "/", "Content-Length: 1000")
CHUNKS = request("POST", "/", "Transfer-Encoding: chunked")
SLOW, WRONG = (408, "request_timeout"), (400, "bad_request")

TURNS = {
    "before it says anything": Turn(b"", "", NEVER | {"garbage": WRONG}),
    "in its request line": Turn(b"GET / HT", "", NEVER | {"stalls": SLOW}),
    "in a field": Turn(b"GET / HTTP/1.1\r\nHost: app\r\nX: ", "", NEVER | {"stalls": SLOW}),
    "after its head": Turn(UPLOAD, "head", {**LEFT, "stalls": SLOW}),
    "in its body": Turn(UPLOAD + b"some", "head", {**LEFT, "stalls": SLOW}),
    "after its chunked head": Turn(CHUNKS, "head", {**LEFT, "stalls": SLOW, "garbage": WRONG}),
    "in a chunk size": Turn(CHUNKS + b"4\r\nsome\r\n1", "head", {**LEFT, "stalls": SLOW, "garbage": WRONG}),
    "in a chunk": Turn(CHUNKS + b"100\r\nsome", "head", {**LEFT, "stalls": SLOW}),
    "after its last chunk": Turn(CHUNKS + b"0\r\n", "head", {**LEFT, "stalls": SLOW, "garbage": WRONG}),
    "after its request": Turn(request(), "head", {**LEFT}),
    "in the response": Turn(
        # a FIN may be half a close; that nobody reads any more shows when the next bytes go out
        request(),
        "answer",
        {"resets": (200, "client_closed"), "closes": (200, "stream_idle_timeout")},
    ),
}
TURN_ROWS = [(turn, act) for turn, it in TURNS.items() for act in it.expected]


@SIDES
@pytest.mark.parametrize(("turn", "act"), TURN_ROWS, ids=[f"{act} {turn}" for turn, act in TURN_ROWS])
def test_a_client(row: tuple[Wire, Counted], side: str, turn: str, act: str) -> None:
    """What the app sees of a client that does this then: a request cut short, never one that looks whole."""
    wire, counted = row
    it, expected = TURNS[turn], TURNS[turn].expected[act]
    client = wire.client(side)
    client.send(it.sends)
    app = None
    if it.app:
        app = wire.app()
        app.head()
    if app is not None and it.app == "answer":
        app.send(LENGTH + b"some")
        client.head()
        client.read_until(b"some")
    ACTS[act](client)
    if expected in {SLOW, WRONG}:
        answer = client.response()
        assert (answer.status, answer.get("x-nova-reject")) == expected
        client.expect_closed()
        client.close()
    if app is not None:
        rest = app.expect_closed()
        assert not rest.endswith(b"0\r\n\r\n"), "half a request must not look whole"
    else:
        assert wire.untouched()
    counted.check(*[expected] if expected else [])


@SIDES
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_trickles(row: tuple[Wire, Counted], side: str, framing: str) -> None:
    """Every byte in a segment of its own says the same."""
    wire, counted = row
    client = wire.client(side)
    for byte in (
        request("POST", "/", body=b"byte by byte") if framing == "length" else CHUNKS + chunked(b"byte by byte")
    ):
        client.send(bytes([byte]))
    app = wire.app()
    assert app.request().body == b"byte by byte"
    app.send(response(body=b"ok"))
    assert client.response().body == b"ok"
    client.close()
    counted.check((200, ""))
