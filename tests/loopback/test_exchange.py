"""The operator's requests to the API server as bytes on sockets: what is sent, what is read, what is used again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from kubernetes.aio.client import Configuration

from nova_operator import exchange
from nova_operator.connections import Connections
from nova_operator.exchange import LONGEST_HEAD, Answer, Exchanges, UnansweredError
from tests.loopback.support.certificates import Authority, Pair

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LONG = 10.0
"""Seconds that no test waits for."""

Test = Callable[[], Awaitable[None]]
Run = Callable[[Test], None]


class Last(bytes):
    """An answer after which the server closes the connection, without a word of it."""


class Server:
    """Answers the requests of each connection one by one with `answers`, in whatever order connections come. What is no
    answer at all is sent as it is."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._busy = 0

    @property
    def connections(self) -> int:
        """That were made so far."""
        return len(self.writers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._busy += 1
                self.most_at_once = max(self.most_at_once, self._busy)
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(length.split()[1])))
                await self.gate.wait()
                self._busy -= 1
                answer = self.answers.pop(0)
                writer.write(answer)
                if isinstance(answer, Last):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has had enough
        finally:
            writer.close()


@asynccontextmanager
async def exchanging(
    server: Server,
    most: int = 4,
    path: str = "",
    *,
    shows: ssl.SSLContext | None = None,
    trusts: ssl.SSLContext | None = None,
    name: str | None = None,
) -> AsyncIterator[Exchanges]:
    """By TLS where the server `shows` a certificate."""
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=shows) as listening:
        scheme, port = "http" if trusts is None else "https", listening.sockets[0].getsockname()[1]
        context = trusts or ssl.create_default_context()
        exchanges = Exchanges(f"{scheme}://127.0.0.1:{port}{path}", context, name, most)
        try:
            yield exchanges
        finally:
            exchanges.close()


async def ask(
    exchanges: Exchanges, body: bytes = b"", *, method: str = "PATCH", connect: float = LONG, total: float = LONG
) -> Answer:
    lines = "Content-Type: application/json\r\n"
    return await exchanges.send(method, "/api/v1/things/a?force=true", lines, body, connect=connect, total=total)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the other end of a socket knows
        await asyncio.sleep(0.005)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def bounded(test: Test) -> None:
        async def within() -> None:
            async with asyncio.timeout(LONG):
                await test()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(within())

    return bounded


def test_two_requests_go_over_one_connection_word_for_word(run: Run) -> None:
    created = b"HTTP/1.1 201 Created\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

    async def test() -> None:
        server = Server(created, OK)
        async with exchanging(server, path="/k8s/") as exchanges:
            first, second = await ask(exchanges, b"abc"), await ask(exchanges)
        assert (first.status, first.headers["retry-after"], first.body) == (201, "7", b"{}")
        assert (second.status, second.body) == (200, b"{}")
        assert (server.connections, server.bodies) == (1, [b"abc", b""])
        lines = server.heads[0].decode().split("\r\n")
        assert lines[0] == "PATCH /k8s/api/v1/things/a?force=true HTTP/1.1"
        assert lines[1].startswith("Host: 127.0.0.1:")
        assert lines[2:5] == ["Accept-Encoding: identity", "Content-Type: application/json", "Content-Length: 3"]

    run(test)


def test_an_interim_answer_is_none(run: Run) -> None:
    async def test() -> None:
        async with exchanging(Server(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK)) as exchanges:
            answer = await ask(exchanges)
        assert (answer.status, "link" in answer.headers, answer.body) == (200, False, b"{}")

    run(test)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Last(), "closed before the answer came"),
        (Last(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "closed before the answer came"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "no HTTP/1.1"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * LONGEST_HEAD, "head of the answer is longer"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * (LONGEST_HEAD // 20), "head of the answer is longer"),
    ],
    ids=["closed", "half of it", "ssh", "two lengths", "a length and chunks", "upgrade", "long head", "many interims"],
)
def test_what_is_no_answer_is_an_error_and_the_next_request_has_another_connection(
    run: Run, answer: bytes, error: str
) -> None:
    async def test() -> None:
        server = Server(answer, OK)
        async with exchanging(server) as exchanges:
            with pytest.raises(ConnectionError, match=error):
                await ask(exchanges, method="GET")
            assert (await ask(exchanges)).status == 200
        assert server.connections == 2

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 429 Slow down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 429 Slow down\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\nH",
    ],
    ids=["close", "1.0", "another one behind it", "something behind it"],
)
def test_a_connection_is_used_again_only_after_an_answer_that_leaves_it_clean(run: Run, answer: bytes) -> None:
    async def test() -> None:
        server = Server(answer, OK)
        async with exchanging(server) as exchanges:
            first = await ask(exchanges)
            assert (first.status, "x" in first.headers, (await ask(exchanges)).body) == (429, False, b"{}")
        assert server.connections == 2

    run(test)


