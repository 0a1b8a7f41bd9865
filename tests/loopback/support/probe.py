"""One case of a differential test, run against one proxy: a client with a script and an app that answers by another."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import verdict

OK = b"HTTP/1.1 200 OK\r\nX-App: 1\r\nContent-Length: 2\r\n\r\nok"
PAUSE: float = 0.05
"""A step of a script: what follows goes into another segment, after a pause that separates the two."""
FIN = None
"""A step: the client closes its sending side."""
ANSWERED = object()
"""A step: what follows waits until the client has received something."""
ARRIVED = object()
"""A step: what follows waits until the app has received something."""

RELEASE = 0.3
"""Seconds between the end of a client's script and an answer that was held back."""
PATIENCE = 6.0
"""Seconds in which what is expected must have happened."""
HOLD = 0.25
"""Seconds for which it must then stay so."""


@dataclass(frozen=True)
class Case:
    """Bytes to send and what each proxy makes of them; `nginx` and `haproxy` are None where they do as Nova does."""

    name: str
    send: Sequence[object]
    nova: str
    nginx: str | None = None
    haproxy: str | None = None
    why: str = ""
    """Why Nova differs from the others, where it does."""
    reply: Sequence[bytes | None] = (OK,)
    """The app's answers, the last one again and again; None: it closes instead."""
    interim: bytes = b""
    """What the app sends as soon as it has the head of a request."""
    early: bool = False
    """The app answers as soon as it has the head."""
    held: bool = False
    """The app answers a while after the client's script is over."""
    closes: bool = False
    """The app closes after its answer."""
    methods: Sequence[str] = ()
    protocol: Literal["http", "websocket"] = "http"

    def expected(self, proxy: str) -> str:
        """The verdict that a proxy should give."""
        said: str | None = getattr(self, proxy)
        return self.nova if said is None else said


@dataclass
class App:
    """The app of one case: it keeps what it gets on all its connections and answers by the case's script."""

    case: Case
    connections: list[bytearray] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    _answered: int = 0

    async def open(self) -> int:
        """Listen; the port."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Listen no more."""
        if self.server is not None:
            self.server.close()

    @property
    def shown(self) -> list[str]:
        """The requests so far."""
        pairs = zip(self.connections, self.ended, strict=True)
        return [line for data, ended in pairs for line in verdict.requests(bytes(data), ended=ended)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data, index, done = bytearray(), len(self.connections), 0
        interim = False
        self.connections.append(data)
        self.ended.append(False)
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                data += part
                if self.case.interim and not interim and b"\r\n\r\n" in data:
                    interim = True
                    writer.write(self.case.interim)
                ready = (b"\r\n\r\n" in data) if self.case.early else verdict.whole(bytes(data))
                while done < ready:
                    done += 1
                    if self.case.held:
                        await self.released.wait()
                    answer = self.case.reply[min(self._answered, len(self.case.reply) - 1)]
                    self._answered += 1
                    if answer is not None:
                        writer.write(answer)
                        await writer.drain()
                    if answer is None or self.case.closes:
                        writer.close()
                        return
        self.ended[index] = True
        writer.close()


class Client:
    """Runs a case's script and keeps what comes back."""

    def __init__(self, case: Case, port: int, app: App) -> None:
        self._case = case
        self._port = port
        self._app = app
        self._received = bytearray()
        self._closed = False
        self._sent = False

    async def judge(self, expected: str | None) -> str:
        """The verdict: once it is the expected one and stays so, or when patience is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        tasks = [asyncio.create_task(self._receive(reader)), asyncio.create_task(self._send(writer))]
        try:
            return await self._settle(expected)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()

    async def _settle(self, expected: str | None) -> str:
        loop = asyncio.get_running_loop()
        over = loop.time() + PATIENCE
        since, seen = loop.time(), ""
        while loop.time() < over:
            now = self.verdict
            if now != seen:
                since, seen = loop.time(), now
            hold = (
                HOLD + (RELEASE if self._case.held else 0.0)
                if seen == expected
                else 2.0
                if expected is None
                else PATIENCE
            )
            if self._sent and loop.time() - since >= hold:
                break
            await asyncio.sleep(0.02)
        return self.verdict

    @property
    def verdict(self) -> str:
        """What is to be seen now."""
        methods = self._case.methods or ("GET",)
        seen = verdict.responses(bytes(self._received), methods, ended=self._closed)
        if self._closed:
            seen.append("close")
        client = " ".join(seen) or "waits"
        return " | ".join([client, *self._app.shown])

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                self._received += part
        self._closed = True

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for step in self._case.send:
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                elif step is FIN:
                    writer.write_eof()
                else:
                    await self._until(step)
        self._sent = True
        await asyncio.sleep(RELEASE)
        self._app.released.set()

    async def _until(self, step: object) -> None:
        while not (self._received if step is ANSWERED else any(self._app.connections)):  # noqa: ASYNC110 - short, bounded by the caller
            await asyncio.sleep(0.01)
