"""Upstreams that break HTTP/2 in every way that frames allow: what the gRPC client sees, and who else suffers.

Each case runs beside another call on the same connection. A fault of a stream ends that stream alone, a fault of the
connection all of them at once, and in both cases the next call is served.
"""

import fcntl
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from nova_api.policies import BreakerPolicy, PoolPolicy, RetryPolicy, TimeoutPolicy, WindowPolicy
from nova_api.units import Duration

from .support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    End,
    Fields,
    frame,
    goaway,
    grpc_fields,
    rst,
    settings,
    window,
)
from .support.peer import Listener
from .support.scene import Scene
from .support.sidecar import Sidecar, document, outbound
from .support.waiting import eventually

PROTOCOL, FLOW, STREAM_CLOSED, SIZE, CANCEL, COMPRESSION, CALM = 1, 3, 5, 6, 8, 9, 11
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 1, 2, 3, 4, 5
INTERNAL, UNAVAILABLE = "13", "14"
LARGEST = (1 << 31) - 1
HEAD: Fields = [(":status", "200"), ("content-type", "application/grpc")]
STREAM = 128 * 1024


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One sidecar for all cases: one connection to the upstream, no retry, a breaker that counts and never opens."""
    listener = Listener()
    config = document(
        outbound(
            listener.address,
            "web",
            protocol="grpc",
            pool=PoolPolicy(grpc_connections=1),
            retry=RetryPolicy(mode="Off"),
            circuit_breaker=COUNTING,
            timeout=TimeoutPolicy(request=Duration(10), attempt=Duration(10), stream_idle=Duration(10)),
        )
    )
    running = Sidecar.start(config, tmp_path_factory.mktemp("hostile"))
    yield running, listener
    listener.close_all()
    assert running.stop() == 0
    assert not running.complaints(), running.complaints()


@pytest.fixture
def scene(sidecar: tuple[Sidecar, Listener]) -> Iterator[Scene]:
    made = Scene(*sidecar, direction="outbound")
    yield made
    made.close()


class Case(NamedTuple):
    """What the upstream sends, and what it is told for it: RST_STREAM or GOAWAY with a code."""

    sent: Callable[[End], object]
    answer: int
    code: int
    reason: str = "bad_response"
    status: str = INTERNAL


def raw(*data: bytes) -> Callable[[End], object]:
    """Sends these bytes, and takes it that the sidecar may have closed before the last of them."""
    return lambda end: end.peer.send_if_open(b"".join(data))


def begun(then: Callable[[End], object]) -> Callable[[End], object]:
    """The same behind the head of a response."""
    return lambda end: (end.headers(1, HEAD), then(end))


def told(fields: Fields, *, end: bool = False) -> Callable[[End], object]:
    """Sends HEADERS with these fields."""
    return lambda side: side.headers(1, fields, end=end)


def large_list(end: End) -> None:
    """A few bytes that become 400 kB: one entry of the table, named a hundred times."""
    block = end.encoder.encode([*HEAD, ("x", "y" * 4000)])
    end.send(frame(HEADERS, END_HEADERS, 1, block + b"\xbe" * 100))


def forever(head: Fields) -> Callable[[End], object]:
    """Interim responses without end."""
    return lambda end: [
        end.peer.send_if_open(frame(HEADERS, END_HEADERS, 1, end.encoder.encode(head))) for _ in range(40)
    ]


def too_much(end: End) -> None:
    """More content than the stream's window takes."""
    end.headers(1, HEAD)
    for _ in range(STREAM // 16_384 + 1):
        end.data(1, b"x" * 16_384)


COUNTING = BreakerPolicy(failure_threshold=1000, window=WindowPolicy(minimum_calls=10_000))
"""A breaker that does not open here."""
PING_FRAME = frame(PING, 0, 0, b"12345678")
CASES = {
    # frames that no connection has
    "SETTINGS of an odd length": Case(raw(frame(SETTINGS, 0, 0, b"12345")), GOAWAY, SIZE),
    "SETTINGS on a stream": Case(raw(frame(SETTINGS, 0, 1)), GOAWAY, PROTOCOL),
    "a window that is too large": Case(raw(settings({INITIAL_WINDOW: 1 << 31})), GOAWAY, FLOW),
    "a frame size that is too small": Case(raw(settings({MAX_FRAME: 1000})), GOAWAY, PROTOCOL),
    "push switched on by a server": Case(raw(settings({ENABLE_PUSH: 1})), GOAWAY, PROTOCOL),
    "PUSH_PROMISE": Case(raw(frame(PUSH, END_HEADERS, 1, b"\0\0\0\2\x88")), GOAWAY, PROTOCOL),
    "a response on a stream never opened": Case(raw(frame(HEADERS, END_HEADERS, 99, b"\x88")), GOAWAY, PROTOCOL),
    "a response on a server's stream": Case(raw(frame(HEADERS, END_HEADERS, 2, b"\x88")), GOAWAY, PROTOCOL),
    "a response on no stream": Case(raw(frame(HEADERS, END_HEADERS, 0, b"\x88")), GOAWAY, PROTOCOL),
    "content on a stream never opened": Case(raw(frame(DATA, 0, 99, b"x")), GOAWAY, PROTOCOL),
    "a reset of a stream never opened": Case(raw(rst(99)), GOAWAY, PROTOCOL),
    "credit for a stream never opened": Case(raw(window(99, 100)), GOAWAY, PROTOCOL),
    "no credit for the connection": Case(raw(window(0, 0)), GOAWAY, PROTOCOL),
    "too much credit for the connection": Case(raw(window(0, LARGEST)), GOAWAY, FLOW),
    "a head that is not finished": Case(raw(frame(HEADERS, 0, 1, b"\x88"), PING_FRAME), GOAWAY, PROTOCOL),
    "a continuation of nothing": Case(raw(frame(CONTINUATION, END_HEADERS, 1, b"\x88")), GOAWAY, PROTOCOL),
    "a continuation elsewhere": Case(
        raw(frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, END_HEADERS, 3, b"")), GOAWAY, PROTOCOL
    ),
    "a head without end": Case(raw(frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, 0, 1, b"") * 40), GOAWAY, CALM),
    "a head that is too long": Case(
        raw(frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, 0, 1, b"\0" * 16_384) * 5), GOAWAY, CALM
    ),
    "an index of no table": Case(raw(frame(HEADERS, END_HEADERS, 1, b"\x88\xfe")), GOAWAY, COMPRESSION),
    "a table larger than announced": Case(
        raw(frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f\x88")), GOAWAY, COMPRESSION
    ),
    "a frame that is too long": Case(raw(b"\x40\0\1\0\0\0\0\0\1"), GOAWAY, SIZE),
    "a PING that is too short": Case(raw(frame(PING, 0, 0, b"short")), GOAWAY, SIZE),
    "bytes of HTTP/1.1": Case(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), GOAWAY, SIZE),
    # floods
    "PING without end": Case(raw(PING_FRAME * 3000), GOAWAY, CALM),
    "SETTINGS without end": Case(raw(settings() * 3000), GOAWAY, CALM),
    "PRIORITY without end": Case(raw(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)) * 5000), GOAWAY, CALM),
    "frames of no kind without end": Case(raw(frame(0xBE, 0, 0, b"") * 5000), GOAWAY, CALM),
    "empty content without end": Case(begun(raw(frame(DATA, 0, 1) * 5000)), GOAWAY, CALM),
    "small credits without end": Case(raw(window(1, 1) * 20_000), GOAWAY, CALM),
    # what only its stream suffers from
    "content before the head": Case(lambda end: end.data(1, b"x"), RST, PROTOCOL),
    "trailers before the head": Case(told([("grpc-status", "0")], end=True), RST, PROTOCOL),
    "a status that is none": Case(told([(":status", "2oo")]), RST, PROTOCOL),
    "101": Case(told([(":status", "101")]), RST, PROTOCOL),
    "a request for a response": Case(told([*HEAD, (":path", "/")]), RST, PROTOCOL),
    "a pseudo-header behind others": Case(told([("x", "y"), (":status", "200")]), RST, PROTOCOL),
    "a header of HTTP/1.1's connections": Case(told([*HEAD, ("transfer-encoding", "chunked")]), RST, PROTOCOL),
    "a name in upper case": Case(told([*HEAD, ("X-Y", "z")]), RST, PROTOCOL),
    "a line break in a value": Case(told([*HEAD, ("x", "y\r\nz: 1")]), RST, PROTOCOL),
    "a length that is none": Case(told([*HEAD, ("content-length", "-1")]), RST, PROTOCOL),
    "an interim response that ends": Case(told([(":status", "103")], end=True), RST, PROTOCOL),
    "interim responses without end": Case(forever([(":status", "103")]), RST, PROTOCOL),
    "a list that is too large": Case(large_list, RST, CALM, "response_head_too_large"),
    "no credit for the stream": Case(raw(window(1, 0)), RST, PROTOCOL),
    "too much credit for the stream": Case(raw(window(1, LARGEST)), RST, FLOW),
    "more than the window": Case(too_much, RST, FLOW),
    "trailers that do not end": Case(begun(told([("grpc-status", "0")])), RST, PROTOCOL),
    "a status in trailers": Case(begun(told([(":status", "200"), ("grpc-status", "0")], end=True)), RST, PROTOCOL),
    "less than announced": Case(
        lambda end: (end.headers(1, [*HEAD, ("content-length", "9")]), end.data(1, b"x", end=True)), RST, CANCEL
    ),
    "more than announced": Case(
        lambda end: (end.headers(1, [*HEAD, ("content-length", "1")]), end.data(1, b"xyz")), RST, CANCEL
    ),
    "content with 204": Case(lambda end: (end.headers(1, [(":status", "204")]), end.data(1, b"xyz")), RST, CANCEL),
}


