"""A proxy in this process, in front of an app that a test scripts; for what takes many clients at once and no clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

from nova_api.policies import AccessLogPolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig
from nova_api.units import Duration
from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.transport.tcp import reset_on_close
from tests.crowd import CROWD

from .message import request
from .sidecar import document, inbound

PATIENCE: Final = 20.0 * CROWD


class Asked:
    """One request as it came to the app, and the means to answer it piece by piece."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self.writer = writer
        self.gone = asyncio.Event()
        """Set when the sidecar has closed the connection."""

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def field(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            written, _, value = line.partition(b":")
            if written.lower() == name.encode():
                return value.strip().decode()
        return None

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def answer(self, status: str = "200 OK", *fields: str, body: bytes = b"") -> None:
        """A whole response; the connection stays."""
        bodiless = status[:3] in ("204", "304")
        lines = [f"HTTP/1.1 {status}", *fields, *([] if bodiless else [f"content-length: {len(body)}"]), "", ""]
        self.send("\r\n".join(lines).encode() + (b"" if self.head.startswith(b"HEAD") else body))

    def reset(self) -> None:
        self.writer.transport.abort()


Handle = Callable[[Asked], Awaitable[None]]


class App:
    """Keeps what came, and answers by `handle`."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.asked: list[Asked] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one: Asked | None = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                one = Asked(head, await reader.readexactly(length[0]) if length else b"", writer)
                async with self._changed:
                    self.asked.append(one)
                    self._changed.notify_all()
                await self.handle(one)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if one is not None:
                one.gone.set()
            writer.close()

    async def until(self, count: int) -> Asked:
        """Wait for that many requests; the last of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= count)
        return self.asked[count - 1]


class Answer:
    """What a client got; `status` is 0 where it had read the head before, or got none."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.lines = head.decode("latin-1").split("\r\n")
        self.status = int(self.lines[0].split(" ")[1]) if raw.startswith(b"HTTP/1.1 ") else 0

    def __getitem__(self, name: str) -> str | None:
        found = [line.partition(":")[2].strip() for line in self.lines[1:] if line.lower().startswith(f"{name}:")]
        return ", ".join(found) if found else None

    def __repr__(self) -> str:
        return f"<Answer {self.raw[:400]!r}>"


class Client:
    """One connection of a client, which asks once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> Answer:
        """The response, up to the end of the connection, however that comes."""
        parts: list[bytes] = []
        try:
            with contextlib.suppress(ConnectionResetError):
                while part := await self.reader.read(1 << 20):
                    parts.append(part)
            got = b"".join(parts)
            while got.startswith(b"HTTP/1.1 1"):
                got = got.partition(b"\r\n\r\n")[2]
            return Answer(got)
        finally:
            self.writer.close()

    def leave(self) -> None:
        """With a reset, as a process that is killed with bytes unread."""
        reset_on_close(self.writer.transport)
        self.writer.transport.abort()


class Bench:
    """The proxy, the app, and clients."""

    def __init__(self, proxy: Proxy, app: App, port: Any, fields: dict[str, Any]) -> None:
        self.proxy = proxy
        self.app = app
        self._port = port
        self._fields = fields

    async def ask(self, target: str = "/item", *fields: str, method: str = "GET", body: bytes = b"") -> Client:
        """Send a request and leave its answer to be waited for."""
        reader, writer = await asyncio.open_connection(*self.proxy.inbound_addresses["web"], limit=1 << 16)
        length = (f"content-length: {len(body)}",) if body else ()
        writer.write(request(method, target, "connection: close", *length, *fields) + body)
        return Client(reader, writer)

    async def get(self, target: str = "/item", *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Ask and wait."""
        return await (await self.ask(target, *fields, method=method, body=body)).answer()

    async def reload(self, **fields: Any) -> None:
        """Put a configuration in force with these fields in place of the former ones."""
        self._fields |= fields
        await self.proxy.apply(_document(self._port, self._fields))

    def counts(self, policy: str) -> dict[str, int]:
        """What a policy has counted at the port."""
        (port,) = self.proxy.stats.ports.values()
        return {str(name): count for name, count in port.policies[policy].items() if count}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, a turn of the loop after the other."""
        while not holds():  # noqa: ASYNC110 - what is waited for is state of the proxy, which tells nobody
            await asyncio.sleep(0.001)


class _Unasked:
    def resolve(self, *_: Any) -> Any:
        raise AssertionError

    def record(self, _: Any) -> None:
        pass


def _document(port: Any, fields: dict[str, Any]) -> ProxyConfig:
    return document(port, **{"access_log": AccessLogPolicy(mode="Off"), **fields})


@asynccontextmanager
async def bench(handle: Handle, *, seconds: float = 10.0, **fields: Any) -> AsyncIterator[Bench]:
    """Both, with these fields in the document; `seconds` is the budget of a request."""
    app = App(handle)
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0, limit=1 << 20)
    port = inbound(server.sockets[0].getsockname()[:2], timeout=TimeoutPolicy(request=Duration(seconds)))
    unasked = _Unasked()
    proxy = Proxy(_document(port, fields), resolver=unasked, access_log=unasked, rng=Random(1))
    await proxy.start()
    at = Bench(proxy, app, port, fields)
    try:
        yield at
        await at.until(lambda: proxy.in_flight == 0)
        assert proxy.limiter.snapshot()["inFlight"] == 0
    finally:
        await proxy.close()
        server.close()


def run(test: Coroutine[Any, Any, None], seconds: float = PATIENCE) -> None:
    """Run a scene, within bounds."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await test

    asyncio.run(bounded())
