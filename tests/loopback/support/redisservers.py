"""Real Redis servers: one alone, a master and a replica under Sentinels, and a Cluster of three."""

import subprocess
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.bench.tools import program

from .ports import free_ports
from .waiting import eventually

HOST = "127.0.0.1"
MASTER = "sessions"


class Server:
    """One process; `stop` kills it, `start` starts it again at the same port."""

    def __init__(self, directory: Path, *options: str, port: int = 0) -> None:
        self.port = port or free_ports(1)[0]
        self._directory = directory / str(self.port)
        self._directory.mkdir(parents=True)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [program("redis-server"), *self._leading(), "--port", str(self.port), "--bind", HOST]
        kept = ["--save", "", "--dir", str(self._directory), "--daemonize", "no", *self._options]
        self._process = subprocess.Popen([*words, *kept], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            eventually(self._answers, within=10)
        except BaseException:
            self.stop()
            raise

    def _leading(self) -> list[str]:
        return []

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    def client(self, **options: Any) -> "Redis":
        """A client of it."""
        return Redis(HOST, self.port, socket_timeout=5, **options)

    def command(self, *words: Any) -> Any:
        """Run one command."""
        with self.client() as client:
            return client.execute_command(*words)

    def keys(self) -> list[bytes]:
        """All keys."""
        found: list[bytes] = self.command("KEYS", "*")
        return found

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class SentinelServer(Server):
    """A Sentinel that watches over a master; it keeps its state in its configuration file."""

    def __init__(self, directory: Path, master: Server) -> None:
        self._file = directory / f"sentinel-{master.port}-{len(list(directory.glob('sentinel-*')))}.conf"
        self._file.write_text(
            f"sentinel monitor {MASTER} {HOST} {master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 2000\n"
        )
        super().__init__(directory, "--sentinel")

    def _leading(self) -> list[str]:
        return [str(self._file)]


def cluster(directory: Path) -> list[Server]:
    """Three masters with a third of the slots each."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    ports = free_ports(3)
    bus = free_ports(3)
    servers = [
        Server(directory, *options, "--cluster-port", str(own), port=port) for port, own in zip(ports, bus, strict=True)
    ]
    for number, server in enumerate(servers):
        server.command("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(number * 5462 + 5461, 16383))
        for other, own in zip(ports, bus, strict=True):
            server.command("CLUSTER", "MEET", HOST, other, own)
    eventually(lambda: all(b"cluster_state:ok" in server.command("CLUSTER", "INFO") for server in servers), within=20)
    eventually(lambda: all(b"cluster_known_nodes:3" in s.command("CLUSTER", "INFO") for s in servers), within=20)
    return servers