def outcome(client: End, stream: int) -> dict[str, str]:
    """The fields that a call ends with."""
    found = client.next(HEADERS, DATA, stream=stream)
    fields: dict[str, str] = {}
    while True:
        if found.kind == HEADERS:
            fields |= client.fields(found)
        if found.ends:
            return fields
        found = client.next(HEADERS, DATA, stream=stream)


def serve(client: End, upstream: End, stream: int) -> None:
    """Finish a call that is under way."""
    number = max(found.stream for found in upstream.seen if found.kind == HEADERS)
    upstream.headers(number, HEAD)
    upstream.headers(number, [("grpc-status", "0")], end=True)
    assert outcome(client, stream)["grpc-status"] == "0"


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_fault_of_the_upstream(scene: Scene, case: Case) -> None:
    client = scene.client({INITIAL_WINDOW: 1 << 20})
    other = scene.client()
    client.headers(1, grpc_fields(), end=True)
    upstream = scene.upstream()
    upstream.head(1)
    other.headers(1, grpc_fields(), end=True)
    upstream.head(3)
    rejected = scene.sidecar.metric("nova_rejected_total", reason=case.reason)
    failures = failed(scene)

    case.sent(upstream)

    seen = outcome(client, 1)
    assert (seen.get("grpc-status"), seen.get("x-nova-reject")) == (case.status, case.reason)
    if case.answer == GOAWAY:
        last = upstream.next(GOAWAY)
        assert (last.code, last.number) == (case.code, 0)
        assert outcome(other, 1)["x-nova-reject"] == case.reason
    broken = 2 if case.answer == GOAWAY else 1
    assert failed(scene) - failures == broken
    assert scene.sidecar.metric("nova_rejected_total", reason=case.reason) - rejected == broken
    if case.answer == RST:
        assert upstream.next(RST, stream=1).code == case.code
        serve(other, upstream, 1)
    other.headers(3, grpc_fields(), end=True)
    if case.answer == GOAWAY:
        upstream = scene.upstream()
    upstream.head()
    serve(other, upstream, 3)


