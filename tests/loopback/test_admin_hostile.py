"""The admin servers and clients that mean no good, or are merely slow: bodies, pipelines, heads, reading.

Above the line a whole sidecar; below it the servers alone, with pages that are large or slow and waits that are short.
"""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest

from nova_api.proxy import Address, Admin, DrainPolicy
from nova_api.units import Duration
from nova_sidecar.admin import connection, guard, server
from nova_sidecar.admin.message import Answer, Request, text
from nova_sidecar.admin.pages import Routes
from nova_sidecar.admin.server import AdminServers
from nova_sidecar.runtime import loop_factory

from .conftest import StartSidecar
from .support.peer import Peer
from .support.sidecar import Sidecar, document, inbound
from .support.waiting import eventually

APP = ("127.0.0.1", 9)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HOST = b"Host: 127.0.0.1\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
DRAIN = b"POST /drain HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    running = Sidecar.start(document(inbound(APP)), tmp_path_factory.mktemp("hostile"))
    yield running
    assert json.loads(running.status("/status")[1])["phase"] == "serving"  # nothing here has drained it
    assert running.stop() == 0
    assert not running.complaints()


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[Peer]:
    control = sidecar.config.admin.control
    with Peer.connect((control.host, control.port)) as peer:
        yield peer


def test_pipelined_requests_are_answered_in_order(client: Peer) -> None:
    client.send(PROBE + b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n" + PROBE)
    assert [client.response().status for _ in range(3)] == [200, 404, 200]
    assert client.exchange(PROBE).status == 200


def test_a_head_byte_by_byte(client: Peer) -> None:
    client.trickle(PROBE, every=0.001)
    assert client.response().status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(DRAIN) + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DRAIN), DRAIN),
    ],
    ids=["length", "chunked"],
)  # fmt: skip
def test_a_body_is_no_request(client: Peer, head: bytes) -> None:
    client.send(head)
    assert client.response().body == b"ok\n"
    assert client.exchange(PROBE).body == b"ok\n"  # and not what a drain answers


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n" + CHUNKED + b"0\r\n\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + CHUNKED + b"xyz\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n" + DRAIN,
        b"GET /healthz HTTP/1.1\r\n\r\n" + DRAIN,
        b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n" + DRAIN,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["both", "two", "gzip", "space", "size", "hosts", "lf", "no host", "connect", "h2"],
)  # fmt: skip
def test_what_two_could_read_differently_ends_the_connection(client: Peer, head: bytes) -> None:
    client.send(head)
    answers = client.expect_closed()
    assert answers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 20000\r\n\r\n", CHUNKED])
def test_a_large_body(client: Peer, framing: bytes) -> None:
    client.send(b"POST /drain HTTP/1.1\r\n" + HOST + framing)
    client.send_if_open(b"1000\r\n" + b"x" * 4096 + b"\r\n" if b"chunked" in framing else b"x" * 4096)
    for _ in range(5):
        client.send_if_open(b"1000\r\n" + b"x" * 4096 + b"\r\n")
    assert client.expect_closed().startswith(b"HTTP/1.1 413 ")


def test_a_client_that_waits_for_leave_to_send_its_body(client: Peer) -> None:
    client.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert client.response().status == 200


