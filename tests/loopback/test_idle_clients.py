"""Clients that stay and say nothing: the data path in this process, with a clock that leaps."""

import asyncio
import time
from random import Random

import pytest

from nova_api.policies import TimeoutPolicy
from nova_api.units import Duration
from nova_sidecar.pipeline.proxy import Proxy
from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.transport.downstream import KEEP_ALIVE_TIMEOUT
from nova_sidecar.transport.endpoints import Resolution
from tests.crowd import CROWD

from .support.message import request, response
from .support.sidecar import ONCE, document, inbound

PATIENCE = 10.0 * CROWD


class Unasked:
    """Resolver and access log of a proxy that needs neither."""

    async def resolve(self, host: str, port: int) -> Resolution:
        raise AssertionError(host)

    def record(self, entry: AccessEntry) -> None:
        pass


@pytest.mark.parametrize("deadline", ["x-nova-deadline-ms: 50", "x-nova-deadline-ms: 900"])
def test_an_idle_client_is_closed_after_its_request_was_answered_or_ran_out_of_time(deadline: str) -> None:
    asyncio.run(_idle(deadline, answered=deadline.endswith("900")))


async def _idle(deadline: str, *, answered: bool) -> None:
    leap = 0.0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answered:
            writer.write(response())
        await reader.read()
        writer.close()

    app = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = inbound(app.sockets[0].getsockname()[:2], timeout=TimeoutPolicy(request=Duration(1)), pool=ONCE)
    unasked = Unasked()
    proxy = Proxy(
        document(port), resolver=unasked, access_log=unasked, rng=Random(1), clock=lambda: time.monotonic() + leap
    )
    await proxy.start()
    reader, writer = await asyncio.open_connection(*proxy.inbound_addresses["web"])
    try:
        writer.write(request("GET", "/", deadline))
        async with asyncio.timeout(PATIENCE):
            status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
            assert status == (200 if answered else 504)
            leap = KEEP_ALIVE_TIMEOUT + 1
            await reader.read()  # what is left of the answer, and the end of the connection
    finally:
        writer.close()
        await proxy.close()
        app.close()
