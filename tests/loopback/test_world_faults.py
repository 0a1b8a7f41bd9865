"""Faults of the world around: the wall clock steps, the app is killed in the middle of its traffic."""

import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nova_api.policies import BackoffPolicy, BreakerPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support import mill
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually

DAY = 86_400.0
STEPPED = """
import pathlib, time
_real, _file = time.time, pathlib.Path({file!r})
def _stepped():
    return _real() + float(_file.read_text() or 0)
time.time = _stepped
"""


@pytest.fixture
def wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wall clock of sidecars started from now on: so many seconds, written into this file, off the real one.

    The monotonic clock cannot step (clock_gettime(2)), so this is all a step can change.
    """
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(STEPPED.format(file=str(offset)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return offset


def step(offset: Path, seconds: float) -> None:
    """Let the wall clock jump; by a rename, so that it is never read half written."""
    fresh = offset.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.rename(offset)


@pytest.mark.parametrize("seconds", [-365 * DAY, -3600.0, 3600.0, 365 * DAY], ids=["-1y", "-1h", "+1h", "+1y"])
def test_the_wall_clock_steps(
    start: StartSidecar, listener: Listener, app: StartApp, wall: Path, seconds: float
) -> None:
    """Only what is written for people follows: no deadline ends, no breaker closes, no connection is dropped."""
    broken = app(lambda _: response("500 Down"))
    sidecar = start(
        document(
            inbound(listener.address),
            outbound(broken.address, circuit_breaker=BreakerPolicy(failure_threshold=1, open_duration=Duration(60))),
        )
    )
    with sidecar.connect() as waiting, sidecar.connect() as client, sidecar.connect("db") as caller:
        waiting.send(request("GET", "/waiting"))
        upstream = listener.accept()
        upstream.request()
        assert caller.exchange(request()).status == 500
        step(wall, seconds)
        assert caller.exchange(request()).get("x-nova-reject") == "circuit_open"
        began = time.monotonic()
        answer = client.exchange(request("GET", "/short", "x-nova-deadline-ms: 300"))
        assert (answer.get("x-nova-reject"), 0.25 < time.monotonic() - began < 2) == ("deadline_exceeded", True)
        assert not waiting.poll()
        upstream.send(response(body=b"unhurried"))
        assert waiting.response().body == b"unhurried"
        waiting.send(request("GET", "/again"))
        assert upstream.request().target == "/again"
        upstream.send(response(body=b"on the same connections"))
        assert waiting.response().body == b"on the same connections"
    assert sidecar.metric("nova_breaker_open_seconds_total") < 60
    assert 0 <= uptime(sidecar) < 60
    eventually(lambda: sum(each["event"] == "exchange" for each in sidecar.log) == 5)


def uptime(sidecar: Sidecar) -> float:
    """What /status says."""
    seconds: float = json.loads(sidecar.status("/status")[1])["uptimeSeconds"]
    return seconds


@pytest.mark.parametrize("name", ["web", "db"], ids=["inbound", "outbound"])
def test_the_app_is_killed_in_the_middle_of_its_traffic(start: StartSidecar, name: str) -> None:
    """SIGKILL: each request is answered, or refused for a reason, in time; the next app is called as the one before."""
    seen: Counter[tuple[int, str | None]] = Counter()
    stop = threading.Event()
    timeout = TimeoutPolicy(request=Duration(2), attempt=Duration(1), connect=Duration(0.5))
    retry = RetryPolicy(backoff=BackoffPolicy(base=Duration(0.01), max=Duration(0.05)))
    with mill.running() as (process, address):
        ports = (
            inbound(address, timeout=timeout),
            outbound(address, timeout=timeout, retry=retry, circuit_breaker=BreakerPolicy(open_duration=Duration(0.2))),
        )
        sidecar = start(document(*ports))

        def call() -> None:
            with Peer.connect(sidecar.address(name)) as client:
                while not stop.is_set():
                    answer = client.exchange(request("GET", "/chunked"))
                    assert answer.status != 200 or answer.body == b"some"
                    seen[answer.status, answer.get("x-nova-reject")] += 1

        with ThreadPoolExecutor(6) as pool:
            callers = [pool.submit(call) for _ in range(6)]
            try:
                eventually(lambda: seen[200, None] > 200)
                process.send_signal(signal.SIGKILL)
                process.wait()
                eventually(lambda: sum(count for (status, _), count in seen.items() if status >= 500) > 20)
                with mill.running(address[1]):
                    before = seen[200, None]
                    eventually(lambda: seen[200, None] > before + 200)
                    stop.set()
                    for each in callers:
                        each.result()
            finally:
                stop.set()
    assert {reason for _, reason in seen} <= {None, "connect_failure", "upstream_reset", "circuit_open"}
    assert seen.keys() <= {(200, None), (502, "upstream_reset"), (503, "connect_failure"), (503, "circuit_open")}
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    eventually(lambda: sidecar.metric("nova_pool_connections", state="active") == 0)
    refused = {str(reason): count for (_, reason), count in seen.items() if reason}
    for reason, count in refused.items():
        assert sidecar.metric("nova_rejected_total", reason=reason) == count
