"""Servers that outlive the command which started them, on free ports that stay theirs."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from nova_cli.cluster.cache import write_atomically
from nova_cli.cluster.process import ProcessRecord, spawn, wait_until
from nova_cli.console import Console
from nova_cli.errors import CommandError
from nova_cli.services import kafka, postgres, redis

GRACE: Final = 15.0
"""Seconds for a server to end."""
START_SECONDS: Final = 180.0
"""Seconds for a server to answer; one that ends is noticed at once. Kafka takes 4 s, and minutes where fifty others
want the processor."""
STATE: Final = "services.json"


class State(msgspec.Struct, kw_only=True, forbid_unknown_fields=False):
    """Written after every start, before anything else may fail."""

    ports: dict[str, int] = {}
    processes: dict[str, ProcessRecord] = {}


@dataclass(frozen=True)
class Server:
    """One of the three. `ready` gets the number of bytes that its log had before the start."""

    name: str
    variable: str
    """What apps and tools call its URL in their environment."""
    url: Callable[[int], str]
    prepare: Callable[[Path, int, int, Console], None]
    command: Callable[[Path, int, Console], list[str]]
    ready: Callable[[Path, int, int], bool]
    end: signal.Signals = signal.SIGTERM
    """What asks it to end."""


SERVERS: Final = (
    Server(
        "postgres",
        "DATABASE_URL",
        postgres.url,
        lambda folder, _port, _second, _console: postgres.prepare(folder),
        lambda folder, port, _console: postgres.command(folder, port),
        lambda _log, _since, port: postgres.ready(port),
        postgres.END,
    ),
    Server(
        "redis",
        "REDIS_URL",
        redis.url,
        lambda folder, _port, _second, _console: redis.prepare(folder),
        lambda folder, port, _console: redis.command(folder, port),
        lambda _log, _since, port: redis.ready(port),
    ),
    Server(
        "kafka",
        "KAFKA_BROKERS",
        "127.0.0.1:{}".format,
        lambda folder, port, second, console: kafka.prepare(folder, port=port, controller=second, console=console),
        lambda folder, _port, console: kafka.command(folder, console),
        lambda log, since, _port: kafka.ready(log, since),
    ),
)


def up(folder: Path, server: Server, console: Console) -> str:
    """Start it, unless it runs, and wait until it answers; returns its URL. Raises CommandError."""
    state = load(folder)
    home = folder / server.name
    port, second = _ports(state, server.name)
    record = state.processes.get(server.name)
    if record is None or not record.alive():
        with console.step(f"start {server.name}"):
            server.prepare(home, port, second, console)
            log = folder / f"{server.name}.log"
            log.touch()
            since = log.stat().st_size
            record = spawn(server.command(home, port, console), log)
            state.processes[server.name] = record
            save(folder, state)
            started = record
            wait_until(lambda: not started.alive() or server.ready(log, since, port), START_SECONDS, every=0.1)
            if not started.alive():
                raise CommandError(f"{server.name} did not start; {log} says why")
            if not server.ready(log, since, port):
                started.stop(GRACE, server.end)
                raise CommandError(
                    f"{server.name} did not answer within {START_SECONDS:g} s, and was stopped; see {log}"
                )
    return server.url(port)


def down(folder: Path, server: Server) -> bool:
    """Stop it; whether it ran. Its data stay."""
    state = load(folder)
    record = state.processes.pop(server.name, None)
    was = record is not None and record.alive()
    if record is not None:
        record.stop(GRACE, server.end)
        save(folder, state)
    return was


def forget(folder: Path, server: Server) -> None:
    """Remove the data and the log of one that does not run; it gets other ports the next time."""
    state = load(folder)
    for name in (server.name, f"{server.name}-internal"):
        state.ports.pop(name, None)
    save(folder, state)
    shutil.rmtree(folder / server.name, ignore_errors=True)
    (folder / f"{server.name}.log").unlink(missing_ok=True)


def running(folder: Path, server: Server) -> str | None:
    """Its URL, where it runs."""
    state = load(folder)
    record = state.processes.get(server.name)
    return server.url(state.ports[server.name]) if record is not None and record.alive() else None


def load(folder: Path) -> State:
    """What is known of the servers in a folder."""
    try:
        return msgspec.json.decode((folder / STATE).read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return State()


def save(folder: Path, state: State) -> None:
    """Write it down."""
    write_atomically(folder / STATE, msgspec.json.encode(state).decode() + "\n")


def _ports(state: State, name: str) -> tuple[int, int]:
    """Two ports that this server keeps, the second for talks of its own."""
    for wanted in (name, f"{name}-internal"):
        if wanted not in state.ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                state.ports[wanted] = probe.getsockname()[1]
    return state.ports[name], state.ports[f"{name}-internal"]
