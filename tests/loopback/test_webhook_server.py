"""The webhooks' port over real TLS: what it answers, what it does not, and that a new certificate costs no call."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from nova_operator.admission import server
from nova_operator.admission.certificates import Pair, make
from nova_operator.admission.review import Answer, Request
from nova_operator.admission.server import MAX_BODY, WebhookServer
from nova_operator.admission_metrics import AdmissionMetrics
from tests.crowd import CROWD

REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": {"kind": "Pod"}},
}
BODY = json.dumps(REVIEW).encode()
JSON = "Content-Type: application/json"


def pair() -> Pair:
    return make(("127.0.0.1",), datetime.now(UTC), timedelta(days=1))


async def yes(request: Request) -> Answer:
    return Answer(warnings=(f"{request.namespace} is seen",))


async def broken(_: Request) -> Answer:
    raise RuntimeError("the password is 123")


class Door:
    """A running server and how to speak to it."""

    def __init__(self, running: WebhookServer, port: int, registry: CollectorRegistry) -> None:
        self.server = running
        self.port = port
        self._registry = registry

    def samples(self) -> list[str]:
        return generate_latest(self._registry).decode().splitlines()

    @asynccontextmanager
    async def connection(self, *trusted: Pair) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        context = ssl.create_default_context(cadata=b"".join(one.authority for one in trusted).decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, trusted: Pair, head: str, body: bytes = b"") -> tuple[int, bytes, str]:
        """Status, body and head of the answer on a connection of its own."""
        async with self.connection(trusted) as (reader, writer):
            return await exchange(reader, writer, head, body)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes
) -> tuple[int, bytes, str]:
    writer.write(f"{head}\r\nHost: x\r\n\r\n".encode() + body)
    async with asyncio.timeout(10 * CROWD):
        answered = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in answered.lower().split("\r\n") if line.startswith("content-length:"))
        return int(answered.split(" ")[1]), await reader.readexactly(length), answered


async def ends(reader: asyncio.StreamReader) -> None:
    """The other side closes; a reset is an end, too."""
    async with asyncio.timeout(10 * CROWD):
        try:
            assert await reader.read() == b""
        except ConnectionError:
            return


def post(path: str, body: bytes, *fields: str) -> str:
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", *(fields or (JSON,))])


def served(test: Callable[[Door, Pair], Awaitable[None]], **bounds: Any) -> None:
    """Run a test against a server that wears a certificate."""

    async def run() -> None:
        registry = CollectorRegistry()
        hooks = {"/validate": ("novaservices", yes), "/inject": ("pods", broken)}
        running = WebhookServer(hooks, AdmissionMetrics(registry), **bounds)
        worn = pair()
        running.wear(worn)
        try:
            await test(Door(running, await running.start(0), registry), worn)
        finally:
            await running.stop()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # what the operator runs on
        runner.run(run())


def test_a_review_is_answered() -> None:
    async def test(door: Door, worn: Pair) -> None:
        status, body, head = await door.ask(worn, post("/validate", BODY), BODY)
        response = json.loads(body)["response"]
        assert (status, response) == (200, {"uid": "u-1", "allowed": True, "warnings": ["shop is seen"]})
        assert "Server: nova\r\n" in head
        counted = 'nova_operator_admission_requests_total{allowed="true",webhook="novaservices"} 1.0'
        assert counted in door.samples()

    served(test)


def test_a_review_of_the_largest_objects_is_answered() -> None:
    """An update has the object twice, and etcd takes 1.5 MiB of each."""
    large = {"kind": "NovaService", "spec": {"text": "x" * (3 * 512 * 1024)}}
    request = {"uid": "u-1", "operation": "UPDATE", "namespace": "shop", "object": large, "oldObject": large}
    review = json.dumps({**REVIEW, "request": request}).encode()

    async def test(door: Door, worn: Pair) -> None:
        assert (await door.ask(worn, post("/validate", review), review))[0] == 200

    served(test)


WRONG = [
    (404, post("/other", BODY), BODY),
    (405, f"GET /validate HTTP/1.1\r\n{JSON}", b""),
    (415, post("/validate", BODY, "Content-Type: text/plain"), BODY),
    (415, post("/validate", BODY, JSON, "Content-Encoding: gzip"), BODY),
    (411, f"POST /validate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{JSON}", b"0\r\n\r\n"),
    (413, f"POST /validate HTTP/1.1\r\nContent-Length: {MAX_BODY + 1}\r\n{JSON}", b""),
    (400, post("/validate", b"{}"), b"{}"),
    (400, "HELP / ME", b""),
    (400, "POST /validate HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6", b""),
]


@pytest.mark.parametrize(("status", "head", "body"), WRONG, ids=[str(status) for status, *_ in WRONG])
def test_what_is_no_review_gets_a_status_and_not_a_word(status: int, head: str, body: bytes) -> None:
    async def test(door: Door, worn: Pair) -> None:
        answered, said, head_of_it = await door.ask(worn, head, body)
        assert (answered, said) == (status, b"")
        assert "Server: nova\r\n" in head_of_it
        assert "nova_operator_admission_bad_requests_total 1.0" in door.samples()

    served(test)


def test_bodies_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is half sent takes its whole length from the others, until it is given up."""
    monkeypatch.setattr(server, "MAX_BODIES", len(BODY) + 10)

    async def test(door: Door, worn: Pair) -> None:
        async with door.connection(worn) as (reader, writer):
            writer.write(f"{post('/validate', BODY)}\r\nHost: x\r\n\r\n".encode() + BODY[:5])
            async with asyncio.timeout(10 * CROWD):
                while repr(door.server).endswith("bytes=0>"):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.01)
            assert (await door.ask(worn, post("/validate", BODY), BODY))[:2] == (503, b"")
            assert b" 408 " in await reader.readline()
        assert (await door.ask(worn, post("/validate", BODY), BODY))[0] == 200

    served(test, body_timeout=1.5)


