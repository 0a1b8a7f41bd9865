"""The sidecar as a process: started from a document, asked over its admin surfaces, read through its log."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from nova_api.policies import AccessLogPolicy, BackpressurePolicy, PoolPolicy
from nova_api.proxy import Address, Admin, DrainPolicy, Inbound, Outbound, ProxyConfig, encode
from nova_api.units import Duration

from .nameserver import NameServer
from .nursery import Child, environment, forks, nursery
from .peer import Peer
from .ports import free_ports
from .waiting import eventually

S = TypeVar("S", bound=msgspec.Struct)

COMMAND = Path(sysconfig.get_path("scripts")) / "nova-sidecar"
_RESOLVING = Path(__file__).with_name("resolving.py")
START_SECONDS = 15.0

ONCE = PoolPolicy(max_requests=1)
"""A pool that reuses nothing: each request comes to the app on a connection of its own."""


def inbound(app: tuple[str, int], name: str = "web", **fields: Any) -> Inbound:
    """A listener on a free port that forwards to `app`."""
    port = free_ports(1)[0]
    return Inbound(name=name, listen=Address(host="127.0.0.1", port=port), app=_address(app), **fields)


def outbound(upstream: tuple[str, int], name: str = "db", **fields: Any) -> Outbound:
    """A listener on a free port that forwards to `upstream`."""
    port = free_ports(1)[0]
    return Outbound(name=name, listen=Address(host="127.0.0.1", port=port), upstream=_address(upstream), **fields)


def document(*listeners: Inbound | Outbound, **fields: Any) -> ProxyConfig:
    """A complete document around these listeners, on free admin ports, draining without delay."""
    status, control = free_ports(2)
    defaults: dict[str, Any] = {
        "service": "shop",
        "resolver": "system",
        "admin": Admin(status=Address(host="127.0.0.1", port=status), control=Address(host="127.0.0.1", port=control)),
        "drain": DrainPolicy(delay=Duration(0), timeout=Duration(5)),
        "backpressure": BackpressurePolicy(),
        "access_log": AccessLogPolicy(),
        "inbound": tuple(each for each in listeners if isinstance(each, Inbound)),
        "outbound": tuple(each for each in listeners if isinstance(each, Outbound)),
    }
    return ProxyConfig(**(defaults | fields))


class Sidecar:
    """A running `nova-sidecar`. Use `start`; `stop` ends it and returns its exit code."""

    def __init__(
        self,
        config: ProxyConfig,
        directory: Path,
        name_server: NameServer | None = None,
        *,
        text: bytes | None = None,
    ) -> None:
        self.config = config
        self._clients: list[Peer] = []
        self._file = directory / "config.json"
        self._log = directory / "sidecar.log"
        self._write(encode(config) if text is None else text)
        port = [] if name_server is None else [str(name_server.port)]
        arguments = [*port, "--config", self._file]
        with self._log.open("wb") as log:
            if forks():
                self.process: subprocess.Popen[bytes] | Child = nursery("sidecar").born(
                    arguments, log.fileno(), cwd=directory
                )
                return
            self.process = subprocess.Popen(
                [*([sys.executable, _RESOLVING] if port else [COMMAND]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment(),
            )

    @classmethod
    def start(
        cls,
        config: ProxyConfig,
        directory: Path,
        name_server: NameServer | None = None,
        *,
        text: bytes | None = None,
    ) -> "Sidecar":
        """Start the process and wait until it is ready. It asks this name server where one is given; `text` stands in
        its file in place of what it is expected to run."""
        sidecar = cls(config, directory, name_server, text=text)
        sidecar.wait_until_ready()
        return sidecar

    def wait_until_ready(self, within: float = START_SECONDS) -> None:
        """Wait until the process serves; one that does not is killed."""
        try:
            eventually(self._is_ready, within=within)
        except BaseException:
            self.kill()
            raise

    def __repr__(self) -> str:
        return f"<Sidecar pid {self.process.pid} exit {self.process.poll()}>\n{self.text[-4000:]}"

    # traffic

    def address(self, name: str | None = None) -> tuple[str, int]:
        """Where the listener of that name is; without a name, the first one."""
        listeners = [*self.config.inbound, *self.config.outbound]
        chosen = next(each for each in listeners if name in {None, each.name})
        return chosen.listen.host, chosen.listen.port

    def connect(self, name: str | None = None, *, receive_buffer: int | None = None) -> Peer:
        """Connect a client to a listener; it is closed with the sidecar at the latest."""
        self._clients.append(Peer.connect(self.address(name), receive_buffer=receive_buffer))
        return self._clients[-1]

    # admin surfaces

    def status(self, path: str) -> tuple[int, bytes]:
        """GET from the status surface."""
        return _http(self.config.admin.status, "GET", path)

    def control(self, method: str, path: str) -> tuple[int, bytes]:
        """Ask the control surface."""
        return _http(self.config.admin.control, method, path)

    def stats(self) -> dict[str, Any]:
        """What /stats shows."""
        code, body = self.control("GET", "/stats")
        assert code == 200, body
        stats: dict[str, Any] = json.loads(body)
        return stats

    @property
    def waiting(self) -> int:
        """Requests that wait for a place at the app."""
        count: int = self.stats()["limiter"]["waiting"]
        return count

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name which carry these labels; no such sample is a failure."""
        code, body = self.status("/metrics")
        if code != 200:
            raise RuntimeError(f"/metrics answers {code}: {body!r}")  # waiting for it would not help
        found = [
            sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"no sample {name} {labels}"
        return sum(found)

    # the document

    def reload(self, config: ProxyConfig) -> None:
        """Replace the document, as a mounted ConfigMap is replaced: by a rename."""
        self.config = config
        self._write(encode(config))

    def reload_text(self, text: bytes) -> None:
        """Replace the document by any bytes."""
        self._write(text)

    # log

    @property
    def text(self) -> str:
        """Everything the process has written."""
        return self._log.read_text(errors="replace")

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every complete line of the log; a line that is not JSON is a failure."""
        lines = []
        for line in self.text.splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            try:
                lines.append(json.loads(line))
            except ValueError:
                raise AssertionError(f"not JSON: {line!r} in\n{self.text[-4000:]}") from None
        return lines

    def complaints(self) -> list[str]:
        """Lines that no test may leave behind: tracebacks, warnings of Python and errors."""
        return [
            line
            for line in self.text.splitlines()
            if "Traceback" in line or "Warning:" in line or not line.startswith("{") or '"level":"error"' in line
        ]

    # the process

    @property
    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def sockets(self) -> int:
        """Open sockets."""
        links = 0
        for entry in os.scandir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links += os.readlink(entry.path).startswith("socket:")
        return links

    @property
    def descriptors(self) -> int:
        """Open file descriptors of any kind."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, within: float = 10.0) -> int:
        """Exit code, within so many seconds."""
        return self.process.wait(within)

    def stop(self) -> int:
        """End it in order; a process that does not leave is killed and fails the test."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it now."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with {self.process.returncode}:\n{self.text}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.status("/readyz")[0] == 200
        return False

    def _write(self, text: bytes) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(text)
        fresh.rename(self._file)


def run_once(document_text: bytes, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the command on a document that it refuses; returns when it has exited."""
    file = directory / "config.json"
    file.write_bytes(document_text)
    return subprocess.run([COMMAND, "--config", file], capture_output=True, text=True, timeout=15, check=False)


def with_fields(config: S, **fields: Any) -> S:
    """A document, or a part of one, with some fields replaced."""
    return msgspec.structs.replace(config, **fields)


def _address(pair: tuple[str, int]) -> Address:
    return Address(host=pair[0], port=pair[1])


def _http(address: Address, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