def failed(scene: Scene) -> int:
    """Failures in a row that the breaker has counted."""
    count: int = scene.sidecar.stats()["outbound"]["web"]["breaker"]["failures"]
    return count


def opened(scene: Scene) -> int:
    """Connections to the upstream that the sidecar has open."""
    count: int = scene.sidecar.stats()["outbound"]["web"]["pool"]["open"]
    return count


# --- GOAWAY in all its forms


def waiting(scene: Scene, calls: int) -> tuple[End, End]:
    """A client with so many calls under way, the numbers of both sides alike."""
    client = scene.client()
    client.headers(1, grpc_fields(), end=True)
    upstream = scene.upstream()
    upstream.head(1)
    for number in range(3, 1 + 2 * calls, 2):
        client.headers(number, grpc_fields(), end=True)
        upstream.head(number)
    return client, upstream


def moved(client: End, successor: End, stream: int) -> None:
    """A call has come to another connection and is served there."""
    successor.head()
    serve(client, successor, stream)


@pytest.mark.parametrize("code", [0, PROTOCOL, CALM, 99], ids=str)
def test_goaway_with_any_code_moves_what_was_not_looked_at(scene: Scene, code: int) -> None:
    client, upstream = waiting(scene, 2)
    upstream.send(goaway(1, code))
    moved(client, scene.upstream(), 3)
    upstream.headers(1, [*HEAD, ("grpc-status", "0")], end=True)
    assert outcome(client, 1)["grpc-status"] == "0"
    upstream.next(GOAWAY)
    upstream.peer.expect_closed()


