"""Transcripts of HTTP/2 frames, made by hand, on both sides of the sidecar."""

import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from .conftest import StartSidecar
from .support.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    End,
    frame,
    goaway,
    grpc_fields,
    request_fields,
    rst,
    settings,
    window,
)
from .support.peer import Listener, Peer
from .support.scene import Scene
from .support.sidecar import Sidecar, document, inbound
from .support.waiting import eventually

NO_ERROR, PROTOCOL, FLOW, STREAM_CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 0, 1, 3, 5, 6, 7, 8, 9, 11
INITIAL_WINDOW, MAX_STREAMS, MAX_FRAME = 4, 3, 5
OUR_WINDOW = 128 * 1024


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One sidecar for all transcripts."""
    listener = Listener()
    running = Sidecar.start(document(inbound(listener.address, protocol="grpc")), tmp_path_factory.mktemp("http2"))
    yield running, listener
    listener.close_all()
    assert running.stop() == 0
    assert not running.complaints(), running.complaints()


@pytest.fixture
def scene(sidecar: tuple[Sidecar, Listener]) -> Iterator[Scene]:
    made = Scene(*sidecar)
    yield made
    made.close()


@pytest.fixture
def rejected(scene: Scene) -> Callable[[str], float]:
    """How often there was a reason in this test."""
    reasons = ("client_closed", "flood")
    before = {reason: scene.sidecar.metric("nova_rejected_total", reason=reason) for reason in reasons}
    return lambda reason: scene.sidecar.metric("nova_rejected_total", reason=reason) - before[reason]


# --- requests and responses


def test_a_request_and_its_response(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, request_fields("/a?q=1", extra=[("x-own", "1")]), end=True)
    upstream = scene.upstream()
    head, fields = upstream.head()
    assert head.ends
    assert (fields[":path"], fields[":method"], fields["x-own"]) == ("/a?q=1", "GET", "1")
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert int(fields["x-nova-deadline-ms"]) > 1000
    upstream.headers(1, [(":status", "200"), ("x-app", "yes")])
    upstream.data(1, b"hello")
    upstream.data(1, b"", end=True)
    head, answer = client.head(1)
    assert (answer[":status"], answer["x-app"]) == ("200", "yes")
    assert answer["x-correlation-id"] == fields["x-correlation-id"]
    assert client.body(1) == b"hello"


def test_trailers_interim_responses_and_continuation_go_on(scene: Scene) -> None:
    client = scene.client()
    block = client.encoder.encode(request_fields("/a", "POST", [("x-long", "y" * 30_000)]))
    client.send(frame(HEADERS, 0, 1, block[:10]) + frame(CONTINUATION, 0, 1, block[10:12]))
    client.send(frame(CONTINUATION, END_HEADERS, 1, block[12:16_000]) if len(block) < 16_000 else b"")
    if len(block) >= 16_000:
        client.send(frame(CONTINUATION, 0, 1, block[12:16_000]) + frame(CONTINUATION, END_HEADERS, 1, block[16_000:]))
    client.data(1, b"question")
    client.headers(1, [("x-check", "sum")], end=True)
    upstream = scene.upstream()
    pieces = [upstream.next(HEADERS)]
    while not pieces[-1].flags & END_HEADERS:
        pieces.append(upstream.any())
        assert pieces[-1].kind == CONTINUATION
    assert all(len(piece.payload) <= 16_384 for piece in pieces)
    fields = dict(upstream.decoder.decode(b"".join(piece.payload for piece in pieces)))
    assert fields["x-long"] == "y" * 30_000
    assert upstream.next(DATA).payload == b"question"
    trailers, last = upstream.head(1)
    assert trailers.ends
    assert last == {"x-check": "sum"}
    upstream.headers(1, [(":status", "103"), ("link", "</style>")])
    upstream.headers(1, [(":status", "200")])
    upstream.data(1, b"answer")
    upstream.headers(1, [("x-end", "1")], end=True)
    assert client.head(1)[1][":status"] == "103"
    assert client.head(1)[1][":status"] == "200"
    assert client.next(DATA).payload == b"answer"
    assert client.head(1)[1] == {"x-end": "1"}


def test_padding_priority_and_unknown_frames_change_nothing(scene: Scene) -> None:
    client = scene.client()
    block = client.encoder.encode(request_fields("/a", "POST"))
    padded = bytes([3]) + struct.pack(">IB", 0, 15) + block + b"\0" * 3
    client.send(frame(0xBE, 0xFF, 1, b"who knows") + frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)))
    client.send(frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, padded))
    client.send(frame(DATA, PADDED | END_STREAM, 1, bytes([5]) + b"abc" + b"\0" * 5))
    upstream = scene.upstream()
    assert upstream.head()[1][":path"] == "/a"
    assert upstream.body(1) == b"abc"
    upstream.headers(1, [(":status", "204")], end=True)
    assert client.head(1)[1][":status"] == "204"


def test_head_requests_have_no_content(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, request_fields("/a", "HEAD"), end=True)
    upstream = scene.upstream()
    upstream.head()
    upstream.headers(1, [(":status", "200"), ("content-length", "100")], end=True)
    head, fields = client.head(1)
    assert head.ends
    assert fields["content-length"] == "100"


def test_an_early_response_ends_the_upload(scene: Scene) -> None:
    client, upstream = scene.pair()
    upstream.headers(1, [(":status", "413")], end=True)
    assert client.head(1)[1][":status"] == "413"
    assert client.next(RST, stream=1).code == NO_ERROR
    assert upstream.next(RST, stream=1).code == NO_ERROR


def test_a_ping_is_answered(scene: Scene) -> None:
    client = scene.client()
    client.send(frame(PING, 0, 0, b"12345678"))
    assert client.next(PING).payload == b"12345678"


def test_a_length_that_is_not_kept_is_refused(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, request_fields("/a", "POST", [("content-length", "10")]))
    upstream = scene.upstream()
    upstream.head(1)
    client.data(1, b"short", end=True)
    assert client.next(RST, stream=1).code == PROTOCOL
    assert upstream.next(RST, stream=1).code == CANCEL


def test_a_response_shorter_than_it_says_never_looks_whole(scene: Scene) -> None:
    client, upstream = scene.pair()
    upstream.headers(1, [(":status", "200"), ("content-length", "10")])
    upstream.data(1, b"short", end=True)
    client.head(1)
    found = client.next(DATA, RST, stream=1)
    while found.kind == DATA:
        assert not found.ends
        found = client.next(DATA, RST, stream=1)
    assert found.code != NO_ERROR


# --- flow control


def test_content_stops_at_the_clients_window_to_the_byte(scene: Scene) -> None:
    client, upstream = scene.pair(client={INITIAL_WINDOW: 1000})
    upstream.headers(1, [(":status", "200")])
    upstream.data(1, b"x" * 3000, end=True)
    client.head(1)
    came = [found for found in client.in_step() if found.kind == DATA]
    assert sum(len(found.payload) for found in came) == 1000
    client.send(window(1, 1500))
    came = [found for found in client.in_step() if found.kind == DATA]
    assert sum(len(found.payload) for found in came) == 1500
    assert not any(found.ends for found in came)
    client.send(window(1, 10_000))
    assert len(client.body(1)) == 500


def test_a_window_made_smaller_may_become_negative(scene: Scene) -> None:
    client, upstream = scene.pair(client={INITIAL_WINDOW: 1000})
    upstream.headers(1, [(":status", "200")])
    upstream.data(1, b"x" * 800)
    client.head(1)
    assert len(client.next(DATA).payload) == 800
    client.send(settings({INITIAL_WINDOW: 100}))  # 200 were left: now it is -700
    upstream.data(1, b"y" * 500, end=True)
    assert not [found for found in client.in_step() if found.kind == DATA]
    client.send(window(1, 700))
    assert not [found for found in client.in_step() if found.kind == DATA]
    client.send(window(1, 1))
    assert len(client.next(DATA).payload) == 1
    client.send(settings({INITIAL_WINDOW: 65_535}))
    assert len(client.body(1)) == 499


def test_the_connections_window_is_shared(scene: Scene) -> None:
    client = scene.client({INITIAL_WINDOW: 1 << 20})
    blocks = [client.encoder.encode(request_fields(f"/{stream}")) for stream in (1, 3)]
    both = [
        frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream, block in zip((1, 3), blocks, strict=True)
    ]
    client.send(b"".join(both))  # in one read, so that each waits for a connection of its own
    for end in [scene.upstream(), scene.upstream()]:
        end.head()
        end.headers(1, [(":status", "200")])
        for _ in range(4):
            end.data(1, b"x" * 16_384)
        end.data(1, b"", end=True)
    sizes = {1: 0, 3: 0}
    while sum(sizes.values()) < 65_535:
        found = client.next(HEADERS, DATA)
        if found.kind == DATA:
            sizes[found.stream] += len(found.payload)
    assert sum(sizes.values()) == 65_535
    assert not [found for found in client.in_step() if found.kind == DATA]
    client.send(window(0, 1 << 20))
    ended = set()
    while ended != {1, 3}:
        found = client.next(DATA)
        sizes[found.stream] += len(found.payload)
        ended |= {found.stream} if found.ends else set()
    assert sizes == {1: 65_536, 3: 65_536}


def test_credit_comes_back_as_content_goes_on(scene: Scene) -> None:
    client, upstream = scene.pair(upstream={INITIAL_WINDOW: 1 << 20})
    upstream.send(window(0, 1 << 20))
    upstream.in_step()
    room, sent = OUR_WINDOW, 0
    while sent < 4 * OUR_WINDOW:
        while room >= 16_384 and sent < 4 * OUR_WINDOW:
            client.data(1, b"x" * 16_384)
            room -= 16_384
            sent += 16_384
        room += client.next(WINDOW, stream=1).number
    assert sent - sum(len(f.payload) for f in upstream.in_step() if f.kind == DATA) <= 0


def test_what_the_upstream_does_not_take_is_not_credited(scene: Scene) -> None:
    client, upstream = scene.pair(upstream={INITIAL_WINDOW: 0})
    for _ in range(OUR_WINDOW // 16_384):
        client.data(1, b"x" * 16_384)
    assert not [found for found in client.in_step() if found.kind == WINDOW and found.stream == 1]
    client.data(1, b"!")
    found = client.next(RST, stream=1)
    assert found.code == FLOW
    upstream.next(RST, stream=1)


def test_more_than_the_window_resets_the_stream_alone(scene: Scene) -> None:
    client, upstream = scene.pair(upstream={INITIAL_WINDOW: 0})
    for _ in range(OUR_WINDOW // 16_384 + 1):
        client.data(1, b"x" * 16_384)
    assert client.next(RST, stream=1).code == FLOW
    assert upstream.next(RST, stream=1).code == CANCEL
    client.headers(3, request_fields("/b"), end=True)
    upstream.head(3)
    upstream.headers(3, [(":status", "200")], end=True)
    assert client.head(3)[1][":status"] == "200"


def test_an_empty_end_needs_no_window(scene: Scene) -> None:
    client, upstream = scene.pair(client={INITIAL_WINDOW: 3})
    upstream.headers(1, [(":status", "200")])
    upstream.data(1, b"abc")
    upstream.data(1, b"", end=True)
    client.head(1)
    assert client.body(1) == b"abc"


# --- resets and GOAWAY


def test_a_cancelled_request_is_cancelled_upstream(scene: Scene, rejected: Callable[[str], float]) -> None:
    client, upstream = scene.pair()
    client.send(rst(1))
    assert upstream.next(RST, stream=1).code == CANCEL
    eventually(lambda: scene.sidecar.metric("nova_requests_in_flight") == 0)
    assert rejected("client_closed") == 1


def test_a_client_that_leaves_cancels_all_it_asked_for(scene: Scene) -> None:
    client, upstream = scene.pair()
    client.peer.close()
    assert upstream.next(RST, stream=1).code == CANCEL


def test_a_reset_before_the_head_is_refused_and_after_it_breaks_the_stream(scene: Scene) -> None:
    client, upstream = scene.pair()
    client.data(1, b"", end=True)
    upstream.next(DATA)
    upstream.send(rst(1, CANCEL))
    assert client.head(1)[1][":status"] == "502"
    client.body(1)
    client.headers(3, request_fields("/b"), end=True)
    upstream.head(3)
    upstream.headers(3, [(":status", "200")])
    upstream.send(rst(3, 2))
    client.head(3)
    assert client.next(RST, stream=3).code == 2


def test_grpc_gets_a_status_for_a_stream_that_broke(scene: Scene) -> None:
    client = scene.client()
    client.headers(1, grpc_fields())
    upstream = scene.upstream()
    upstream.head()
    upstream.headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    client.head(1)
    upstream.send(rst(1, 2))
    trailers, fields = client.head(1)
    assert trailers.ends
    assert (fields["grpc-status"], fields["x-nova-reject"]) == ("14", "upstream_reset")


@pytest.mark.parametrize("refusal", [rst(1, REFUSED), goaway(0)], ids=["refused", "goaway"])
def test_a_request_the_upstream_did_not_look_at_goes_elsewhere(scene: Scene, refusal: bytes) -> None:
    client, upstream = scene.pair()
    client.data(1, b"once", end=True)
    assert upstream.next(DATA).payload == b"once"
    upstream.send(refusal)
    other = scene.upstream()
    assert other.head()[1][":method"] == "POST"
    assert other.body(1) == b"once"
    other.headers(1, [(":status", "200")], end=True)
    assert client.head(1)[1][":status"] == "200"


def test_after_goaway_the_rest_is_finished_and_the_connection_closed(scene: Scene) -> None:
    client, upstream = scene.pair()
    upstream.send(goaway(1))
    client.data(1, b"more", end=True)
    assert upstream.next(DATA).payload == b"more"
    client.headers(3, request_fields("/b"), end=True)
    other = scene.upstream()
    other.head()
    other.headers(1, [(":status", "201")], end=True)
    assert client.head(3)[1][":status"] == "201"
    upstream.headers(1, [(":status", "202")], end=True)
    assert client.head(1)[1][":status"] == "202"
    assert upstream.next(GOAWAY).code == NO_ERROR
    upstream.peer.expect_closed()


def test_the_upstreams_limit_on_streams_is_kept(scene: Scene) -> None:
    client, upstream = scene.pair(upstream={MAX_STREAMS: 1})
    upstream.in_step()
    client.headers(3, request_fields("/b"), end=True)
    other = scene.upstream({MAX_STREAMS: 1})
    other.head()
    for number in range(2):
        client.headers(5 + 2 * number, request_fields("/c"), end=True)
        scene.upstream({MAX_STREAMS: 1}).head()
    client.headers(21, request_fields("/d"), end=True)
    scene.upstream({MAX_STREAMS: 1}).head()  # a fifth connection, beyond the four that take turns
    assert not [found for found in upstream.in_step() if found.kind == HEADERS]


# --- what breaks the protocol


def _headers(stream: int, fields: bytes = b"\x82\x86\x84\x41\x01a", flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream, fields)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(SETTINGS, 0, 0, b"12345"), SIZE),
        (frame(SETTINGS, 0, 1), PROTOCOL),
        (settings({INITIAL_WINDOW: 1 << 31}), FLOW),
        (settings({MAX_FRAME: 100}), PROTOCOL),
        (frame(PING, 0, 0, b"short"), SIZE),
        (frame(PING, 0, 1, b"12345678"), PROTOCOL),
        (frame(PUSH, END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL),
        (frame(DATA, 0, 0, b"x"), PROTOCOL),
        (frame(DATA, 0, 7, b"x"), PROTOCOL),
        (rst(7), PROTOCOL),
        (window(7, 1), PROTOCOL),
        (window(0, 0), PROTOCOL),
        (window(0, (1 << 31) - 1), FLOW),
        (frame(WINDOW, 0, 0, b"abc"), SIZE),
        (_headers(2), PROTOCOL),
        (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), PROTOCOL),
        (_headers(1, flags=END_STREAM) + frame(PING, 0, 0, b"12345678"), PROTOCOL),
        (_headers(1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION),
        (frame(DATA, PADDED, 1, b""), SIZE),
        (frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1, b"") * 40, CALM),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", SIZE),
    ],
)
def test_a_broken_connection_is_ended_with_its_code(scene: Scene, data: bytes, code: int) -> None:
    client = scene.client()
    client.send(data)
    client.expect_end(code)


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("connection", "close")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("Upper", "x")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), ("x", "y"), (":path", "/")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("te", "gzip")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x", "a\r\nb: c")],
    ],
)
def test_a_malformed_request_is_refused_and_others_go_on(scene: Scene, fields: list[tuple[str, str]]) -> None:
    client = scene.client()
    client.headers(1, fields, end=True)
    found = client.next(HEADERS, RST, stream=1)
    if found.kind == HEADERS:
        assert client.fields(found)[":status"] == "400"
        client.body(1)
    client.headers(3, request_fields("/b"), end=True)
    upstream = scene.upstream()
    upstream.head()
    upstream.headers(1, [(":status", "200")], end=True)
    assert client.head(3)[1][":status"] == "200"


def test_a_head_beyond_the_limit_is_431(scene: Scene) -> None:
    client = scene.client()
    many = [(f"k{number}", "v" * 600) for number in range(120)]
    block = client.encoder.encode(request_fields("/b", extra=many))
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    client.send(frame(HEADERS, END_STREAM, 1, parts[0]))
    for part in parts[1:-1]:
        client.send(frame(CONTINUATION, 0, 1, part))
    client.send(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    assert client.head(1)[1][":status"] == "431"


def test_frames_on_streams_that_are_over(scene: Scene) -> None:
    client, upstream = scene.pair()
    upstream.headers(1, [(":status", "200")], end=True)
    client.head(1)
    client.next(RST, stream=1)
    client.data(1, b"late")  # it was under way: no fault
    client.send(window(1, 5))
    assert not [found for found in client.in_step() if found.kind in (RST, GOAWAY)]


def test_content_behind_the_end_of_a_request(scene: Scene) -> None:
    client, upstream = scene.pair()
    client.data(1, b"", end=True)
    client.data(1, b"more")
    assert client.next(RST, stream=1).code == STREAM_CLOSED
    upstream.next(DATA)
    upstream.next(RST)


@pytest.mark.parametrize(
    "answer",
    [
        lambda end: end.data(1, b"content before the head"),
        lambda end: end.headers(1, [("x", "no status")]),
        lambda end: end.headers(1, [(":status", "101")]),
        lambda end: end.headers(1, [(":status", "200"), ("connection", "close")]),
        lambda end: end.headers(1, [(":status", "103")], end=True),
    ],
)
def test_a_malformed_response_is_a_bad_gateway(scene: Scene, answer: Callable[[End], None]) -> None:
    client, upstream = scene.pair()
    client.data(1, b"", end=True)
    upstream.next(DATA)
    answer(upstream)
    assert client.head(1)[1][":status"] == "502"
    assert upstream.next(RST, stream=1).code == PROTOCOL


# --- floods


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, b"12345678") * 3000,
        settings() * 3000,
        frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)) * 5000,
        frame(0xBE, 0, 0, b"") * 5000,
    ],
)
def test_frames_that_only_cost_work_end_the_connection(
    scene: Scene, rejected: Callable[[str], float], flood: bytes
) -> None:
    client = scene.client()
    client.peer.send_if_open(flood)
    client.expect_end(CALM)
    assert rejected("flood") == 1


def test_rapid_reset_ends_the_connection(scene: Scene, rejected: Callable[[str], float]) -> None:
    client = scene.client()
    for number in range(1, 4001, 2):
        block = client.encoder.encode(request_fields("/a"))
        client.peer.send_if_open(frame(HEADERS, END_HEADERS | END_STREAM, number, block) + rst(number))
    client.expect_end(CALM)
    assert rejected("flood") == 1


def test_pings_that_measure_the_path_of_content_are_no_flood(scene: Scene) -> None:
    """gRPC clients send one for nearly every piece of content they read (BDP estimation)."""
    client, upstream = scene.pair()
    upstream.headers(1, [(":status", "200")])
    client.head(1)
    for number in range(2500):
        upstream.data(1, b"message")
        client.next(DATA, stream=1)
        client.send(frame(PING, 0, 0, b"%08d" % number))
        assert client.next(PING).payload == b"%08d" % number
    upstream.data(1, b"", end=True)
    assert client.next(DATA, stream=1).ends


# --- other protocols, and time


def test_http1_is_told_what_this_port_speaks(scene: Scene) -> None:
    peer = Peer.connect(scene.sidecar.address())
    scene.opened.append(peer)
    peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = peer.response()
    assert answer.status == 400
    assert b"HTTP/2" in answer.body
    peer.expect_closed()


def test_the_clients_end_of_sending_is_its_end(scene: Scene) -> None:
    client = scene.client()
    client.in_step()
    client.peer.socket.shutdown(socket.SHUT_WR)
    client.peer.expect_closed()


def test_drain_says_goodbye_twice_and_finishes_what_is_there(start: StartSidecar, listener: Listener) -> None:
    scene = Scene(start(document(inbound(listener.address, protocol="grpc"))), listener)
    client, upstream = scene.pair()
    client.data(1, b"", end=True)
    upstream.next(DATA)
    scene.sidecar.terminate()
    first = client.next(GOAWAY)
    assert (first.number, first.code) == ((1 << 31) - 1, NO_ERROR)
    client.headers(3, request_fields("/late"), end=True)  # the client had not read it yet
    upstream.head(3)
    question = client.next(PING)
    client.send(frame(PING, ACK, 0, question.payload))
    last = client.next(GOAWAY)
    assert (last.number, last.code) == (3, NO_ERROR)
    client.headers(5, request_fields("/too-late"), end=True)
    assert client.next(RST, stream=5).code == REFUSED
    for stream in (1, 3):
        upstream.headers(stream, [(":status", "200")], end=True)
        assert client.head(stream)[1][":status"] == "200"
    client.peer.expect_closed()
    client.peer.close()


def test_nothing_is_left_of_a_preface_alone(scene: Scene) -> None:
    peer = Peer.connect(scene.sidecar.address())
    scene.opened.append(peer)
    peer.send(PREFACE[:10])
    peer.send(PREFACE[10:] + settings())
    assert peer.read_exactly(9)[3] == SETTINGS
