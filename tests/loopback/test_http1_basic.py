"""`Proxy` inside this process, on both event loops: what the runtime around it relies on."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import closing
from random import Random
from typing import Any

import msgspec
import pytest
import uvloop

from nova_api.policies import TimeoutPolicy
from nova_api.proxy import Address, DrainPolicy, Inbound, Outbound, ProxyConfig
from nova_api.units import Duration
from nova_sidecar.pipeline.proxy import ListenError, Proxy
from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.transport.endpoints import Endpoint, Resolution

from .support.ports import free_ports

ANY = Address(host="127.0.0.1", port=0)
Scenario = Callable[["Bench"], Awaitable[None]]


class Bench:
    """An app that answers every request with the head it got, a proxy in front of it, and what the proxy logged."""

    def __init__(self, app: Endpoint) -> None:
        self.entries: list[AccessEntry] = []
        self.config = ProxyConfig(
            service="shop",
            inbound=(Inbound(name="http", listen=ANY, app=Address(host=app[0], port=app[1])),),
            outbound=(Outbound(name="db", listen=ANY, upstream=Address(host="db.example", port=app[1])),),
            drain=DrainPolicy(delay=Duration(0.05), timeout=Duration(5)),
        )
        self.proxy = Proxy(self.config, resolver=self, access_log=self, rng=Random(1))

    def record(self, entry: AccessEntry) -> None:
        self.entries.append(entry)

    async def resolve(self, host: str, port: int) -> Resolution:
        assert host == "db.example"
        return Resolution((("127.0.0.1", port),), 60.0)

    async def ask(
        self, address: Endpoint, text: bytes = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
    ) -> tuple[bytes, bytes]:
        """Head and body of the answer; the connection is closed after it."""
        reader, writer = await asyncio.open_connection(*address)
        with closing(writer):
            writer.write(text)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            return head, await reader.readexactly(int(length[15:]))


async def _app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if not head.startswith(b"GET /silent"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario with a started proxy."""

    async def scene(scenario: Scenario) -> None:
        server = await asyncio.start_server(_app, "127.0.0.1", 0)
        bench = Bench(server.sockets[0].getsockname()[:2])
        await bench.proxy.start()
        try:
            await scenario(bench)
        finally:
            await bench.proxy.close()
            server.close()

    def run_it(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(scene(scenario))

    return run_it


def test_both_directions(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        _, inbound = await bench.ask(bench.proxy.inbound_addresses["http"])
        head, outbound = await bench.ask(bench.proxy.outbound_addresses["db"])

        assert inbound.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nx-forwarded-for: 127.0.0.1\r\n")
        assert re.search(rb"\r\nx-nova-deadline-ms: (4\d\d\d|5000)\r\n", inbound)
        assert re.search(rb"\r\nx-nova-deadline-ms: (4\d\d\d|5000)\r\n", outbound)
        assert b"x-forwarded-for" not in outbound
        first, second = bench.entries
        assert (first.direction, first.path, first.status, first.bytes_out) == ("inbound", "/a", 200, len(inbound))
        assert (second.direction, second.name, second.attempts, second.reason) == ("outbound", "db", 1, "")
        assert second.correlation_id.encode() in head
        assert second.correlation_id.encode() in outbound
        assert bench.proxy.in_flight == 0

    run(scenario)


def test_a_configuration_that_cannot_listen_changes_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        before = bench.proxy.inbound_addresses["http"]
        taken = Address(host=before[0], port=before[1])
        more = Inbound(name="more", listen=ANY, app=bench.config.inbound[0].app)
        clash = Outbound(name="clash", listen=taken, upstream=bench.config.outbound[0].upstream)
        config = msgspec.structs.replace(bench.config, inbound=(*bench.config.inbound, more), outbound=(clash,))

        with pytest.raises(ListenError, match=r"^\$\.outbound\[0\]\.listen: expected a free address"):
            await bench.proxy.apply(config)

        assert bench.proxy.config is bench.config
        assert bench.proxy.inbound_addresses == {"http": before}
        assert set(bench.proxy.outbound_addresses) == {"db"}
        await bench.ask(before)

    run(scenario)


def test_one_address_for_two_is_refused(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        listen = Address(host="127.0.0.1", port=free_ports(1)[0])
        app = bench.config.inbound[0].app
        twice = tuple(Inbound(name=name, listen=listen, app=app) for name in ("one", "two"))

        with pytest.raises(ListenError, match=r"^\$\.inbound\[1\]\.listen: .* is listed twice"):
            await bench.proxy.apply(msgspec.structs.replace(bench.config, inbound=twice))

    run(scenario)


def test_what_stays_keeps_its_connections_and_what_goes_is_closed(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        gone = bench.proxy.outbound_addresses["db"]
        await bench.ask(bench.proxy.inbound_addresses["http"])
        await bench.proxy.apply(msgspec.structs.replace(bench.config, outbound=()))
        await bench.ask(bench.proxy.inbound_addresses["http"])

        assert bench.proxy.stats.port("inbound", "http").connections_opened == 1
        with pytest.raises(ConnectionRefusedError):
            await bench.ask(gone)

    run(scenario)


def test_deadlines_on_the_wheel(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        quick = TimeoutPolicy(request=Duration(0.1), attempt=Duration(0.1), connect=Duration(0.1))
        port = msgspec.structs.replace(bench.config.inbound[0], timeout=quick)
        await bench.proxy.apply(msgspec.structs.replace(bench.config, inbound=(port,)))

        head, _ = await bench.ask(bench.proxy.inbound_addresses["http"], b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"\r\nx-nova-reject: deadline_exceeded\r\n" in head
        assert 100 <= bench.entries[-1].duration_ms < 1000

    run(scenario)


def test_drain_closes_the_inbound_door_and_leaves_the_outbound_one_open(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        inbound, outbound = bench.proxy.inbound_addresses["http"], bench.proxy.outbound_addresses["db"]
        assert not await bench.proxy.drained(0)
        bench.proxy.begin_drain()
        bench.proxy.begin_drain()
        assert bench.proxy.draining
        head, _ = await bench.ask(inbound)
        assert b"\r\nconnection: close\r\n" in head

        assert await bench.proxy.drained(5)
        with pytest.raises(ConnectionRefusedError):
            await bench.ask(inbound)
        head, _ = await bench.ask(outbound)
        assert b"connection: close" not in head

    run(scenario)


def test_the_snapshot_is_plain_data(run: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask(bench.proxy.outbound_addresses["db"])
        shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(bench.proxy.snapshot(0.0)))

        assert shown["outbound"]["db"]["pool"]["idle"] == 1
        assert shown["outbound"]["db"]["breaker"]["state"] == "closed"
        assert shown["inbound"]["http"]["inFlight"] == 0
        assert shown["drain"] == "serving"

    run(scenario)
