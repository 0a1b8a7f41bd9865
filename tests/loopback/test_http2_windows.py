"""The connections' windows on both sides: nothing may use them up for good."""

from collections.abc import Iterator

import pytest

from nova_api.policies import PoolPolicy

from .conftest import StartSidecar
from .support.grpcapp import SERVICE, GrpcApp, request
from .support.http2 import DATA, HEADERS, RST, WINDOW, End, grpc_fields, rst
from .support.peer import Listener, Peer
from .support.scene import Scene
from .support.sidecar import Sidecar, document, inbound

STREAM, CONNECTION = 128 * 1024, 4 * 1024 * 1024
"""Bytes that the sidecar takes on a stream, and on a connection."""
FRAME = 16_384
ALL = range(1, 2 * CONNECTION // STREAM, 2)
"""As many streams as use up a connection's window with theirs."""
NEXT = ALL[-1] + 2


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One sidecar for all transcripts, with a single connection to the upstream."""
    listener = Listener()
    config = document(inbound(listener.address, protocol="grpc", pool=PoolPolicy(grpc_connections=1, size=1)))
    running = Sidecar.start(config, tmp_path_factory.mktemp("windows"))
    yield running, listener
    listener.close_all()
    assert running.stop() == 0
    assert not running.complaints(), running.complaints()


@pytest.fixture
def scene(sidecar: tuple[Sidecar, Listener]) -> Iterator[Scene]:
    made = Scene(*sidecar)
    yield made
    made.close()


def all_open(scene: Scene) -> tuple[End, End]:
    """A client and an upstream with all those calls between them."""
    client, upstream = scene.pair()
    for number in ALL[1:]:
        client.headers(number, grpc_fields())
        assert upstream.head(number)
    return client, upstream


def use_up(end: End) -> None:
    """Send all that the windows of these streams and the connection take."""
    for number in ALL:
        for _ in range(STREAM // FRAME):
            end.data(number, b"x" * FRAME)


def room(end: End) -> int:
    """What may be sent on the connection beyond all that those streams took."""
    end.in_step()
    return 65_535 - CONNECTION + sum(found.number for found in end.seen if found.kind == WINDOW and not found.stream)


def test_unary_requests_do_not_use_up_the_clients_connection(start: StartSidecar, peers: list[Peer]) -> None:
    """Clients may send the content of a unary call in one frame that ends the request too."""
    app = GrpcApp()
    try:
        sidecar = start(document(inbound(app.address, protocol="grpc")))
        peers.append(Peer.connect(sidecar.address()))
        client = End(peers[0], client=True)
        message = request(b"x" * (FRAME - 100))
        for number in range(1, 2 * 2 * CONNECTION // FRAME, 2):
            client.headers(number, grpc_fields(f"{SERVICE}UnaryCall"))
            client.data(number, b"\0" + len(message).to_bytes(4, "big") + message, end=True)
            while not client.next(HEADERS, DATA, stream=number).ends:
                pass
    finally:
        app.stop()


def test_content_of_calls_that_are_over_does_not_use_up_the_upstreams_connection(scene: Scene) -> None:
    client, upstream = all_open(scene)
    for number in ALL:
        client.send(rst(number))
    client.in_step()
    use_up(upstream)  # it has not read yet that nobody wants them
    assert room(upstream) >= CONNECTION // 2
    client.headers(NEXT, grpc_fields(), end=True)
    upstream.head(NEXT)
    upstream.headers(NEXT, [(":status", "200"), ("content-type", "application/grpc")])
    upstream.data(NEXT, b"y" * FRAME)
    upstream.headers(NEXT, [("grpc-status", "0")], end=True)
    assert client.head(NEXT)[1][":status"] == "200"


def test_content_of_calls_that_are_over_does_not_use_up_the_clients_connection(scene: Scene) -> None:
    client, upstream = all_open(scene)
    for number in ALL:
        upstream.headers(number, [(":status", "200"), ("grpc-status", "16")], end=True)
    for number in ALL:
        client.head(number)
        client.next(RST, stream=number)
    use_up(client)
    assert room(client) >= CONNECTION // 2