def test_goaway_twice_with_a_lower_number(scene: Scene) -> None:
    client, upstream = waiting(scene, 2)
    upstream.send(goaway(LARGEST))
    upstream.in_step()
    upstream.send(goaway(1))
    moved(client, scene.upstream(), 3)
    upstream.headers(1, [*HEAD, ("grpc-status", "0")], end=True)
    assert outcome(client, 1)["grpc-status"] == "0"


def test_goaway_twice_with_a_higher_number_takes_nothing_back(scene: Scene) -> None:
    client, upstream = waiting(scene, 2)
    upstream.send(goaway(1) + goaway(3))
    moved(client, scene.upstream(), 3)
    upstream.headers(3, [*HEAD, ("grpc-status", "13")], end=True)  # nobody listens any more
    upstream.headers(1, [*HEAD, ("grpc-status", "0")], end=True)
    assert outcome(client, 1)["grpc-status"] == "0"


def test_goaway_without_end(scene: Scene) -> None:
    client, upstream = waiting(scene, 1)
    upstream.peer.send_if_open(goaway(LARGEST) * 3000)
    assert outcome(client, 1)["x-nova-reject"] == "bad_response"
    assert upstream.next(GOAWAY).code == CALM


def test_goaway_that_never_looks_is_no_loop(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(), end=True)
    for _ in range(4):
        upstream = scene.upstream()
        upstream.head(1)
        upstream.send(goaway(0))
    assert outcome(client, 1)["x-nova-reject"] == "upstream_reset"


# --- ends in every phase


PHASES: dict[str, Callable[[End], object]] = {
    "before the head": lambda end: None,
    "in the head": lambda end: end.send(frame(HEADERS, 0, 1, b"\x88")),
    "in a frame": lambda end: end.send(frame(HEADERS, END_HEADERS, 1, b"\x88\x88")[:10]),
    "behind the head": lambda end: end.headers(1, HEAD),
    "in the content": lambda end: (end.headers(1, HEAD), end.data(1, b"\0\0\0\0\5he")),
    "behind an interim response": lambda end: end.headers(1, [(":status", "103")]),
}


