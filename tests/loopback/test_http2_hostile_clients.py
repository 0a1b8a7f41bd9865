"""Clients that break HTTP/2, or use it against the sidecar: memory, floods, smuggling."""

from collections.abc import Iterator

import pytest

from nova_api.policies import PoolPolicy

from .support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST,
    SETTINGS,
    frame,
    grpc_fields,
    request_fields,
    rst,
)
from .support.peer import Listener
from .support.scene import Scene
from .support.sidecar import Sidecar, document, inbound
from .support.waiting import eventually

NO_ERROR, PROTOCOL, FLOW = 0, 1, 3
INITIAL_WINDOW = 4
MIB = 1 << 20


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One sidecar for all transcripts, with one connection to the app."""
    listener = Listener()
    config = document(inbound(listener.address, protocol="grpc", pool=PoolPolicy(grpc_connections=1)))
    running = Sidecar.start(config, tmp_path_factory.mktemp("clients"))
    yield running, listener
    listener.close_all()
    assert running.stop() == 0
    assert not running.complaints(), running.complaints()


@pytest.fixture
def scene(sidecar: tuple[Sidecar, Listener]) -> Iterator[Scene]:
    made = Scene(*sidecar)
    yield made
    made.close()


# --- heads


def test_short_blocks_of_long_heads_leave_no_memory_behind(scene: Scene) -> None:
    """Fifteen bytes name one entry of the table fifteen times: 60 kB of header, which nobody is to remember."""
    first, upstream = scene.pair()
    first.send(rst(1))
    upstream.next(RST)
    upstream.in_step()
    before = scene.sidecar.rss
    clients = []
    for _ in range(40):
        client = scene.client()
        block = client.encoder.encode([*request_fields("/a", "OPTIONS"), ("x", "y" * 3900)])
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block) + rst(1))
        known = client.encoder.encode(request_fields("/a", "OPTIONS"))
        number = 3
        for turn in range(16):
            named = known + b"\xbe" * 14 + b"\x00\x01n" + bytes([1, 65 + turn])
            for _ in range(2):
                client.send(frame(HEADERS, END_HEADERS | END_STREAM, number, named) + rst(number))
                number += 2
        client.in_step()
        clients.append(client)
        upstream.peer.poll()
        del upstream.peer.received[:]
    assert scene.sidecar.rss - before < 24 * MIB


@pytest.mark.parametrize(
    "extra",
    [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", " a"),
        ("x y", "a"),
        ("x:y", "a"),
        ("X-Own", "a"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "trailers, chunked"),
        ("content-length", "+5"),
        ("content-length", "5, 5"),
        ("content_length", "5"),
        ("host", "other:80"),
        ("grpc-timeout", "1S\r\nx: y"),
        ("correlation-id", "a\r\nx: y"),
        ("traceparent", "a\nb"),
    ],
    ids=lambda pair: f"{pair[0]}={pair[1]}".encode("unicode_escape").decode(),
)
def test_nothing_is_smuggled(scene: Scene, extra: tuple[str, str]) -> None:
    """The request is refused, does not reach the app, and the next one on the connection is served."""
    client = scene.client()
    refused = scene.sidecar.metric("nova_rejected_total", reason="bad_request")
    client.headers(1, grpc_fields(extra=[extra]), end=True)
    seen = client.head(1)[1]
    assert (seen.get("grpc-status", "13"), seen["x-nova-reject"]) == ("13", "bad_request")
    while not client.seen[-1].ends:
        client.next(DATA)
    assert scene.sidecar.metric("nova_rejected_total", reason="bad_request") == refused + 1
    client.headers(3, grpc_fields("/s.S/Next"), end=True)
    assert scene.upstream().head()[1][":path"] == "/s.S/Next"


@pytest.mark.parametrize("timeout", ["", "S", "1", "-1S", "1.5S", "1X", "123456789S", "9" * 5000 + "S", "0x1S", "1S1S"])
def test_a_timeout_that_is_none_is_no_timeout(scene: Scene, timeout: str) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(extra=[("grpc-timeout", timeout)]), end=True)
    upstream = scene.upstream()
    seen = upstream.head()[1]
    assert "grpc-timeout" not in seen
    assert int(seen["x-nova-deadline-ms"]) > 1000


@pytest.mark.parametrize(("timeout", "most"), [("99999999H", 99_999_999 * 3600.0), ("3S", 3.0)])
def test_a_timeout_goes_on_as_it_came_or_shorter(scene: Scene, timeout: str, most: float) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(extra=[("grpc-timeout", timeout)]), end=True)
    given = scene.upstream().head()[1]["grpc-timeout"]
    units = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
    assert len(given) <= 9
    assert 1.0 < int(given[:-1]) * units[given[-1]] <= most


@pytest.mark.parametrize("timeout", ["0S", "0n", "1n"])
def test_no_time_at_all_is_exceeded_at_once(scene: Scene, timeout: str) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(extra=[("grpc-timeout", timeout)]), end=True)
    seen = client.head(1)[1]
    assert (seen["grpc-status"], seen["x-nova-reject"]) == ("4", "deadline_exceeded")


@pytest.mark.parametrize("given", ["a b", "<script>", "a" * 500, "ä", '"', ""])
def test_an_id_with_other_characters_is_replaced(scene: Scene, given: str) -> None:
    client = scene.client()
    client.headers(1, grpc_fields(extra=[("correlation-id", given)]), end=True)
    seen = scene.upstream().head()[1]["correlation-id"]
    assert seen not in ("", given)
    assert len(seen) == 36


# --- content


def test_content_beyond_its_announced_length_is_cut_off_at_once(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, request_fields("/a", "POST", [("content-length", "3")]))
    upstream = scene.upstream()
    upstream.head(1)
    client.data(1, b"abcd")
    assert client.next(RST, stream=1).code == PROTOCOL
    upstream.next(RST, stream=1)
    assert not any(found.kind == DATA for found in upstream.seen)


# --- floods


def test_resets_of_calls_that_are_over_are_no_flood(scene: Scene) -> None:
    """grpc-go resets a stream that the server ended first. Two thousand of them at once are no attack."""
    client, upstream = scene.pair()
    client.send(rst(1))
    upstream.next(RST)
    for first in range(3, 4000, 160):  # no more at once than go over one connection
        numbers = range(first, first + 160, 2)
        for number in numbers:
            client.headers(number, grpc_fields())
        theirs = [upstream.head()[0].stream for _ in numbers]
        for number in theirs:
            upstream.headers(number, [(":status", "200"), ("grpc-status", "16")], end=True)
        for number in numbers:
            client.head(number)
            assert client.next(RST, stream=number).code == NO_ERROR
        client.send(b"".join(rst(number, NO_ERROR) for number in numbers))
        client.in_step()
        for _ in numbers:
            upstream.next(RST)


def test_rapid_reset_from_many_connections_leaves_others_alone(scene: Scene) -> None:
    honest, upstream = scene.pair()
    upstream.in_step()
    flood = scene.sidecar.metric("nova_rejected_total", reason="flood")
    attackers = [scene.client() for _ in range(8)]
    for attacker in attackers:
        attacker.headers(1, grpc_fields())
        block = attacker.encoder.encode(grpc_fields())
        pairs = (frame(HEADERS, END_HEADERS, number, block) + rst(number) for number in range(3, 4000, 2))
        attacker.peer.send_if_open(b"".join(pairs))
    eventually(lambda: scene.sidecar.metric("nova_rejected_total", reason="flood") == flood + 8)
    upstream.send(frame(SETTINGS, ACK))
    block = upstream.encoder.encode([(":status", "200"), ("grpc-status", "0")])
    upstream.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert honest.head(1)[1]["grpc-status"] == "0"
    eventually(lambda: scene.sidecar.metric("nova_requests_in_flight") == 0)
    eventually(lambda: scene.sidecar.metric("nova_limiter_in_flight") == 0)


# --- slow readers


def test_readers_that_take_nothing_hold_no_more_than_the_windows(scene: Scene) -> None:
    """Each leaves its window at zero while the app sends all it may: what is kept is bounded by the connection."""
    client = scene.client({INITIAL_WINDOW: 0})
    before = scene.sidecar.rss
    numbers = range(1, 200, 2)
    for number in numbers:
        client.headers(number, grpc_fields(), end=True)
    upstream = scene.upstream()
    theirs = [upstream.head()[0].stream for _ in numbers]
    room = 4 * MIB
    for number in theirs:
        upstream.headers(number, [(":status", "200")])
    for number in theirs:
        for _ in range(8):
            if room >= 16_384:
                upstream.data(number, b"x" * 16_384)
                room -= 16_384
    came = upstream.in_step()
    assert not any(found.kind == GOAWAY for found in came)
    assert scene.sidecar.rss - before < 16 * MIB
    for number in numbers:
        client.send(rst(number))
    eventually(lambda: scene.sidecar.metric("nova_requests_in_flight") == 0)