def test_a_fault_of_ours_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    async def test(door: Door, worn: Pair) -> None:
        assert (await door.ask(worn, post("/inject", BODY), BODY))[:2] == (500, b"")
        assert 'nova_operator_admission_requests_total{allowed="error",webhook="pods"} 1.0' in door.samples()

        for _ in range(20):
            await door.ask(worn, post("/inject", BODY), BODY)

    served(test)
    assert capfd.readouterr().out.count("] review failed") == 10  # a line in a console has it again


@pytest.mark.parametrize("sent", [b"", b"POST /validate HTTP/1.1\r\nContent-Le"])
def test_who_does_not_send_a_head_is_left(sent: bytes) -> None:
    async def test(door: Door, worn: Pair) -> None:
        async with door.connection(worn) as (reader, writer):
            writer.write(sent)
            await ends(reader)

    served(test, head_timeout=0.3)


def test_who_does_not_send_a_body_is_left() -> None:
    async def test(door: Door, worn: Pair) -> None:
        async with door.connection(worn) as (reader, writer):
            assert (await exchange(reader, writer, post("/validate", BODY), BODY[:5]))[:2] == (408, b"")
            await ends(reader)
        assert repr(door.server).endswith("bytes=0>")

    served(test, body_timeout=0.3)


def test_who_does_not_shake_hands_is_left() -> None:
    async def test(door: Door, _: Pair) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await ends(reader)
        writer.close()

    served(test, head_timeout=0.3)


def test_one_connection_too_many_is_closed_and_a_place_that_is_left_is_free_again() -> None:
    async def test(door: Door, worn: Pair) -> None:
        async with door.connection(worn) as (reader, writer):
            assert (await exchange(reader, writer, post("/validate", BODY), BODY))[0] == 200
            async with door.connection(worn) as (late, _):
                await ends(late)
            assert (await exchange(reader, writer, post("/validate", BODY), BODY))[0] == 200
        async with asyncio.timeout(10 * CROWD):
            while True:
                try:
                    if (await door.ask(worn, post("/validate", BODY), BODY))[0] == 200:
                        return
                except (ConnectionError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.02)

    served(test, max_connections=1)


def test_a_new_certificate_costs_no_call() -> None:
    """Callers on old connections, and new ones all the time, while the certificate changes under them."""

    async def test(door: Door, old: Pair) -> None:
        new = pair()
        done = asyncio.Event()
        answered = asyncio.Semaphore(0)

        async def call_again_and_again() -> None:
            async with door.connection(old, new) as (reader, writer):
                while not done.is_set():
                    assert (await exchange(reader, writer, post("/validate", BODY), BODY))[0] == 200
                    async with door.connection(old, new) as fresh:
                        assert (await exchange(*fresh, post("/validate", BODY), BODY))[0] == 200
                    answered.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(call_again_and_again())
            for _ in range(20):
                await answered.acquire()
            door.server.wear(new)
            for _ in range(20):
                await answered.acquire()
            done.set()
        assert (await door.ask(new, post("/validate", BODY), BODY))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.ask(old, post("/validate", BODY), BODY)

    served(test)


def test_one_that_cannot_be_used_is_refused_and_the_old_one_stays() -> None:
    async def test(door: Door, worn: Pair) -> None:
        for wrong in (Pair(worn.certificate, pair().key, worn.authority), Pair(b"x", b"y", b"z")):
            with pytest.raises(ValueError, match="cannot be used"):
                door.server.wear(wrong)
        assert (await door.ask(worn, post("/validate", BODY), BODY))[0] == 200

    served(test)
