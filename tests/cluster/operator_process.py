"""`nova-operator` as a process, as a container would run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from tests.cluster.api import until
from tests.loopback.support.nursery import Child, nursery

PROGRAM = ("-m", "nova_operator.main")
"""The operator as it is started: for who measures its memory or CPU time, which are others in a fork."""
_HTTP = build_opener(ProxyHandler({}))


class OperatorProcess:
    """One replica and its log: a fork (see `nursery`) unless a `program` is given, which is started."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str, program: tuple[str, ...] | None = None) -> None:
        self.log = log
        words = [f"--kubeconfig={kubeconfig}", "--metrics-port=0", *arguments]
        with log.open("w") as output:
            if program is None:
                self.process: subprocess.Popen[bytes] | Child = nursery("operator").born(words, output.fileno())
                return
            self.process = subprocess.Popen(
                [sys.executable, *program, *words], stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; every line is JSON."""
        text = self.log.read_text()
        return [json.loads(line) for line in text.splitlines() if text.endswith("\n") or line.endswith("}")]

    def said(self, event: str) -> bool:
        """Whether a line tells of this."""
        return any(line["event"] == event for line in self.lines())

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the metrics port; 0 while nobody listens."""
        port = next((line["metrics_port"] for line in self.lines() if line["event"] == "started"), None)
        try:
            with _HTTP.open(f"http://127.0.0.1:{port or 1}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except URLError:
            return 0, ""

    def ready(self) -> bool:
        """What the readiness probe would say."""
        if (code := self.process.poll()) is not None:
            raise AssertionError(f"the operator ended with {code}:\n{self.log.read_text()[-3000:]}")
        return self.http("/readyz")[0] == 200

    def metric(self, name: str) -> float:
        """Sum of a metric's samples."""
        samples = [line for line in self.http("/metrics")[1].splitlines() if line.split("{")[0].split(" ")[0] == name]
        assert samples, f"no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples)

    def writes(self) -> float:
        """Requests to the API server so far that were not reads."""
        samples = self.http("/metrics")[1].splitlines()
        counted = [line for line in samples if line.startswith("nova_operator_api_requests_total{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counted if 'method="GET"' not in line)

    def leads(self) -> bool:
        """Whether this replica acts."""
        return self.metric("nova_operator_leader") == 1

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """End it; exit code and seconds it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20), time.monotonic() - began


@contextmanager
def running(
    kubeconfig: Path, log: Path, *arguments: str, ready: bool = True, program: tuple[str, ...] | None = None
) -> Iterator[OperatorProcess]:
    """A replica that is ended with the block."""
    operator = OperatorProcess(kubeconfig, log, *arguments, program=program)
    try:
        if ready:
            until(operator.ready, 30)
        yield operator
    finally:
        operator.end(signal.SIGKILL if operator.process.poll() is None and sys.exc_info()[0] else signal.SIGTERM)
