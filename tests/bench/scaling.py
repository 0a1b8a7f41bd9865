"""What a request costs while something else grows: connections, upstreams, endpoints, tenants.

    python -m tests.bench.scaling OUTPUT PYTHON [--pure]

The sidecar alone, CPU time per request at full load; the growing thing only stands there or takes its turn. It runs in
a network and a mount view of its own (`isolated`), because upstreams need as many addresses and endpoints need a
name server at its usual port. A ConfigMap holds 1 MiB, hence 400 upstreams at most (a NovaService may have 64), and one
DNS message 64 KiB, hence 3000 endpoints.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from nova_api import proxy
from nova_api.proxy import Address, Inbound, Outbound, ProxyConfig
from nova_api.request_policies.tenancy import TenancyPolicy
from tests.loopback.support.nameserver import NameServer, Question, Record, reply

from . import load, proxies, tools
from .machine import Cores, Meter
from .processes import Address as Place
from .processes import free_ports, running, wait_until_serving

STEPS: Mapping[str, tuple[int, ...]] = {
    "connections": (1, 100, 10_000),
    "upstreams": (1, 100, 400),
    "endpoints": (1, 100, 3_000),
    "tenants": (1, 100, 10_000),
}
_SIZE = 100
_PATH = f"/{_SIZE}"
_CONNECTIONS = 32
_ROUNDS = 3
_SECONDS = 2
_NAME = "m.t"
_TENANTS = Path(__file__).with_name("tenants.lua")
_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def isolated(python: tools.Interpreter, output: Path) -> dict[str, dict[str, float]]:
    """Run this module apart from the machine's network; returns CPU µs per request by dimension and number.

    Raises:
        tools.Unavailable: this user may not make a network of its own, or the run failed.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        raise tools.Unavailable("a network of its own needs root and unshare")
    command = [unshare, "--net", "--mount", sys.executable, "-m", __package__ + ".scaling", str(output), python.path]
    command += [] if python.compiled else ["--pure"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=False)
    if done.returncode:
        raise tools.Unavailable(f"the run in its own network ended with {done.returncode}")
    found: dict[str, dict[str, float]] = json.loads(output.read_text())
    return found


def main(arguments: list[str]) -> None:
    output, python, *pure = arguments
    _loopback_up()
    interpreter = tools.interpreter(python).with_build(pure=bool(pure))
    with tempfile.TemporaryDirectory(prefix="nova-scaling-") as temporary:
        folder = Path(temporary)
        found = {name: _dimension(name, folder, interpreter) for name in STEPS}
    Path(output).write_text(json.dumps(found, indent=2) + "\n")


def _loopback_up() -> None:
    """A new network has a loopback device that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


def _dimension(name: str, folder: Path, python: tools.Interpreter) -> dict[str, float]:
    """CPU µs per request for each step; the steps take turns, so that a change of the machine meets all alike."""
    cores = Cores.choose()
    with contextlib.ExitStack() as stack:
        loads = {
            step: stack.enter_context(_DIMENSIONS[name](step, _folder(folder, f"{name}-{step}"), python, cores))
            for step in STEPS[name]
        }
        costs: dict[int, list[float]] = {step: [] for step in loads}
        for _ in range(_ROUNDS):
            for step, one in loads.items():
                costs[step].append(one())
    return {str(step): round(median(taken), 1) for step, taken in costs.items()}


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


Load = Callable[[], float]
"""One load; returns CPU µs per request."""


@contextlib.contextmanager
def _connections(step: int, folder: Path, python: tools.Interpreter, cores: Cores) -> Iterator[Load]:
    with (
        _upstream(folder, cores) as app,
        _sidecar(folder, python, cores, inbound=(_inbound(app),)) as one,
        load.idle(one.place, _PATH, step, cores.load),
    ):
        yield one.load


@contextlib.contextmanager
def _tenants(step: int, folder: Path, python: tools.Interpreter, cores: Cores) -> Iterator[Load]:
    with (
        _upstream(folder, cores) as app,
        _sidecar(folder, python, cores, inbound=(_inbound(app),), tenancy=TenancyPolicy(mode="Enforce")) as one,
    ):
        yield lambda: one.load("-s", str(_TENANTS), arguments=(str(step),))


@contextlib.contextmanager
def _upstreams(step: int, folder: Path, python: tools.Interpreter, cores: Cores) -> Iterator[Load]:
    with _upstream(folder, cores) as app:
        listeners = tuple(
            Outbound(
                name=f"upstream-{number}",
                listen=Address(host=f"127.78.{number >> 8}.{number & 255}", port=8000 + STEPS["upstreams"].index(step)),
                upstream=Address(host=app.host, port=app.port),
            )
            for number in range(step)
        )
        with _sidecar(folder, python, cores, outbound=listeners) as one:
            yield one.load


@contextlib.contextmanager
def _endpoints(step: int, folder: Path, python: tools.Interpreter, cores: Cores) -> Iterator[Load]:
    host = f"127.0.1.{STEPS['endpoints'].index(step) + 1}"
    addresses = [f"127.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}" for number in range(1, step + 1)]

    def answer(question: Question) -> bytes:
        if question.transport == "udp":
            return reply(question, truncated=True)
        records = [Record(question.name, "A", address, 300) for address in addresses]
        return reply(question, *(records if question.type == "A" else ()))

    server = NameServer(answer, host=host, port=53)
    (folder / "resolv.conf").write_text(f"nameserver {host}\n")
    subprocess.run(["mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf"], check=True, timeout=10)
    try:
        with _upstream(folder, cores, host="0.0.0.0") as app:  # every address of a network without a way out
            listener = Outbound(
                name="many",
                listen=Address(host="127.0.0.1", port=free_ports(1)[0]),
                upstream=Address(host=_NAME, port=app.port),
            )
            with _sidecar(folder, python, cores, outbound=(listener,), resolver="dns") as one:
                yield one.load
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True, timeout=10)
        server.close()


_DIMENSIONS: Mapping[str, Any] = {
    "connections": _connections,
    "upstreams": _upstreams,
    "endpoints": _endpoints,
    "tenants": _tenants,
}


def _inbound(app: Place) -> Inbound:
    listen = Address(host="127.0.0.1", port=free_ports(1)[0])
    return Inbound(name="http", listen=listen, app=Address(host=app.host, port=app.port))


@contextlib.contextmanager
def _upstream(folder: Path, cores: Cores, host: str = "127.0.0.1") -> Iterator[Place]:
    place = _folder(folder, "upstream")
    made = proxies.upstream(place, (_SIZE,), host=host)
    errors = place / "stderr"
    with running(made.command, core=cores.load, errors=errors) as process:
        address = Place("127.0.0.1", made.rows["direct"].port)
        wait_until_serving(address, _PATH, _SIZE, process, errors)
        yield address


class _Sidecar:
    """A sidecar at its first listener."""

    def __init__(self, place: Place, pid: int, cores: Cores) -> None:
        self.place = place
        self._pid = pid
        self._cores = cores
        self._wrk = tools.program("wrk")

    def load(self, *options: str, arguments: tuple[str, ...] = ()) -> float:
        """CPU µs per request at full load. Raises ConnectionError for a request that failed."""
        meter = Meter(self._pid, self._cores)
        answer = load.wrk(
            [self._wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", "--latency", *options],
            f"http://{self.place}{_PATH}",
            arguments,
            core=self._cores.load,
            seconds=_SECONDS,
        )
        usage = meter.stop()
        if answer.errors:
            raise ConnectionError(f"{answer.errors} of {answer.requests} requests failed")
        return usage.cpu_ns / 1e3 / answer.requests


@contextlib.contextmanager
def _sidecar(folder: Path, python: tools.Interpreter, cores: Cores, **fields: Any) -> Iterator[_Sidecar]:
    status, control = free_ports(2)
    admin = proxy.Admin(status=Address(host="127.0.0.1", port=status), control=Address(host="127.0.0.1", port=control))
    config = ProxyConfig(service="bench", admin=admin, **({"resolver": "system"} | fields))
    place = _folder(folder, "sidecar")
    (place / "config.json").write_bytes(proxy.encode(config))
    command = (*tools.sidecar(python), "--config", str(place / "config.json"))
    listen = (*config.inbound, *config.outbound)[0].listen
    address = Place(listen.host, listen.port)
    errors = place / "stderr"
    with running(command, core=cores.proxy, errors=errors) as process:
        wait_until_serving(address, _PATH, _SIZE, process, errors, seconds=60)
        yield _Sidecar(address, process.pid, cores)


if __name__ == "__main__":
    main(sys.argv[1:])
