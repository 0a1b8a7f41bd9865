"""After a hundred thousand calls, of which many end badly, nothing of them is left."""

import contextlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nova_api.policies import AccessLogPolicy, BreakerPolicy, PoolPolicy, TimeoutPolicy
from nova_api.units import Duration, Share
from tests.bench.tools import Unavailable, program

from .conftest import StartSidecar
from .support.http2 import END_HEADERS, HEADERS, End, frame, grpc_fields, request_fields, rst
from .support.peer import Peer
from .support.ports import free_ports
from .support.sidecar import document, inbound, outbound
from .support.waiting import eventually

SHORT = PoolPolicy(idle_timeout=Duration(0.2), jitter=Share(0))
THREADS = 4
FAULTS = 60
"""Calls on one connection of which none ends well."""


@contextlib.contextmanager
def nghttpd(port: int, pages: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers at once; killed at the end."""
    with subprocess.Popen([program("nghttpd"), "--no-tls", "-d", str(pages), str(port)]) as process:
        try:
            eventually(lambda: _listens(port))
            yield process
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        Peer.connect(("127.0.0.1", port)).close()
        return True
    return False


def good(address: tuple[str, int], calls: int) -> None:
    """Calls that should end well; how they end where the server restarts does not matter here."""
    command = ["h2load", "-n", str(calls), "-c", "4", "-m", "25", f"http://127.0.0.1:{address[1]}/page"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert f"{calls} done" in done.stdout, done.stdout + done.stderr


def bad(address: tuple[str, int], connections: int) -> int:
    """Calls that are reset, abandoned, malformed, out of time or left half said; returns how many."""
    for turn in range(connections):
        client = End(Peer.connect(address), client=True)
        for number in range(1, 2 * FAULTS, 2):
            kind = number // 2 % 5
            if kind == 0:
                client.headers(number, request_fields("/page", "POST"))
                client.peer.send_if_open(rst(number))
            elif kind == 1:
                client.headers(number, grpc_fields(extra=[("grpc-timeout", "1n")]), end=True)
            elif kind == 2:
                client.headers(number, request_fields("/page", "POST", [("content-length", "9")]))
                client.data(number, b"x", end=True)
            elif kind == 3:
                client.headers(number, request_fields("/page", "POST"))
                client.data(number, b"x" * 10_000)
            else:
                client.headers(number, [*request_fields(), ("connection", "close")], end=True)
        client.in_step()
        if turn % 3 == 0:
            client.send(frame(HEADERS, END_HEADERS, 9999, b"\xff"))
        client.peer.reset() if turn % 2 else client.peer.close()
    return connections * FAULTS


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_hundred_thousand_calls_leave_nothing_behind(start: StartSidecar, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"x" * 100)
    port = free_ports(1)[0]
    app = ("127.0.0.1", port)
    try:
        program("h2load")
        program("nghttpd")
    except Unavailable as why:
        pytest.skip(str(why))
    quiet = {"circuit_breaker": BreakerPolicy(mode="Shadow"), "timeout": TimeoutPolicy(request=Duration(5))}
    sidecar = start(
        document(
            inbound(app, protocol="grpc", pool=SHORT),
            outbound(app, protocol="grpc", pool=SHORT, **quiet),
            access_log=AccessLogPolicy(mode="Off"),
        )
    )
    sockets = sidecar.sockets

    def traffic(calls: int, connections: int, restarts: int) -> None:
        addresses = [sidecar.address(name) for name in ("web", "db")]
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in range(restarts + 1):
                with nghttpd(port, tmp_path):
                    running = [pool.submit(good, address, calls // 2 // (restarts + 1)) for address in addresses]
                    faults = [pool.submit(bad, address, connections // 2 // (restarts + 1)) for address in addresses]
                    for each in (*running, *faults):
                        each.result()
                    last = [pool.submit(bad, address, 2) for address in addresses]
                for each in last:  # the server is killed under these
                    with contextlib.suppress(AssertionError, OSError):
                        each.result()

    def nothing_left() -> bool:
        ports = sidecar.stats()
        left = [
            (port["inFlight"], port["pool"]["open"], port["pool"]["streams"], port["pool"]["waiting"])
            for port in (ports["inbound"]["web"], ports["outbound"]["db"])
        ]
        return (
            left == [(0, 0, 0, 0)] * 2
            and sidecar.metric("nova_limiter_in_flight") == 0
            and sidecar.metric("nova_downstream_connections") == 0
            and sidecar.sockets <= sockets
        )

    traffic(calls=10_000, connections=40, restarts=0)
    eventually(nothing_left, within=20)
    settled = sidecar.rss
    traffic(calls=80_000, connections=160, restarts=3)
    eventually(nothing_left, within=20)
    assert sidecar.metric("nova_requests_total") >= 100_000
    assert sidecar.rss - settled < 12 << 20
    opened = sidecar.metric("nova_connections_opened_total")
    assert opened == sidecar.metric("nova_connections_closed_total")
