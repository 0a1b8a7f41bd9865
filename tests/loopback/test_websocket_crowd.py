"""Ten thousand open WebSockets: what one costs in memory, and all of them closed inside the grace period."""

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api.policies import SelfProtectionPolicy, WebSocketPolicy
from nova_api.proxy import DrainPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.sidecar import document, inbound

CROWD = Path(__file__).parent / "support" / "crowd.py"
WANTED = 10_000
SPARE = 120
"""Descriptors that a process needs beside those of the WebSockets."""
SPREAD = 8
GRACE = 20


class Member:
    """One process of the crowd."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, CROWD, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def report(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many as this process, and those it starts, may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_ten_thousand_are_drained_inside_the_grace_period(start: StartSidecar, descriptors: int) -> None:
    """As many as descriptors allow where that is less: the sidecar needs two for each."""
    count = min(WANTED, (descriptors - SPARE) // 2)
    app = Member("app")
    members = [app]
    try:
        sidecar = start(
            document(
                inbound(("127.0.0.1", app.report()["port"]), protocol="websocket"),
                drain=DrainPolicy(delay=Duration(0), timeout=Duration(GRACE)),
                web_socket=WebSocketPolicy(spread=Duration(SPREAD)),
                self_protection=SelfProtectionPolicy(mode="Off"),
            )
        )
        before = sidecar.rss
        clients = Member("clients", *sidecar.address(), count)
        members.append(clients)
        assert clients.report() == {"open": count}
        each = (sidecar.rss - before) / count
        print(f"{count} idle WebSockets: {each:.0f} bytes each")
        clients.go()
        assert sidecar.metric("nova_websocket_connections") == count
        time.sleep(1)  # everybody talks: a close comes while messages are on their way

        began = time.time()
        sidecar.terminate()
        told = clients.report()
        over = time.time() - began
        assert sidecar.wait() == 0
        app.process.terminate()
        heard = app.report()

        assert (told["wrong"], heard["wrong"]) == ([], [])
        assert Counter(code for code, _ in told["closes"]) == {1012: count}
        assert heard["received"] == told["sent"], "every message of a client reached the app"
        assert sum(told["sent"]) > count
        assert over < GRACE
        seconds = Counter(int(instant - began) for _, instant in told["closes"])
        assert max(seconds.values()) < 3 * count / SPREAD, seconds
        assert max(seconds) >= SPREAD - 2
        print(f"drained in {over:.1f} s; closes per second: {[seconds[s] for s in range(max(seconds) + 1)]}")
        assert each <= 8192
    finally:
        for member in members:
            member.end()
