"""Clients and servers of others through the sidecar: websockets and aiohttp, with everything they negotiate."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate

from nova_api.policies import WebSocketPolicy
from nova_api.proxy import DrainPolicy
from nova_api.units import Duration
from tests.crowd import CROWD

from .conftest import StartSidecar
from .support.sidecar import Sidecar, document, inbound

Talk = Callable[[ClientConnection, Sidecar], Awaitable[None]]
PATIENCE = 15.0 * CROWD


class Echo:
    """A server of the library `websockets`, which remembers how its connections were closed."""

    def __init__(self) -> None:
        self.codes: list[int | None] = []

    async def __call__(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if message == "fragments":
                    await connection.send(["frag", "ment", "ed"])
                elif message == "goodbye":
                    await connection.close(4000, "as asked")
                else:
                    await connection.send(message)
        self.codes.append(connection.close_code)


@contextlib.asynccontextmanager
async def echo(start: StartSidecar, compression: str | None = "deflate") -> AsyncIterator[tuple[Sidecar, str, Echo]]:
    handler = Echo()
    async with serve(handler, "127.0.0.1", 0, compression=compression, max_size=None, close_timeout=1) as server:
        host, port = server.sockets[0].getsockname()[:2]
        leaves = DrainPolicy(delay=Duration(0), timeout=Duration(8))
        web_socket = WebSocketPolicy(spread=Duration(0.2))
        config = document(inbound((host, port), protocol="websocket"), drain=leaves, web_socket=web_socket)
        sidecar = await asyncio.to_thread(start, config)
        host, port = sidecar.address()
        yield sidecar, f"ws://{host}:{port}/", handler


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(bounded())


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_every_kind(start: StartSidecar, compression: str | None) -> None:
    async def test() -> None:
        async with (
            echo(start, compression) as (_, url, _),
            connect(url, compression=compression, max_size=None) as client,
        ):
            extensions = client.protocol.extensions
            assert any(isinstance(each, PerMessageDeflate) for each in extensions) is (compression is not None)
            for message in ("", "text €", "x" * 200_000, b"", os.urandom(3_000_000), b"\0" * 3_000_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "pieces"])
            assert await client.recv() == "in three pieces"
            await client.send("fragments")
            assert await client.recv() == "fragmented"
            assert await (await client.ping(b"are you there")) < PATIENCE
        assert client.close_code == 1000

    run(test)


def test_the_app_closes(start: StartSidecar) -> None:
    async def test() -> None:
        async with echo(start) as (_, url, _), connect(url) as client:
            await client.send("goodbye")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4000, "as asked")

    run(test)


def test_the_pod_leaves(start: StartSidecar) -> None:
    """Both libraries take the close for one in good order: the handshake is whole on both sides."""

    async def test() -> None:
        async with echo(start) as (sidecar, url, handler):
            clients = [await connect(url, compression=each) for each in ("deflate", None) * 5]
            for client in clients:
                await client.send("hello " * 100)
                assert await client.recv() == "hello " * 100
            await asyncio.to_thread(sidecar.terminate)
            for client in clients:
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert (client.close_code, client.close_reason) == (1012, "this instance is leaving")
                assert closed.value.rcvd is not None
                assert closed.value.sent is not None
                assert closed.value.rcvd_then_sent
            assert await asyncio.to_thread(sidecar.wait) == 0
            while len(handler.codes) < len(clients):  # noqa: ASYNC110 - bounded by `run`
                await asyncio.sleep(0.01)
            assert set(handler.codes) == {1001}

    run(test)


def test_the_pod_leaves_while_both_sides_talk(start: StartSidecar) -> None:
    """What arrives of a compressed stream that is closed under load is whole messages, in order, and nothing else."""

    async def talk(client: ClientConnection, begun: asyncio.Event) -> None:
        ahead = asyncio.Semaphore(20)

        async def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                for number in range(1_000_000):
                    await ahead.acquire()
                    await client.send(f"{number} " * 500)

        sending = asyncio.create_task(send())
        expected = 0
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                assert message == f"{expected} " * 500
                expected += 1
                ahead.release()
                if expected > 20:
                    begun.set()
        sending.cancel()
        assert client.close_code == 1012

    async def test() -> None:
        async with echo(start) as (sidecar, url, _):
            clients = [await connect(url) for _ in range(4)]
            begun = [asyncio.Event() for _ in clients]
            talking = [asyncio.create_task(talk(*each)) for each in zip(clients, begun, strict=True)]
            for each in begun:
                await each.wait()
            await asyncio.to_thread(sidecar.terminate)
            await asyncio.gather(*talking)
            assert await asyncio.to_thread(sidecar.wait) == 0

    run(test)


def test_aiohttp_on_both_sides(start: StartSidecar) -> None:
    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat",), heartbeat=1)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{socket.ws_protocol}: {message.data}")
        codes.append(socket.close_code)
        return socket

    codes: list[int | None] = []

    async def test() -> None:
        app = web.Application()
        app.router.add_get("/chat", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        config = document(
            inbound(runner.addresses[0][:2], protocol="websocket"),
            web_socket=WebSocketPolicy(spread=Duration(0)),
        )
        sidecar = await asyncio.to_thread(start, config)
        host, port = sidecar.address()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{host}:{port}/chat", protocols=("chat",), compress=15, heartbeat=1) as socket,
        ):
            await socket.send_str("hello")
            assert await socket.receive_str() == "chat: hello"
            await asyncio.sleep(1.2)  # heartbeats both ways
            assert not socket.closed
            await asyncio.to_thread(sidecar.terminate)
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            assert socket.close_code == 1012
        assert await asyncio.to_thread(sidecar.wait) == 0
        await runner.cleanup()
        assert codes == [1001]

    run(test)
