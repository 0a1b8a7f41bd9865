"""An outbox in a database of its own, and a relay as a process."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import asyncpg

from nova_data.outbox.installing import install
from tests.loopback.support.nursery import run
from tests.loopback.support.postgresserver import Server

T = TypeVar("T")


def command(*words: str, database: str = "") -> subprocess.CompletedProcess[str]:
    """Run `nova-data` to its end."""
    given = ["--database", database] if database else []
    return run("data", *words, *given, variables=os.environ, timeout=30)


def connected(url: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do something with a connection of asyncpg."""

    async def run() -> T:
        connection = await asyncpg.connect(url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def installed(server: Server, name: str) -> str:
    """The URL of a new database with an outbox."""
    server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    server.sql(f'CREATE DATABASE "{name}"')
    url = f"{server.url.rpartition('/')[0]}/{name}"
    connected(url, lambda connection: install(connection, lock_timeout=1.0, ahead=2))
    return url


class Relay:
    """A running `nova-data relay`. Its log lines are parsed as they come: each must be a JSON object."""

    def __init__(self, database: str, brokers: str, *words: str) -> None:
        given = ["--database", database, "--brokers", brokers, "--host", "127.0.0.1", "--port", "0", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nova_data.main", "relay", *given], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.lines: list[dict[str, Any]] = []
        self._coming: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.line("listening")["address"].rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            self._coming.put(self.lines[-1])

    def line(self, event: str, within: float = 20.0) -> dict[str, Any]:
        """The next line with this event; earlier ones are dropped."""
        while True:
            try:
                line = self._coming.get(timeout=within)
            except queue.Empty:
                raise AssertionError(f"no line {event!r}; there were {self.lines[-8:]}") from None
            if line["event"] == event:
                return line

    def page(self, path: str) -> str:
        """One of its pages."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def metric(self, name: str) -> float:
        """The value of one series."""
        return next(
            float(line.rpartition(" ")[2]) for line in self.page("/metrics").splitlines() if line.startswith(name + " ")
        )

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self._over()

    def end(self) -> int:
        """End it as the kubelet does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._over()

    def _over(self) -> int:
        code = self.process.wait(timeout=30)
        self._reader.join(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def relaying(database: str, brokers: str, *words: str) -> Iterator[Relay]:
    """A relay while the block runs; it must leave in order."""
    relay = Relay(database, brokers, *words)
    try:
        yield relay
    except BaseException:
        relay.kill()
        raise
    assert relay.end() == 0, relay.lines[-5:]