def test_an_absolute_target_names_the_host(client: Peer) -> None:
    """It counts in place of the Host field (RFC 9112 section 3.2.2), so it passes no other rule."""
    client.send(b"GET http://evil.example/config HTTP/1.1\r\n" + HOST + b"\r\n")
    assert client.response().status == 403
    assert client.exchange(b"GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 200


def test_half_closed_and_older_clients(sidecar: Sidecar) -> None:
    address = (sidecar.config.admin.status.host, sidecar.config.admin.status.port)
    with Peer.connect(address) as client:
        client.send(PROBE)
        client.finish()
        assert client.expect_closed().endswith(b"\r\n\r\nok\n")
    with Peer.connect(address) as client:
        client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"Connection: close\r\n" in client.expect_closed()
    with Peer.connect(address) as client:
        for _ in range(2):
            client.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert b"Connection: keep-alive\r\n" in client.read_until(b"ok\n")


def test_the_hook_may_leave_and_the_drain_goes_on(start: StartSidecar) -> None:
    sidecar = start(document(inbound(APP), drain=DrainPolicy(delay=Duration(1.5), timeout=Duration(5))))
    control = sidecar.config.admin.control
    with Peer.connect((control.host, control.port)) as hook:
        hook.send(b"POST /drain?x=1&wait=true HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"Transfer-Encoding" not in hook.read_until(b"\r\n\r\n")
        assert json.loads(hook.read_until(b"\n"))["phase"] == "leaving"
        hook.reset()
    eventually(lambda: json.loads(sidecar.status("/status")[1])["phase"] == "drained")


# the servers alone

SIZE = 8 << 20
BODY = bytes(range(256)) * (SIZE // 256)


class Slow:
    """A page of 8 MiB, and two that end when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    def status_routes(self) -> Routes:
        return {
            "/healthz": {"GET": self.probe},
            "/large": {"GET": self.large},
            "/slow": {"GET": self.slow},
            "/lines": {"GET": self.lines},
            "/broken": {"GET": self.broken},
        }

    control_routes = status_routes

    async def probe(self, _request: Request) -> Answer:
        return text(200, "ok")

    async def large(self, _request: Request) -> Answer:
        return Answer(200, BODY, "application/octet-stream")

    async def slow(self, _request: Request) -> Answer:
        self.asked.set()
        await self.go.wait()
        return text(200, "slow")

    async def lines(self, _request: Request) -> Answer:
        return Answer(200, self._lines(), "text/plain")

    async def broken(self, _request: Request) -> Answer:
        raise ValueError

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        yield b"first\n"
        self.asked.set()
        await self.go.wait()
        yield b"last\n"


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    """The servers, their pages, and clients that are closed at the end."""

    def __init__(self) -> None:
        self.pages = Slow()
        address = Address(host="127.0.0.1", port=0)
        self.servers = AdminServers(Admin(status=address, control=address), self.pages)  # type: ignore[arg-type]  # a stand-in
        self._clients: list[Client] = []

    async def connect(self, *, small: bool = False) -> Client:
        """A client, which on request takes in little at once."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (self.servers.status.host, self.servers.status.port))
        self._clients.append(await asyncio.open_connection(sock=sock, limit=4096))
        return self._clients[-1]

    async def ask(self, path: str, *, small: bool = False) -> Client:
        """A client that has sent a request."""
        client = await self.connect(small=small)
        client[1].write(b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), HOST))
        return client

    async def left(self, count: int) -> None:
        """Wait until so many connections are open."""
        while len(self.servers.connections) != count:  # noqa: ASYNC110 - the servers tell nobody
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End all of it."""
        await self.servers.close()
        for _, writer in self._clients:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._clients), return_exceptions=True)


def play(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        stage = Stage()
        await stage.servers.start()
        try:
            await scene(stage)
        finally:
            await stage.close()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(asyncio.wait_for(run(), 30))


async def body(client: Client, count: int) -> bytes:
    await client[0].readuntil(b"\r\n\r\n")
    return await client[0].readexactly(count)


async def ended(client: Client) -> None:
    """Waits for the end, in order or as a reset."""
    with suppress(ConnectionError):
        while await client[0].read(1 << 16):
            pass


def test_a_large_page_arrives_whole() -> None:
    async def scene(stage: Stage) -> None:
        assert await body(await stage.ask("/large", small=True), SIZE) == BODY

    play(scene)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "STALL_TIMEOUT", 0.2)

    async def scene(stage: Stage) -> None:
        client = await stage.ask("/large", small=True)
        await stage.left(1)
        await stage.left(0)
        await ended(client)

    play(scene)


def test_few_pages_are_kept_for_those_who_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_STALLED", 3)

    async def scene(stage: Stage) -> None:
        clients = [await stage.ask("/large", small=True) for _ in range(5)]
        await ended(clients[0])
        await ended(clients[1])
        await stage.left(3)
        assert await body(await stage.ask("/healthz"), 3) == b"ok\n"

    play(scene)


def trickling(start: bytes) -> Iterator[bytes]:
    yield start
    if start == b"\r\n":
        yield from itertools.repeat(start)
    yield from itertools.repeat(b"x")


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("start", [b"GET /hea", b"GET / HTTP/1.1\r\nX: ", b"\r\n"], ids=["line", "field", "empty"])
def test_a_head_has_its_time(monkeypatch: pytest.MonkeyPatch, start: bytes, kept: bool) -> None:
    """In all, however it trickles: on a new connection and behind an answer."""
    for module in (guard, connection):
        monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.3)

    async def scene(stage: Stage) -> None:
        client = await (stage.ask("/healthz") if kept else stage.connect())
        if kept:
            assert await body(client, 3) == b"ok\n"
        end = asyncio.create_task(ended(client))
        for piece in trickling(start):
            client[1].write(piece)
            if (await asyncio.wait((end,), timeout=0.02))[0]:
                break

    play(scene)


def test_a_silent_connection_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD_TIMEOUT", 0.1)
    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.1)

    async def scene(stage: Stage) -> None:
        await ended(await stage.connect())
        await ended(await stage.ask("/healthz"))

    play(scene)


def test_what_is_sent_behind_a_slow_answer_waits_in_the_kernel() -> None:
    async def scene(stage: Stage) -> None:
        reader, writer = await stage.ask("/slow")
        await stage.pages.asked.wait()
        writer.write(PROBE * 400_000)  # 14 MB, more than both kernel buffers take
        (only,) = stage.servers.connections
        before = -1
        while before != (before := writer.transport.get_write_buffer_size()):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.1)
        assert before > 0
        assert int(repr(only).rpartition("=")[2].rstrip(">")) <= 1 << 18  # what the loop reads at once
        stage.pages.go.set()
        assert await body((reader, writer), 5) == b"slow\n"
        assert await body((reader, writer), 3) == b"ok\n"

    play(scene)


def test_closing_lets_answers_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 10.0)

    async def scene(stage: Stage) -> None:
        lines, idle = await stage.ask("/lines"), await stage.ask("/healthz")
        assert await body(idle, 3) == b"ok\n"
        await stage.pages.asked.wait()
        closing = asyncio.create_task(stage.servers.close())
        await ended(idle)
        stage.pages.go.set()
        await closing
        answer = await lines[0].read()
        assert answer.endswith(b"\r\n\r\n6\r\nfirst\n\r\n5\r\nlast\n\r\n0\r\n\r\n")

    play(scene)


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 0.1)

    async def scene(stage: Stage) -> None:
        client = await stage.ask("/slow")
        await stage.pages.asked.wait()
        await stage.servers.close()
        await ended(client)
        await stage.left(0)

    play(scene)


def test_a_page_that_fails_is_a_500_and_the_connection_stays() -> None:
    async def scene(stage: Stage) -> None:
        reader, writer = await stage.ask("/broken")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 500 ")
        await body((reader, writer), len("internal error, see the log\n"))
        writer.write(PROBE)
        assert await body((reader, writer), 3) == b"ok\n"

    play(scene)
