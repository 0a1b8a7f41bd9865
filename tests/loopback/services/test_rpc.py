"""gRPC between services, over real sockets: what goes with a call, and what becomes of errors."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import pytest
from grpc import aio
from nova.users.v1 import users_pb2, users_pb2_grpc

from nova_data import correlation
from nova_data.errors import DedupStoreError, PoolExhaustedError
from nova_services import rpc
from nova_services.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, UnavailableError
from tests.loopback.support.ports import free_ports

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST = users_pb2.GetProfileRequest(user_id="u")


class Users(users_pb2_grpc.UsersServiceServicer):
    """Does as it is told; the other methods are nobody's."""

    def __init__(self, act: Callable[[], Awaitable[object]]) -> None:
        self._act = act

    def register(self, server: aio.Server) -> None:
        users_pb2_grpc.add_UsersServiceServicer_to_server(self, server)

    async def GetProfile(  # noqa: N802 - the proto's
        self, request: users_pb2.GetProfileRequest, context: object
    ) -> users_pb2.GetProfileResponse:
        return users_pb2.GetProfileResponse(profile=users_pb2.Profile(user_id=str(await self._act())))


Stub = Any


def served(act: Callable[[], Awaitable[object]], work: Callable[[Stub], Coroutine[Any, Any, None]]) -> None:
    """Serve, and do something with a stub."""

    async def main() -> None:
        async with (
            rpc.served([Users(act).register], host="127.0.0.1", port=0) as port,
            rpc.channel(f"127.0.0.1:{port}") as channel,
        ):
            await work(users_pb2_grpc.UsersServiceStub(channel))

    asyncio.run(main())


def test_the_id_and_the_trace_go_with_a_call_and_with_no_other() -> None:
    seen = []

    async def note() -> str:
        seen.append((correlation.correlation_id(), correlation.traceparent()))
        return ""

    async def work(users: Stub) -> None:
        with correlation.bound("order-7", TRACE):
            await users.GetProfile(REQUEST, timeout=5)
        await users.GetProfile(REQUEST, timeout=5)
        await users.GetProfile(REQUEST, timeout=5, metadata=(("correlation-id", "anna@example.org"),))

    served(note, work)
    assert seen[0] == ("order-7", TRACE)
    ids = [identity for identity, _ in seen]
    assert len(set(ids)) == 3
    assert "anna@example.org" not in ids
    assert all(ids)
    assert seen[1][1] is None


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InvalidError("user_id", "a UUID"), grpc.StatusCode.INVALID_ARGUMENT, "user_id: expected a UUID"),
        (ForbiddenError("not yours"), grpc.StatusCode.PERMISSION_DENIED, "not yours"),
        (NotFoundError("no such user"), grpc.StatusCode.NOT_FOUND, "no such user"),
        (ConflictError("it is read-only"), grpc.StatusCode.FAILED_PRECONDITION, "it is read-only"),
        (UnavailableError("users"), grpc.StatusCode.UNAVAILABLE, "users is not available"),
        (PoolExhaustedError("users", "threshold", 2.0), grpc.StatusCode.UNAVAILABLE, "a store is not available"),
        (DedupStoreError("away"), grpc.StatusCode.UNAVAILABLE, "a store is not available"),
        (ConnectionRefusedError("10.0.0.1"), grpc.StatusCode.UNAVAILABLE, "a store is not available"),
        (KeyError("secret"), grpc.StatusCode.INTERNAL, "internal error"),
    ],
)
def test_an_error_has_its_status_and_no_words_too_many(error: Exception, code: grpc.StatusCode, words: str) -> None:
    async def fail() -> object:
        raise error

    async def work(users: Stub) -> None:
        with pytest.raises(aio.AioRpcError) as refused:
            await users.GetProfile(REQUEST, timeout=5)
        assert (refused.value.code(), refused.value.details()) == (code, words)
        assert rpc.is_away(refused.value) == (code is grpc.StatusCode.UNAVAILABLE)

    served(fail, work)


def test_a_method_that_nobody_has_written_is_unimplemented() -> None:
    async def work(users: Stub) -> None:
        with pytest.raises(aio.AioRpcError) as refused:
            await users.CheckBlock(users_pb2.CheckBlockRequest(), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def nothing() -> str:
        return ""

    served(nothing, work)


def test_no_call_is_made_without_a_deadline_and_one_that_is_over_ends_its_handler() -> None:
    ended = []

    async def hang() -> object:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append(True)
            raise
        return ""

    async def work(users: Stub) -> None:
        with pytest.raises(ValueError, match=r"^/nova\.users\.v1\.UsersService/GetProfile: expected a timeout$"):
            await users.GetProfile(REQUEST)
        with pytest.raises(aio.AioRpcError) as late:
            await users.GetProfile(REQUEST, timeout=0.2)
        assert rpc.is_away(late.value)
        async with asyncio.timeout(5):
            while not ended:  # noqa: ASYNC110 - the server's side, which tells nobody
                await asyncio.sleep(0.01)

    served(hang, work)


def test_at_the_end_calls_in_flight_are_answered_and_a_server_that_is_back_is_found() -> None:
    (port,) = free_ports(1)

    async def main() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            begun.set()
            await go_on.wait()
            return "done"

        async with rpc.channel(f"127.0.0.1:{port}") as channel:
            users: Stub = users_pb2_grpc.UsersServiceStub(channel)
            async with rpc.served([Users(slow).register], host="127.0.0.1", port=port):
                call = users.GetProfile(REQUEST, timeout=10)
                await begun.wait()
                asyncio.get_running_loop().call_later(0.1, go_on.set)
            assert (await call).profile.user_id == "done"
            with pytest.raises(aio.AioRpcError) as away:
                await users.GetProfile(REQUEST, timeout=1)
            assert rpc.is_away(away.value)
            async with rpc.served([Users(slow).register], host="127.0.0.1", port=port):
                answer = await users.GetProfile(REQUEST, timeout=10, wait_for_ready=True)
                assert answer.profile.user_id == "done"

    asyncio.run(main())


def test_a_port_that_is_taken_is_said() -> None:
    async def main() -> None:
        async with rpc.served([], host="127.0.0.1", port=0) as port:
            with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 cannot be listened on"):
                async with rpc.served([], host="127.0.0.1", port=port):
                    pass

    asyncio.run(main())