def test_what_comes_unasked_is_nobodys_answer(run: Run) -> None:
    async def test() -> None:
        server = Server(OK, OK)
        async with exchanging(server) as exchanges:
            await ask(exchanges)
            server.writers[0].write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            await until(server.writers[0].transport.is_closing)
            assert (await ask(exchanges)).status == 200
        assert server.connections == 2

    run(test)


def test_a_connection_that_the_server_closes_while_it_is_idle_fails_nobody(run: Run) -> None:
    async def test() -> None:
        server = Server(OK, OK)
        async with exchanging(server) as exchanges:
            await ask(exchanges)
            server.writers[0].close()
            await server.writers[0].wait_closed()
            await until(lambda: "idle=0" in repr(exchanges))
            assert (await ask(exchanges)).status == 200
        assert server.connections == 2

    run(test)


def test_a_connection_that_ends_as_it_is_used_fails_only_what_must_not_be_made_twice(run: Run) -> None:
    async def test() -> None:
        for method in ("GET", "PUT", "DELETE"):
            server = Server(OK, Last(), OK)
            async with exchanging(server) as exchanges:
                assert [(await ask(exchanges, method=method)).status for _ in range(2)] == [200, 200]
            assert server.connections == 2
        for method in ("PATCH", "POST"):
            server = Server(OK, Last(), OK)
            async with exchanging(server) as exchanges:
                await ask(exchanges, method=method)
                with pytest.raises(UnansweredError):
                    await ask(exchanges, method=method)
            assert len(server.heads) == 2

    run(test)


def test_a_request_is_made_twice_at_most_and_not_once_an_answer_has_begun(run: Run) -> None:
    async def test() -> None:
        for answers, seen in (((OK, Last(), Last(), OK), 3), ((OK, Last(b"HTTP/1.1 200"), OK), 2)):
            server = Server(*answers)
            async with exchanging(server) as exchanges:
                await ask(exchanges, method="GET")
                with pytest.raises(ConnectionResetError):
                    await ask(exchanges, method="GET")
            assert len(server.heads) == seen

    run(test)


def test_a_connection_that_was_idle_for_long_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        server = Server(*[OK] * 3)
        async with exchanging(server) as exchanges:
            await asyncio.gather(ask(exchanges), ask(exchanges))
            assert "idle=2" in repr(exchanges)
            monkeypatch.setattr(exchange, "IDLE", 1e-9)
            clock = asyncio.get_running_loop().time
            used_at = clock()
            await until(lambda: clock() > used_at)
            await ask(exchanges)
            assert "idle=1" in repr(exchanges)
        assert server.connections == 3

    run(test)


def test_an_answer_that_comes_too_late_is_nobodys(run: Run) -> None:
    async def test() -> None:
        server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate", OK)
        server.gate.clear()
        async with exchanging(server) as exchanges:
            with pytest.raises(TimeoutError):
                await ask(exchanges, total=1.0)
            assert server.heads
            server.gate.set()
            assert (await ask(exchanges)).body == b"{}"
        assert server.connections == 2

    run(test)


def test_what_gives_no_answer_is_not_tried_once_for_each_idle_connection(run: Run) -> None:
    """Their other end may be a machine without power, of which each would tell only by another timeout."""

    async def test() -> None:
        server = Server(OK, OK, OK, OK)
        async with exchanging(server) as exchanges:
            await asyncio.gather(ask(exchanges), ask(exchanges))
            server.gate.clear()
            with pytest.raises(TimeoutError):
                await ask(exchanges, total=0.1)
            assert "idle=0" in repr(exchanges)
            server.gate.set()
            assert (await ask(exchanges)).status == 200
        assert server.connections == 3

    run(test)


def test_who_is_cancelled_leaves_his_turn_and_not_his_answer_to_the_next(run: Run) -> None:
    async def test() -> None:
        server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate", OK)
        server.gate.clear()
        async with exchanging(server, most=1) as exchanges:
            first = asyncio.create_task(ask(exchanges))
            second = asyncio.create_task(ask(exchanges))
            await until(lambda: server.heads)
            first.cancel()
            server.gate.set()
            assert (await second).body == b"{}"
            assert first.cancelled()

    run(test)


