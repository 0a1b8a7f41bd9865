"""A reference service as a process of its own, and how to talk to it."""

import http.client
import json
import os
import queue
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from tests.crowd import CROWD
from tests.loopback.support.nursery import Child, nursery

Line = dict[str, Any]
PATIENCE = 40.0
"""Seconds for a line: a crowded machine takes its time to start a process."""


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: Any


class Service:
    """A running service. Its log lines are parsed as they come: each must be a JSON object."""

    def __init__(self, process: Child, output: IO[bytes]) -> None:
        self.process = process
        self._output = output
        self.grpc_port = 0
        """Where it is asked by gRPC, 0 where it is not."""
        self.metrics_port = 0
        """Where its pages are, 0 where it has none."""
        self._lines: queue.Queue[Line] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = _port(self.line("listening"))

    def _read(self) -> None:
        for text in self._output:
            line = json.loads(text)
            if line["event"] == "grpc listening":
                self.grpc_port = _port(line)
            elif line["event"] == "pages served":
                self.metrics_port = _port(line)
            self._lines.put(line)

    def line(self, event: str, **fields: Any) -> Line:
        """The next line with this event and these fields; earlier ones are dropped."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line["event"] == event and fields.items() <= line.items():
                return line

    def lines_until(self, event: str, **fields: Any) -> list[Line]:
        """All lines that were not looked at yet, up to the next one with this event and these fields."""
        found: list[Line] = []
        while not found or found[-1]["event"] != event or not fields.items() <= found[-1].items():
            found.append(self._lines.get(timeout=PATIENCE))
        return found

    def call(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own. Underscores in header names stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10 * CROWD)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, None if body is None else json.dumps(body), named)
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, _parse(text))
        finally:
            connection.close()

    def metric(self, series: str) -> float:
        """The value of a series, named as on the page of metrics. Raises AssertionError where it is not there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5 * CROWD) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{series} "):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(f"no series {series}")

    def terminate(self) -> None:
        """Send SIGTERM, as the kubelet does."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End the process and read its last lines."""
        self.terminate()
        self.process.wait(timeout=40)
        self._reader.join(timeout=5)


def _port(line: Line) -> int:
    return int(line["address"].rpartition(":")[2])


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[Service]:
    """A service on a free port of loopback, with more in its environment, ended when the block is left."""
    reading, writing = os.pipe()
    words = [*arguments, "--host", "127.0.0.1", "--port", "0"]
    try:
        process = nursery("services").born(words, writing, errors=2, variables={**os.environ, **environment})
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as output:
        try:
            service = Service(process, output)
        except BaseException:
            process.kill()
            raise
        try:
            yield service
        finally:
            service.end()


@contextmanager
def silent(service: Service) -> Iterator[None]:
    """It takes questions and answers none, as a process that hangs does."""
    service.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.process.send_signal(signal.SIGCONT)
