"""Real Redis servers: one alone, a master and a replica under Sentinels, and a Cluster of three. Where there is no
redis-server, tests that start one are skipped."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.bench.tools import Unavailable, program

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
        try:
            installed = program("redis-server")
        except Unavailable as why:
            pytest.skip(str(why))
        words = [installed, *self._leading(), "--port", str(self.port), "--bind", HOST]
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


def replica_of(directory: Path, master: Server) -> Server:
    """A further server of a Cluster, which takes over when the master dies."""
    port, own = free_ports(2)
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    replica = Server(
        directory, *options, "--cluster-port", str(own), "--cluster-replica-validity-factor", "0", port=port
    )
    replica.command("CLUSTER", "MEET", HOST, master.port, _bus(master))
    name = node_name(master)
    eventually(lambda: name in _text(replica.command("CLUSTER", "NODES")), within=20)
    replica.command("CLUSTER", "REPLICATE", name)
    eventually(lambda: replica.command("INFO", "replication").get("master_link_status") == "up", within=20)
    return replica


def node_name(server: Server) -> str:
    """What a server of a Cluster is called in it."""
    return _text(server.command("CLUSTER", "MYID"))


def move_slots(source: Server, target: Server, others: list[Server], slots: list[int]) -> int:
    """Move slots with their keys from one server of a Cluster to another, as `redis-cli --cluster reshard` does, and
    return how many keys moved. Half-way through, clients are answered ASK, and MOVED afterwards.

    https://redis.io/docs/latest/commands/cluster-setslot/
    """
    moved = 0
    for slot in slots:
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_name(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_name(target))
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 2):
            source.command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        for server in (target, source, *others):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", node_name(target))
    return moved


def _bus(server: Server) -> int:
    """The port that a server of a Cluster speaks to the others at."""
    line = next(line for line in _text(server.command("CLUSTER", "NODES")).splitlines() if "myself" in line)
    return int(line.split()[1].split("@")[1].split(",")[0])


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer
