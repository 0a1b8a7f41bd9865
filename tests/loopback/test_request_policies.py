"""What a request policy may do with an exchange: hold it, read it, answer it, watch it. Filters here are scripted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import pytest

from nova_api.policies import BackpressurePolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig
from nova_api.units import Duration
from nova_sidecar.pipeline import request_policies
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.wire.chunked import ChunkedReader
from nova_sidecar.wire.response import ResponseHead
from tests.crowd import CROWD

from .support.message import request, response
from .support.sidecar import document, inbound

PATIENCE: Final = 10.0 * CROWD
FROM_THE_APP: Final = response("200 OK", "connection: close", body=b"from the app")
CACHED: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n"

OnRequest = Callable[[ManagedExchange, float], Reject | Queued | None]


class Scripted(RequestFilter):
    """Does what the test says, and keeps what it sees."""

    def __init__(self, on_request: OnRequest) -> None:
        self._on_request = on_request
        self.complete: list[int] = []

    replaces = frozenset((b"x-trusted",))

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        assert isinstance(exchange, ManagedExchange)
        return self._on_request(exchange, now)

    def on_complete(self, exchange: Handled, now: float) -> None:
        self.complete.append(exchange.status)


class Seen:
    """A watcher's notes."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def on_head(self, head: ResponseHead) -> None:
        self.notes.append(head.status)

    def on_body(self, data: bytes) -> None:
        self.notes.append(data)

    def on_end(self, trailers: bytes) -> None:
        self.notes.append("end")

    def on_lost(self) -> None:
        self.notes.append("lost")


class Bench:
    """A proxy in front of an app, and a client."""

    def __init__(self, proxy: Proxy, received: list[bytes]) -> None:
        self.proxy = proxy
        self.received = received
        """What the app got, one entry for each request."""

    async def send(self, *parts: bytes, until: bytes = b"") -> bytes:
        """The answer to a request that closes its connection; parts go out one by one, the next once `until` came."""
        reader, writer = await asyncio.open_connection(*self.proxy.inbound_addresses["web"])
        try:
            first, *rest = parts
            writer.write(first)
            got = b""
            if until:
                got = await reader.readuntil(until)
            for part in rest:
                await writer.drain()
                writer.write(part)
            with contextlib.suppress(ConnectionResetError):  # how a response ends that cannot be finished
                while part := await reader.read(65536):
                    got += part
            return got
        finally:
            writer.close()


class _Unasked:
    def resolve(self, *_: Any) -> Any:
        raise AssertionError

    def record(self, _: Any) -> None:
        pass


@asynccontextmanager
async def bench(
    monkeypatch: pytest.MonkeyPatch,
    filters: dict[str, RequestFilter],
    answer: bytes = FROM_THE_APP,
    **fields: Any,
) -> AsyncIterator[Bench]:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(length[0]) if length else b""
        if b"chunked" in head.lower():
            body = await reader.readuntil(b"0\r\n\r\n")
        received.append(head + body)
        writer.write(answer)
        writer.close()

    for stage, one in filters.items():
        monkeypatch.setitem(request_policies.MAKERS, stage, lambda *_, one=one: one)
    app = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    port = inbound(app.sockets[0].getsockname()[:2], timeout=TimeoutPolicy(request=Duration(5)))
    config: ProxyConfig = document(port, **fields)
    unasked = _Unasked()
    proxy = Proxy(config, resolver=unasked, access_log=unasked, rng=Random(1))
    await proxy.start()
    try:
        yield Bench(proxy, received)
        assert proxy.in_flight == 0
    finally:
        await proxy.close()
        app.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(bounded())


GET: Final = request("GET", "/item", "connection: close")


def post(body: bytes, *fields: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return request("POST", "/item", "connection: close", f"content-length: {size}", *fields) + body


def test_a_held_exchange_goes_on_behind_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def note(name: str) -> OnRequest:
        return lambda _exchange, _now: order.append(name)

    def hold(exchange: ManagedExchange, now: float) -> Queued:
        order.append("jwt")
        exchange.hold(now)

        def then() -> None:
            assert exchange.waits
            exchange.trace += b"x-trusted: yes\r\n"
            exchange.go_on("jwt", exchange.port.clock())

        asyncio.get_running_loop().call_later(0.01, then)
        return QUEUED

    filters = {stage: Scripted(note(stage)) for stage in ("coalescing", "rate_limit", "tenancy")}
    filters["jwt"] = Scripted(hold)

    async def scene() -> None:
        async with bench(monkeypatch, filters) as at:
            got = await at.send(request("GET", "/", "connection: close", "X-Trusted: forged", "x-trusted: again"))
            assert b"from the app" in got
            assert at.received[0].lower().count(b"x-trusted") == 1
            assert b"x-trusted: yes\r\n" in at.received[0]
            assert at.proxy.limiter.snapshot()["inFlight"] == 0

    run(scene())
    assert order == ["rate_limit", "jwt", "tenancy", "coalescing"]
    assert [one.complete for one in filters.values()] == [[200]] * 4


def test_one_that_is_held_too_long_ends_with_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[ManagedExchange] = []

    def hold(exchange: ManagedExchange, now: float) -> Queued:
        held.append(exchange)
        exchange.hold(now)
        return QUEUED

    one = Scripted(hold)

    async def scene() -> None:
        async with bench(monkeypatch, {"jwt": one}) as at:
            got = await at.send(request("GET", "/", "connection: close", "x-nova-deadline-ms: 50"))
            assert got.startswith(b"HTTP/1.1 504 ")
            assert b"x-nova-reject: deadline_exceeded" in got
            assert not at.received

    run(scene())
    assert not held[0].waits
    assert one.complete == [504]


def test_a_client_that_leaves_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    there = asyncio.Event()

    def hold(exchange: ManagedExchange, now: float) -> Queued:
        exchange.watch(seen)
        exchange.hold(now)
        there.set()
        return QUEUED

    one = Scripted(hold)

    async def scene() -> None:
        async with bench(monkeypatch, {"cache": one}) as at:
            _, writer = await asyncio.open_connection(*at.proxy.inbound_addresses["web"])
            writer.write(GET)
            await there.wait()
            writer.transport.abort()
            while at.proxy.in_flight:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)

    run(scene())
    assert seen.notes == ["lost"]
    assert one.complete == [0]


@pytest.mark.parametrize("sent", [GET, post(b"unread"), request("HEAD", "/item", "connection: close")])
def test_an_answer_in_place_of_the_app(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    def answer(exchange: ManagedExchange, now: float) -> Queued:
        exchange.lines += b"cache-status: Nova; hit\r\n"
        exchange.answer(200, CACHED, b"cached", now)
        return QUEUED

    one = Scripted(answer)

    async def scene() -> None:
        async with bench(monkeypatch, {"cache": one}) as at:
            got = await at.send(sent)
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\ncache-status: Nova; hit" in head
            assert b"\r\nx-correlation-id: " in head
            assert body == (b"" if sent.startswith(b"HEAD") else b"cached")
            assert not at.received

    run(scene())
    assert one.complete == [200]


def test_connections_are_kept_over_answers_and_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    def turn(exchange: ManagedExchange, now: float) -> Reject | Queued | None:
        if exchange.head.path == "/no":
            return Reject(Reason.UNAUTHENTICATED, lines=b'www-authenticate: Bearer realm="shop"\r\n')
        if exchange.head.path == "/here":
            exchange.answer(200, CACHED, b"cached", now)
            return QUEUED
        exchange.lines += b"ratelimit: x\r\n"
        return None

    async def scene() -> None:
        async with bench(monkeypatch, {"jwt": Scripted(turn)}) as at:
            sent = request("GET", "/here") + request("GET", "/no") + request("GET", "/app", "connection: close")
            got = await at.send(sent)
            assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == [200, 401, 200]
            assert b'www-authenticate: Bearer realm="shop"\r\n' in got
            assert got.count(b"ratelimit: x\r\n") == 1

    run(scene())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response("200 OK", "connection: close", body=b"whole"), [200, b"whole", "end"]),
        (response("204 No Content", "connection: close", body=None), [204, "end"]),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            [200, b"abcde", "end"],
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", [200, b"to the end", "end"]),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", [200, b"short", "lost"]),
        (b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n", ["lost"]),
        (b"", ["lost"]),
    ],
)
def test_a_watcher_sees_the_response_and_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, expected: list[Any]
) -> None:
    seen = Seen()

    def watch(exchange: ManagedExchange, now: float) -> None:
        exchange.watch(seen)
        exchange.lines += b"added: by nova\r\n"

    async def scene() -> None:
        async with bench(monkeypatch, {"cache": Scripted(watch)}, answer) as at:
            assert b"added: by nova\r\n" in await at.send(GET)

    run(scene())
    content = b"".join(note for note in seen.notes if isinstance(note, bytes))
    assert [note for note in seen.notes if not isinstance(note, bytes)] == [
        note for note in expected if not isinstance(note, bytes)
    ]
    assert content == b"".join(note for note in expected if isinstance(note, bytes))


