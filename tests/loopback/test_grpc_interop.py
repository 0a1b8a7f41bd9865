"""The interop test cases of gRPC (grpc/doc/interop-test-descriptions.md), a real client and a real server, through an
outbound and an inbound listener one after the other: nothing of a call may be another one than without them."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from .support.grpcapp import ECHO_INITIAL, ECHO_TRAILING, SERVICE, GrpcApp, GrpcClient, request
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    app = GrpcApp()
    way_in = inbound(app.address, protocol="grpc")
    way_out = outbound((way_in.listen.host, way_in.listen.port), protocol="grpc")
    sidecar = Sidecar.start(document(way_in, way_out), tmp_path_factory.mktemp("grpc"))
    yield sidecar
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    code = sidecar.stop()
    app.stop()
    assert not sidecar.complaints(), sidecar.complaints()
    assert code == 0


@pytest.fixture
def client(chain: Sidecar) -> Iterator[GrpcClient]:
    with GrpcClient(chain.address("db")) as made:
        yield made
    eventually(lambda: chain.metric("nova_requests_in_flight") == 0)


def test_empty_unary(client: GrpcClient) -> None:
    assert client.empty(b"", timeout=10) == b""


def test_large_unary(client: GrpcClient) -> None:
    assert len(client.unary(request(b"\0" * 271_828, size=314_159), timeout=10)) == 314_159


@pytest.mark.parametrize("size", [4 << 20, 12 << 20])
def test_messages_of_many_windows_in_both_directions(client: GrpcClient, size: int) -> None:
    payload = bytes(range(256)) * (size // 256)
    assert client.unary(request(payload, echo=True), timeout=30) == payload


def test_client_streaming(client: GrpcClient) -> None:
    sizes = [27_182, 8, 1_828, 45_904]
    assert client.upload(iter([b"\0" * size for size in sizes]), timeout=10) == b"74922"


def test_server_streaming(client: GrpcClient) -> None:
    sizes = [31_415, 9, 2_653, 58_979]
    answers = client.download(request(sizes=sizes), timeout=10)
    assert [len(answer) for answer in answers] == sizes


def test_ping_pong(client: GrpcClient) -> None:
    sizes = [(27_182, 31_415), (8, 9), (1_828, 2_653), (45_904, 58_979)]
    turn = threading.Semaphore(1)

    def messages() -> Iterator[bytes]:
        for sent, wanted in sizes:
            assert turn.acquire(timeout=10)
            yield request(b"\0" * sent, size=wanted)

    received = []
    for answer in client.duplex(messages(), timeout=20):
        received.append(len(answer))
        turn.release()
    assert received == [wanted for _, wanted in sizes]


def test_empty_stream(client: GrpcClient) -> None:
    assert list(client.duplex(iter([]), timeout=10)) == []


def test_timeout_on_sleeping_server(client: GrpcClient) -> None:
    call = client.duplex(iter([request(b"\0" * 27_182, sleep=1)]), timeout=0.001)
    with pytest.raises(grpc.RpcError) as failure:
        list(call)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancel_after_begin(client: GrpcClient) -> None:
    held = threading.Event()

    def messages() -> Iterator[bytes]:
        held.wait(10)
        yield from ()

    call = client.upload.future(messages(), timeout=10)
    assert call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    held.set()


def test_cancel_after_first_response(client: GrpcClient) -> None:
    held = threading.Event()

    def messages() -> Iterator[bytes]:
        yield request(b"\0" * 27_182, size=31_415)
        held.wait(10)

    call = client.duplex(messages(), timeout=10)
    assert len(next(call)) == 31_415
    call.cancel()
    with pytest.raises(grpc.RpcError) as failure:
        list(call)
    assert failure.value.code() is grpc.StatusCode.CANCELLED
    held.set()


def test_custom_metadata(client: GrpcClient) -> None:
    binary = bytes(range(256))
    sent = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, binary))
    _, unary = client.unary.with_call(request(size=1), metadata=sent, timeout=10)
    duplex = client.duplex(iter([request(size=1)]), metadata=sent, timeout=10)
    assert len(list(duplex)) == 1
    for call in (unary, duplex):
        assert (ECHO_INITIAL, "test_initial_metadata_value") in list(call.initial_metadata())
        assert (ECHO_TRAILING, binary) in list(call.trailing_metadata())


def test_metadata_arrives_in_order_and_only_what_was_sent(client: GrpcClient) -> None:
    many = tuple((f"k{number}", "v" * number) for number in range(1, 60))
    pairs = [
        tuple(pair)
        for pair in client.inspect(metadata=(*many, ("bytes-bin", b"\0\xff,;"), ("k1", "again")))["metadata"]
    ]
    kept = [pair for pair in pairs if pair[0] not in ("user-agent", "x-forwarded-for", "correlation-id")]
    assert sorted(kept) == sorted([*many, ("bytes-bin", b"\0\xff,;".hex()), ("k1", "again")])


def failure_of(call: Callable[[], object]) -> Any:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


@pytest.mark.parametrize("message", ["test status message", SPECIAL])
def test_status_code_and_message(client: GrpcClient, message: str) -> None:
    wanted = request(status=2, message=message)
    for call in (
        lambda: client.unary(wanted, timeout=10),
        lambda: list(client.duplex(iter([wanted]), timeout=10)),
    ):
        failure = failure_of(call)
        assert failure.code() is grpc.StatusCode.UNKNOWN
        assert failure.details() == message


def test_status_after_messages(client: GrpcClient) -> None:
    call = client.download(request(sizes=[10, 20], status=9, message="late", trailers={"why": "so"}), timeout=10)
    assert [len(next(call)), len(next(call))] == [10, 20]
    failure = failure_of(lambda: next(call))
    assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert ("why", "so") in list(failure.trailing_metadata())


@pytest.mark.parametrize("path", [f"{SERVICE}UnimplementedCall", "/grpc.testing.UnimplementedService/Call"])
def test_unimplemented(client: GrpcClient, path: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        client.channel.unary_unary(path)(b"", timeout=10)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compression(client: GrpcClient, compression: grpc.Compression) -> None:
    payload = b"abc" * 100_000
    assert client.unary(request(payload, echo=True), compression=compression, timeout=10) == payload


def test_many_streams_at_once(client: GrpcClient) -> None:
    calls = [client.unary.future(request(b"x" * number, echo=True), timeout=30) for number in range(400)]
    assert [len(call.result()) for call in calls] == list(range(400))  # fewer than the limiter refuses from


def test_bidirectional_streams_side_by_side(client: GrpcClient) -> None:
    calls = [client.duplex(iter([request(size=number)] * 50), timeout=30) for number in range(20)]
    assert [[len(answer) for answer in call] for call in calls] == [[number] * 50 for number in range(20)]