def unread(end: End) -> int:
    """Bytes sent that the sidecar's kernel has not acknowledged (SIOCOUTQ, tcp(7))."""
    return int.from_bytes(fcntl.ioctl(end.peer.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("phase", PHASES.values(), ids=list(PHASES))
def test_the_upstream_ends_the_connection(scene: Scene, phase: Callable[[End], object], how: str) -> None:
    client, upstream = waiting(scene, 2)
    failures = failed(scene)
    phase(upstream)
    if how == "reset":
        eventually(lambda: not unread(upstream))  # a reset destroys what is still on its way
    getattr(upstream.peer, how)()
    for number in (1, 3):
        seen = outcome(client, number)
        assert (seen["grpc-status"], seen["x-nova-reject"]) == (UNAVAILABLE, "upstream_reset")
    assert failed(scene) - failures == 2
    client.headers(5, grpc_fields(), end=True)
    moved(client, scene.upstream(), 5)


def test_the_upstream_closes_as_soon_as_it_is_connected(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(), end=True)
    scene.listener.accept().reset()
    assert outcome(client, 1)["grpc-status"] == UNAVAILABLE
    client.headers(3, grpc_fields(), end=True)
    moved(client, scene.upstream(), 3)


# --- silence, and much too little


@pytest.fixture
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The same with little patience."""
    listener = Listener()
    pool = PoolPolicy(grpc_connections=1)
    timeout = TimeoutPolicy(request=Duration(2), attempt=Duration(1), stream_idle=Duration(1))
    port = outbound(
        listener.address, "web", protocol="grpc", pool=pool, timeout=timeout, circuit_breaker=COUNTING,
        retry=RetryPolicy(mode="Off"),
    )  # fmt: skip
    running = Sidecar.start(document(port), tmp_path_factory.mktemp("hasty"))
    made = Scene(running, listener, direction="outbound")
    yield made
    made.close()
    listener.close_all()
    assert running.stop() == 0
    assert not running.complaints(), running.complaints()


def test_silence_and_trickle_in_every_phase(hasty: Scene) -> None:
    client = hasty.client()
    client.headers(1, grpc_fields(), end=True)
    quiet = hasty.listener.accept()  # it never says anything, not even SETTINGS
    assert outcome(client, 1)["x-nova-reject"] == "attempt_timeout"

    client.headers(3, grpc_fields(), end=True)
    quiet.read_until(b"PRI * HTTP/2.0")
    quiet.trickle(settings() + frame(HEADERS, END_HEADERS, 3, b"\x88"), every=0.1)
    assert outcome(client, 3)["x-nova-reject"] == "attempt_timeout"
    before = opened(hasty)
    quiet.reset()
    eventually(lambda: opened(hasty) < before)  # else the next call may still meet the connection

    client.headers(5, grpc_fields(), end=True)
    upstream = hasty.upstream()
    upstream.head()
    upstream.headers(1, HEAD)
    assert outcome(client, 5)["x-nova-reject"] == "stream_idle_timeout"
    assert upstream.next(RST, stream=1).code == CANCEL
    assert failed(hasty) == 3


def test_windows_that_never_open(hasty: Scene) -> None:
    client = hasty.client()
    client.headers(1, grpc_fields())
    upstream = hasty.upstream({INITIAL_WINDOW: 0})
    upstream.head(1)
    upstream.in_step()
    client.data(1, b"x" * 1000, end=True)
    assert outcome(client, 1)["grpc-status"] == "4"
    assert upstream.next(RST, stream=1).code == CANCEL
    assert failed(hasty) == 1


def test_an_upstream_that_takes_no_streams(hasty: Scene) -> None:
    client = hasty.client()
    client.headers(1, grpc_fields(), end=True)
    upstream = hasty.upstream()
    upstream.head(1)
    upstream.send(settings({MAX_STREAMS: 0}))
    upstream.in_step()
    client.headers(3, grpc_fields(), end=True)
    other = hasty.upstream({MAX_STREAMS: 0})
    assert outcome(client, 1)["grpc-status"] == "4"
    assert outcome(client, 3)["grpc-status"] in ("4", UNAVAILABLE)
    other.peer.poll()