def content_of(message: bytes) -> bytes:
    """Free of chunking, which may change on the way."""
    head, _, rest = message.partition(b"\r\n\r\n")
    return b"".join(ChunkedReader().feed(rest)) if b"chunked" in head else rest


def reading(read: list[bytes | None], most: int = 100_000) -> OnRequest:
    def filter_(exchange: ManagedExchange, _now: float) -> Queued:
        def then(content: bytes | None) -> None:
            read.append(content)
            exchange.go_on("idempotency", exchange.port.clock())

        exchange.read_body(most, then)
        return QUEUED

    return filter_


BIG: Final = bytes(range(256)) * 380
CHUNKED_POST: Final = request("POST", "/", "connection: close", "transfer-encoding: chunked")


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((GET,), b""),
        ((post(b"at once"),), b"at once"),
        ((post(b"", length=8), b"in ", b"parts"), b"in parts"),
        ((post(BIG),), BIG),
        ((post(BIG + BIG),), None),
        ((post(b"", length=0),), b""),
        ((CHUNKED_POST + b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"), b"abcde"),
        ((CHUNKED_POST + b"1d4c0\r\n" + b"x" * 0x1D4C0 + b"\r\n", b"0\r\n\r\n"), None),
    ],
)
def test_content_is_read_before_and_reaches_the_app_unchanged(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...], content: bytes | None
) -> None:
    read: list[bytes | None] = []

    async def scene() -> None:
        async with bench(monkeypatch, {"idempotency": Scripted(reading(read))}) as at:
            assert b"from the app" in await at.send(*parts)
            assert content_of(at.received[0]) == content_of(b"".join(parts))

    run(scene())
    assert read == [content]


def test_a_client_that_waits_to_be_asked_for_its_content_is(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes | None] = []

    async def scene() -> None:
        async with bench(monkeypatch, {"idempotency": Scripted(reading(read))}) as at:
            head = post(b"", "expect: 100-continue", length=5)
            got = await at.send(head, b"hello", until=b"HTTP/1.1 100 Continue\r\n\r\n")
            assert got.count(b"HTTP/1.1 100") == 1
            assert b"from the app" in got

    run(scene())
    assert read == [b"hello"]


def test_content_that_breaks_http_is_refused_and_read_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes | None] = []

    async def scene() -> None:
        async with bench(monkeypatch, {"idempotency": Scripted(reading(read))}) as at:
            assert (await at.send(CHUNKED_POST + b"zz\r\n")).startswith(b"HTTP/1.1 400 ")
            assert not at.received

    run(scene())
    assert read == []


def test_who_was_held_waits_for_a_place_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes | None] = []
    full = BackpressurePolicy(max_concurrency=1, threshold=1.0, max_queue=0)

    async def scene() -> None:
        async with bench(monkeypatch, {"idempotency": Scripted(reading(read))}, backpressure=full) as at:
            answers = await asyncio.gather(*(at.send(post(b"x")) for _ in range(4)))
            refused = [json.loads(got.partition(b"\r\n\r\n")[2])["error"] for got in answers if b" 503 " in got]
            assert set(refused) <= {"queue_full"}
            assert len(at.received) + len(refused) == 4

    run(scene())
    assert read == [b"x"] * 4


def test_without_a_policy_there_is_no_managed_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(exchange: ManagedExchange, now: float) -> None:
        raise AssertionError

    one = Scripted(never)

    async def scene() -> None:
        async with bench(monkeypatch, {}) as at:
            assert b"from the app" in await at.send(GET)
            for port in at.proxy._ports.values():
                assert port._exchange.__name__ == "Exchange"

    run(scene())
    assert one.complete == []
