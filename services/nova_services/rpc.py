"""gRPC between services: a server and channels that carry the correlation id and the trace, as HTTP does.

    async with rpc.served([servicer.register], host=options.host, port=options.grpc_port): ...

    async with rpc.channel("users:9090") as channel:
        users = users_pb2_grpc.UsersServiceStub(channel)
        profile = await users.GetProfile(GetProfileRequest(user_id=…), timeout=1.0)

Rules:

* Metadata `correlation-id` and `traceparent` are bound to all that a handler does, and sent with every call.
* A handler raises `nova_services.errors`, and does not abort; the table below has the status of each. Whatever else it
  raises is INTERNAL, and its words stay in the log. A store that is away is UNAVAILABLE, which callers may try again.
* No call is made without a deadline; one that has none is refused here, where it can be found.
* All methods take one message and give one, as those of the protos do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from grpc import aio

from nova_data import correlation
from nova_data.errors import ListenError
from nova_data.headers import CORRELATION_ID, TRACEPARENT
from nova_services.backing import lasting, note_away
from nova_services.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, UnavailableError
from nova_services.logs import get_logger

Registration = Callable[[aio.Server], None]
"""Adds a servicer; each has it as its method `register`."""
GRACE: Final = 10.0
"""Seconds for calls in flight at the end."""
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of a message that is taken; gRPC's own default."""
AWAY: Final = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))
"""What a call ends with that says nothing of its subject: the other service did not answer."""
_CODES: Final[dict[type[Exception], grpc.StatusCode]] = {
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
}
_SERVER: Final = (("grpc.max_receive_message_length", LARGEST), ("grpc.so_reuseport", 0))
# a peer that was away is looked for again soon; loopback and cluster names are never behind a proxy
_CLIENT: Final = (("grpc.max_reconnect_backoff_ms", 2000), ("grpc.enable_http_proxy", 0))


@asynccontextmanager
async def served(registrations: Iterable[Registration], *, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the block runs, then finish what is in flight; yields the port, where 0 asked for a free one. Raises
    ListenError where the port is taken."""
    server = aio.server(interceptors=[_Incoming()], options=_SERVER)
    for register in registrations:
        register(server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise ListenError(host, port) from error
    await server.start()
    get_logger().info("grpc listening", address=f"{host}:{bound}")
    try:
        yield bound
    finally:
        await server.stop(GRACE)


def channel(address: str) -> aio.Channel:
    """To a service, ``users:9090``; connects when it is first used. Close it, or use it as a block."""
    return aio.insecure_channel(address, options=_CLIENT, interceptors=[_Outgoing()])


def is_away(error: aio.AioRpcError) -> bool:
    """Whether the other service did not answer, as opposed to saying no."""
    return error.code() in AWAY


# --- incoming calls


class _Incoming(aio.ServerInterceptor):
    """Goes around every handler: binds, answers errors, and writes one line."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:  # a method that nobody serves
            return handler
        found = dict(handler_call_details.invocation_metadata)
        method, act = handler_call_details.method, handler.unary_unary

        async def call(request: Any, context: Any) -> Any:
            trace = correlation.traced(_text(found.get(TRACEPARENT)))
            with correlation.bound(correlation.adopted(_text(found.get(CORRELATION_ID))), trace):
                return await _answered(method, act, request, context)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def _answered(method: str, act: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
    start, code = time.monotonic(), grpc.StatusCode.INTERNAL
    try:
        answer = await act(request, context)
        code = grpc.StatusCode.OK
        return answer  # noqa: TRY300 - the line below says how it ended
    except asyncio.CancelledError:
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        code, words = _status(error)
        if code is grpc.StatusCode.INTERNAL:
            get_logger().error("call failed", path=method, exc_info=error)
        elif code is grpc.StatusCode.UNAVAILABLE:
            note_away(error)
        await context.abort(code, words)
    finally:
        duration = round((time.monotonic() - start) * 1000, 1)
        get_logger().info("call", path=method, grpc_status=code.value[0], duration_ms=duration)


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The answer to an error, in words that may leave."""
    if (code := _CODES.get(type(error))) is not None:
        return code, str(error)
    if lasting(error) is not None:
        return grpc.StatusCode.UNAVAILABLE, "a store is not available"
    return grpc.StatusCode.INTERNAL, "internal error"


def _text(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) else None


# --- outgoing calls


class _Outgoing(aio.UnaryUnaryClientInterceptor):
    """Goes around every call: it has a deadline, and says on whose behalf it is."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: Any,
        request: Any,
    ) -> Any:
        if client_call_details.timeout is None:
            raise ValueError(f"{client_call_details.method.decode()}: expected a timeout")
        metadata = aio.Metadata(*(client_call_details.metadata or ()))
        for name, value in ((CORRELATION_ID, correlation.correlation_id()), (TRACEPARENT, correlation.traceparent())):
            if value:
                metadata[name] = value
        return await continuation(client_call_details._replace(metadata=metadata), request)
