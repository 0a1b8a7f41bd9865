"""Policies see every stream: a real gRPC client and server, and what each policy does to a call."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from nova_api.policies import BackpressurePolicy, BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.grpcapp import GrpcApp, GrpcClient, request
from .support.ports import free_ports
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcApp]:
    app = GrpcApp()
    yield app
    app.stop()


def failure_of(call: Callable[[], object]) -> Any:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    return failure.value


def metadata(pairs: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in pairs}


def access(sidecar: Sidecar) -> list[dict[str, Any]]:
    return [line for line in sidecar.log if line["event"] == "exchange"]


# --- correlation


def test_an_id_is_made_passed_on_echoed_and_logged(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(inbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        data, call = client.unary.with_call(request(inspect=True), timeout=10)
    echoed = metadata(call.initial_metadata())["correlation-id"]
    assert f'["correlation-id", "{echoed}"]'.encode() in data
    line = eventually(lambda: access(sidecar))[0]
    assert (line["correlation_id"], line["path"], line["status"]) == (
        echoed, "/grpc.testing.TestService/UnaryCall", 200,
    )  # fmt: skip
    assert sidecar.metric("nova_correlation_ids_total", origin="generated") == 1


def test_the_line_of_a_call_has_its_status(start: StartSidecar, server: GrpcApp) -> None:
    gone = free_ports(1)[0]
    sidecar = start(document(inbound(server.address, protocol="grpc"), outbound(("127.0.0.1", gone), protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        assert client.code() is grpc.StatusCode.OK
        assert client.code(status=5) is grpc.StatusCode.NOT_FOUND
    with GrpcClient(sidecar.address("db")) as client:
        assert client.code() is grpc.StatusCode.UNAVAILABLE
    eventually(lambda: len(access(sidecar)) == 3)
    lines = access(sidecar)
    assert [line["grpc_status"] for line in lines] == [0, 5, 14]
    assert {line["status"] for line in lines} == {200}


@pytest.mark.parametrize("key", ["correlation-id", "x-correlation-id"])
def test_an_id_is_taken_over(start: StartSidecar, server: GrpcApp, key: str) -> None:
    sidecar = start(document(inbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        data, call = client.unary.with_call(request(inspect=True), metadata=((key, "order-7"),), timeout=10)
    assert metadata(call.initial_metadata())["correlation-id"] == "order-7"
    assert b'["correlation-id", "order-7"]' in data
    assert b"x-correlation-id" not in data


# --- deadlines


def test_the_callers_deadline_goes_on_and_has_become_less(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(inbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        left = client.inspect(timeout=8)["left"]
        assert 5 < left < 8
        assert client.inspect(timeout=None)["left"] is None or client.inspect(timeout=None)["left"] > 1e6


def test_the_ports_budget_ends_a_call_without_a_response(start: StartSidecar, server: GrpcApp) -> None:
    timeout = TimeoutPolicy(request=Duration(0.4), attempt=Duration(0.4))
    sidecar = start(document(inbound(server.address, protocol="grpc", timeout=timeout)))
    with GrpcClient(sidecar.address()) as client:
        begin = time.monotonic()
        failure = failure_of(lambda: client.unary(request(sleep=2)))
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.35 < time.monotonic() - begin < 1.9
        assert metadata(failure.trailing_metadata())["x-nova-reject"] == "deadline_exceeded"


def test_a_stream_may_last_longer_than_the_ports_budget(start: StartSidecar, server: GrpcApp) -> None:
    timeout = TimeoutPolicy(request=Duration(0.5), attempt=Duration(0.5), stream_idle=Duration(5))
    sidecar = start(document(inbound(server.address, protocol="grpc", timeout=timeout)))
    with GrpcClient(sidecar.address()) as client:
        begin = time.monotonic()
        assert len(list(client.download(request(sizes=[1] * 5, sleep=0.2), timeout=10))) == 5
        assert time.monotonic() - begin > 0.9


def test_a_silent_stream_ends(start: StartSidecar, server: GrpcApp) -> None:
    timeout = TimeoutPolicy(stream_idle=Duration(0.3))
    sidecar = start(document(inbound(server.address, protocol="grpc", timeout=timeout)))
    with GrpcClient(sidecar.address()) as client:
        call = client.download(request(sizes=[1, 1], sleep=1.5))
        failure = failure_of(lambda: list(call))
    assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sidecar.metric("nova_rejected_total", reason="stream_idle_timeout") == 1


def test_a_cancelled_call_gives_its_place_back(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(
        document(
            inbound(server.address, protocol="grpc"),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=1.0, max_queue=0),
        )
    )
    with GrpcClient(sidecar.address()) as client:
        call = client.unary.future(request(sleep=3))
        eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 1)
        call.cancel()
        eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 0, within=2)
        assert client.code() is grpc.StatusCode.OK
    assert sidecar.metric("nova_rejected_total", reason="client_closed") == 1


# --- the limiter


def test_overload_is_refused_as_resource_exhausted(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(
        document(
            inbound(server.address, protocol="grpc"), backpressure=BackpressurePolicy(max_concurrency=2, threshold=0.5)
        )
    )
    with GrpcClient(sidecar.address()) as client:
        slow = [client.unary.future(request(sleep=2), timeout=10) for _ in range(2)]
        eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 2)
        failure = failure_of(lambda: client.unary(request(), timeout=10))
        assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        seen = metadata(failure.trailing_metadata()) | metadata(failure.initial_metadata())
        assert seen["x-nova-reject"] == "overloaded"
        assert seen["correlation-id"]
        assert [call.result() for call in slow] == [b"", b""]


def test_a_call_waits_for_its_place(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(
        document(
            inbound(server.address, protocol="grpc"),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(5)),
        )
    )
    with GrpcClient(sidecar.address()) as client:
        calls = [client.unary.future(request(b"x" * 10, sleep=0.2, echo=True), timeout=10) for _ in range(4)]
        assert [call.result() for call in calls] == [b"x" * 10] * 4
    assert sidecar.metric("nova_limiter_queued_total") == 3


def test_a_call_that_waits_too_long_is_refused(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(
        document(
            inbound(server.address, protocol="grpc"),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(0.2)),
        )
    )
    with GrpcClient(sidecar.address()) as client:
        slow = client.unary.future(request(sleep=2), timeout=10)
        eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 1)
        failure = failure_of(lambda: client.unary(request(), timeout=10))
        assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert metadata(failure.trailing_metadata())["x-nova-reject"] == "acquire_timeout"
        slow.result()


# --- breaker and retries


def test_the_breaker_opens_by_grpc_status_and_refuses_as_unavailable(start: StartSidecar, server: GrpcApp) -> None:
    breaker = BreakerPolicy(failure_threshold=3, open_duration=Duration(0.5), success_threshold=1)
    sidecar = start(document(outbound(server.address, protocol="grpc", circuit_breaker=breaker)))
    with GrpcClient(sidecar.address()) as client:
        for status in (3, 5, 3, 7, 5):  # the caller's fault is no failure
            assert client.code(status=status).value[0] == status
        assert sidecar.metric("nova_breaker_state", state="closed") == 1
        for _ in range(3):
            assert client.code(status=13) is grpc.StatusCode.INTERNAL
        assert sidecar.metric("nova_grpc_responses_total", code="INTERNAL") == 3
        assert sidecar.metric("nova_grpc_responses_total", code="UNAVAILABLE") == 0
        assert sidecar.metric("nova_breaker_state", state="open") == 1
        failure = failure_of(lambda: client.unary(request(), timeout=10))
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert metadata(failure.trailing_metadata())["x-nova-reject"] == "circuit_open"
        eventually(lambda: client.code() is grpc.StatusCode.OK)
        assert sidecar.metric("nova_breaker_state", state="closed") == 1


def test_a_listed_method_is_repeated_by_code(start: StartSidecar, server: GrpcApp) -> None:
    retry = RetryPolicy(idempotent_paths=("/grpc.testing.TestService/*",), attempts=3)
    sidecar = start(
        document(
            outbound(server.address, protocol="grpc", retry=retry, circuit_breaker=BreakerPolicy(mode="Off")),
        )
    )
    with GrpcClient(sidecar.address()) as client:
        assert client.code(status=14) is grpc.StatusCode.UNAVAILABLE
        assert sidecar.metric("nova_retries_total") == 2
        assert client.code(status=13) is grpc.StatusCode.INTERNAL
        assert sidecar.metric("nova_retries_total") == 2
        pushback = {"grpc-retry-pushback-ms": "-1"}
        assert client.code(status=14, trailers=pushback) is grpc.StatusCode.UNAVAILABLE
        assert sidecar.metric("nova_retries_total") == 2
        assert sidecar.metric("nova_retries_suppressed_total", reason="pushback") == 1


def test_an_unlisted_method_is_not_repeated(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(outbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        assert client.code(status=14) is grpc.StatusCode.UNAVAILABLE
    assert sidecar.metric("nova_retries_total") == 0
    assert sidecar.metric("nova_retries_suppressed_total", reason="not_idempotent") == 1


def test_no_upstream_is_unavailable(start: StartSidecar, server: GrpcApp) -> None:
    gone = GrpcApp()
    gone.stop()
    sidecar = start(document(outbound(gone.address, protocol="grpc", retry=RetryPolicy(mode="Off"))))
    with GrpcClient(sidecar.address()) as client:
        failure = failure_of(lambda: client.unary(request(), timeout=10))
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert metadata(failure.trailing_metadata())["x-nova-reject"] == "connect_failure"


def test_a_killed_upstream_ends_calls_under_way(start: StartSidecar) -> None:
    app = GrpcApp()
    sidecar = start(document(outbound(app.address, protocol="grpc", retry=RetryPolicy(mode="Off"))))
    with GrpcClient(sidecar.address()) as client:
        calls = [client.unary.future(request(sleep=20), timeout=30) for _ in range(5)]
        streams = [client.download(request(sizes=[5] + [1] * 100, sleep=0.5), timeout=30) for _ in range(3)]
        assert [len(next(stream)) for stream in streams] == [5] * 3
        eventually(lambda: sidecar.metric("nova_requests_in_flight") == 8)
        app.kill()
        for call in calls:
            assert failure_of(call.result).code() is grpc.StatusCode.UNAVAILABLE
        for stream in streams:
            assert failure_of(lambda: list(stream)).code() is grpc.StatusCode.UNAVAILABLE  # noqa: B023 - called at once
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def test_slow_readers_hold_the_sender_back_and_memory_down(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(inbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address(), **{"grpc.http2.bdp_probe": 0}) as client:
        assert client.code() is grpc.StatusCode.OK
        before = sidecar.rss
        calls = [client.download(request(sizes=[1 << 20] * 64)) for _ in range(4)]
        for call in calls:
            assert len(next(call)) == 1 << 20
        threading.Event().wait(0.5)  # whoever does not hold back has sent 256 MB by now
        assert sidecar.rss - before < 48 << 20
        assert [len(list(call)) for call in calls] == [63] * 4