def test_never_more_connections_than_allowed(run: Run) -> None:
    async def test() -> None:
        server = Server(*[OK] * 40)
        async with exchanging(server, most=3) as exchanges:
            await asyncio.gather(*(ask(exchanges) for _ in range(40)))
        assert (server.connections, len(server.heads)) == (3, 40)
        assert server.most_at_once <= 3

    run(test)


def test_what_is_under_way_at_the_end_closes_its_connection(run: Run) -> None:
    async def test() -> None:
        server = Server(OK)
        server.gate.clear()
        async with exchanging(server) as exchanges:
            under_way = asyncio.create_task(ask(exchanges))
            await until(lambda: server.heads)
            exchanges.close()
            server.gate.set()
            assert (await under_way).status == 200
            await until(server.writers[0].transport.is_closing)

    run(test)


def context(pair: Pair, path: Path, purpose: ssl.Purpose, trusted: bytes = b"") -> ssl.SSLContext:
    """Shows a certificate, and trusts whom `trusted` proves."""
    made = ssl.create_default_context(purpose, cadata=trusted.decode() or None)
    path.write_bytes(pair.certificate + pair.key)
    made.load_cert_chain(path)
    return made


def test_the_server_proves_who_it_is_and_the_operator_too(run: Run, tmp_path: Path) -> None:
    ours, theirs = Authority(), Authority("somebody else")
    shows = context(
        ours.issue("kubernetes.default.svc"), tmp_path / "server", ssl.Purpose.CLIENT_AUTH, ours.certificate
    )
    shows.verify_mode = ssl.CERT_REQUIRED
    me = ours.issue("nova-operator")
    trusts = context(me, tmp_path / "client", ssl.Purpose.SERVER_AUTH, ours.certificate)
    duped = context(me, tmp_path / "duped", ssl.Purpose.SERVER_AUTH, theirs.certificate)
    stranger = context(theirs.issue("x"), tmp_path / "stranger", ssl.Purpose.SERVER_AUTH, ours.certificate)

    async def test() -> None:
        server = Server(OK, OK, OK)
        async with exchanging(server, shows=shows, trusts=trusts, name="kubernetes.default.svc") as exchanges:
            assert [(await ask(exchanges)).status for _ in range(2)] == [200, 200]
            assert server.connections == 1
            server.writers[0].close()
            await until(lambda: "idle=0" in repr(exchanges))
            assert (await ask(exchanges)).status == 200
        for trusted, name, error in (
            (trusts, None, "IP address mismatch"),
            (trusts, "another.example", "ostname mismatch"),
            (duped, "kubernetes.default.svc", "self.signed|unable to get local issuer"),
            (stranger, "kubernetes.default.svc", "alert|closed|lost"),
        ):
            server = Server(OK)
            async with exchanging(server, shows=shows, trusts=trusted, name=name) as exchanges:
                with pytest.raises(OSError, match=error):
                    await ask(exchanges)
            assert server.heads == []

    run(test)


def test_a_server_that_does_not_shake_hands_is_given_up(run: Run) -> None:
    async def test() -> None:
        async with exchanging(Server(), trusts=ssl.create_default_context()) as exchanges:
            with pytest.raises(TimeoutError, match=r"no connection within 0\.1 s"):
                await ask(exchanges, connect=0.1)

    run(test)


def test_a_server_that_is_not_there_is_an_error_until_it_is(run: Run) -> None:
    async def test() -> None:
        listening = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        listening.close()
        await listening.wait_closed()
        exchanges = Exchanges(f"http://127.0.0.1:{port}", ssl.create_default_context(), None, 1)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await ask(exchanges)
        async with await asyncio.start_server(Server(OK).serve, "127.0.0.1", port):
            assert (await ask(exchanges)).status == 200
            exchanges.close()

    run(test)


def test_each_request_has_the_token_of_now_and_one_that_is_no_line_is_not_sent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def test() -> None:
        server = Server(OK, OK)
        async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
            access = Configuration(host=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
            access.proxy = None
            connections = Connections(access, 1)
            for token in ("Bearer first", "Bearer second", "Bearer third\r\nX-Remote-User: admin"):
                access.api_key["BearerToken"] = token
                if token.isprintable():
                    await connections.send("GET", "/version", None, "application/json", connect=LONG, total=LONG)
            with pytest.raises(ConnectionError) as caught:
                await connections.send("GET", "/version", None, "application/json", connect=LONG, total=LONG)
            await connections.close()
        assert "third" not in str(caught.value)
        assert [b"Authorization: Bearer first\r\n" in head for head in server.heads] == [True, False]
        assert [b"Authorization: Bearer second\r\n" in head for head in server.heads] == [False, True]

    run(test)
