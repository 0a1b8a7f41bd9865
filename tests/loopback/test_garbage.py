"""Connections that cannot be opened leave nothing for the garbage collector, which runs seldom (runtime.py)."""

import asyncio
import gc
from typing import Any

import pytest

from nova_sidecar.runtime import loop_factory
from nova_sidecar.transport.connector import Connector
from nova_sidecar.transport.opening import Opening
from nova_sidecar.transport.tls import TlsStats

from .support.ports import free_ports

TIMES = 50


class Connection(asyncio.Protocol):
    """One that never comes to be."""

    transport: Any = None
    close_reason = None
    name = "refused"

    def __init__(self, port: int) -> None:
        self.endpoint = ("127.0.0.1", port)
        self.seat = "a seat"

    def connection_lost(self, exc: Exception | None) -> None:
        raise AssertionError("it was never made")


class Pool:
    """Of one endpoint, or of some that are tried in turn."""

    def __init__(self, endpoints: int) -> None:
        self.endpoints = ("a seat",) * endpoints

    def another(self, tried: list[str]) -> str | None:
        return "a seat" if len(tried) < len(self.endpoints) else None

    def drop(self, _: object) -> None:
        pass


class Opener:
    """What an opening asks of its dispatcher."""

    def __init__(self, port: int, endpoints: int) -> None:
        self.connector = Connector(timeout=5, tls=None, alpn=None, stats=TlsStats())
        self.port = port
        self.pool = Pool(endpoints)
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fresh(self, _: object) -> Connection:
        return Connection(self.port)

    def connect_failed(self, _: object, *, blame: bool) -> None:
        assert blame

    def settled(self, _: object, connection: object, why: str) -> None:
        assert connection is None
        self.over.set_result(why)


async def refused(port: int, endpoints: int) -> None:
    for _ in range(TIMES):
        opener = Opener(port, endpoints)
        Opening(opener, "a seat", wanted="somebody")  # type: ignore[arg-type, type-var]  # as much of a dispatcher as it asks
        assert "Connection refused" in await opener.over


@pytest.mark.parametrize("endpoints", [1, 2])
def test_refused_connections_are_freed_at_once(endpoints: int) -> None:
    (port,) = free_ports(1)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(refused(port, endpoints))  # what is made once, in the first run
        gc.collect()
        gc.disable()
        try:
            runner.run(refused(port, endpoints))
            left = gc.collect()
        finally:
            gc.enable()
    assert left < TIMES, f"{left / TIMES:.1f} objects for each connection that was refused"
