"""The operator's reader and a real sidecar: both ends of the status page speak the same language."""

import asyncio
import gzip
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nova_api import proxy
from nova_api.model import builtins, convert
from nova_api.proxy import Address, Admin, Outbound, ProxyConfig
from nova_operator.pods import PodView
from nova_operator.sidecars import SidecarReport
from nova_operator.sidecars_http import DEADLINE, LARGEST, HttpSidecars


def pod(uid: str, address: str | None) -> PodView:
    fields: dict[str, Any] = {"resource_version": "1", "ready": True, "leaving": False, "hash_annotation": ""}
    return PodView(name=uid, uid=uid, address=address, trouble=None, **fields)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def document(port: int, **changes: Any) -> bytes:
    loopback = Address(host="127.0.0.1", port=0)
    config = ProxyConfig(
        service="shop",
        outbound=(Outbound(name="auth", listen=loopback, upstream=Address(host="127.0.0.1", port=free_port())),),
        resolver="system",
        admin=Admin(status=Address(host="127.0.0.1", port=port), control=loopback),
    )
    return proxy.encode(convert(builtins(config) | changes, ProxyConfig))


async def report(reader: HttpSidecars) -> SidecarReport | None:
    return (await reader.read((pod("a", "127.0.0.1"),))).get("a")


async def report_with(reader: HttpSidecars, config_hash: str, *, refused: bool = False) -> SidecarReport:
    """Ask until a report has this hash and, or not, a refusal."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = await report(reader)
        if found is not None and found.config_hash == config_hash and (found.last_error is not None) is refused:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"no such report, the last was {await report(reader)}")


def test_the_operator_understands_what_a_sidecar_says(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "config.json"
    first, second = document(port), document(port, logLevel="warning")
    file.write_bytes(first)

    async def talk() -> None:
        reader = HttpSidecars(port)
        try:
            said = await report_with(reader, proxy.digest(first))
            assert said.breakers == {"auth": "closed"}
            assert said.traffic is not None
            assert (said.traffic.requests, len(said.traffic.durations)) == (0, len(said.traffic.bounds) + 1)
            nonsense = b'{"format": "nonsense"}'
            file.write_bytes(nonsense)
            refused = await report_with(reader, proxy.digest(first), refused=True)
            assert refused.last_error is not None
            assert (refused.last_error.field, bool(refused.last_error.rule)) == ("$.format", True)
            assert refused.last_error.hash == proxy.digest(nonsense)
            file.write_bytes(second)
            await report_with(reader, proxy.digest(second))
        finally:
            await reader.close()

    command = [sys.executable, "-m", "nova_sidecar.main", "--config", str(file)]
    sidecar = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        asyncio.run(talk())
    finally:
        sidecar.kill()
        sidecar.wait()


ANSWERS = {
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "not JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "another document": b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"\x00\x01\x02\r\n\r\n",
    "nothing": b"",
    "a breaker in no known state": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","breakers":{"a":"on fire"}}',
    "more breakers than a service can have": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","breakers":{'
    + b",".join(b'"u%d":"open"' % index for index in range(65))
    + b"}}",
    "a name longer than any": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","breakers":{"' + b"u" * 64 + b'":"open"}}',
    "more than is read": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","more":"' + b"x" * LARGEST + b'"}',
    "no UTF-8": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"\xff"}',
    "nested too deep": b'HTTP/1.1 200 OK\r\n\r\n{"more":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b'{"configHash":"x"}'),
    "durations without bounds": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","traffic":{"durations":[5]}}',
    "more requests than there are": b'HTTP/1.1 200 OK\r\n\r\n{"configHash":"x","traffic":{"requests":1'
    + b"0" * 30
    + b"}}",
    "half an answer": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"configHash": "x"',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_pod_that_is_no_sidecar_has_no_report(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader = HttpSidecars(server.sockets[0].getsockname()[1])
            try:
                assert await report(reader) is None
            finally:
                await reader.close()

    asyncio.run(ask())


def test_an_answer_in_pieces_is_read_whole() -> None:
    """A status that is longer than one segment arrives like this."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n{"configHash":"x"')
        await asyncio.wait_for(go_on.wait(), 5)
        writer.write(b',"breakers":{"a":"open"}}')
        writer.close()

    async def ask() -> SidecarReport | None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader = HttpSidecars(server.sockets[0].getsockname()[1])
            asking = asyncio.create_task(report(reader))
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            try:
                return await asking
            finally:
                await reader.close()

    found = asyncio.run(ask())
    assert found is not None
    assert (found.config_hash, found.breakers) == ("x", {"a": "open"})


def test_silent_and_absent_pods_cost_one_deadline_together() -> None:
    async def ask() -> float:
        with socket.socket() as silent:  # takes connections and never answers
            silent.bind(("0.0.0.0", 0))
            silent.listen(128)
            reader = HttpSidecars(silent.getsockname()[1])
            began = time.monotonic()
            try:
                pods = [pod(f"p{index}", f"127.77.9.{index}") for index in range(1, 21)]
                assert await reader.read((*pods, pod("pending", None))) == {}
            finally:
                await reader.close()
            return time.monotonic() - began

    assert DEADLINE <= asyncio.run(ask()) < 2 * DEADLINE
