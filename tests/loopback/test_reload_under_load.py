"""Twenty changes of the document while callers never pause: not one request is lost."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nova_api.policies import AccessLogPolicy, BackpressurePolicy, BreakerPolicy, PoolPolicy, RetryPolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig, digest, encode
from nova_api.units import Duration, Share

from .conftest import StartApp
from .support.message import request
from .support.sidecar import Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually

RELOADS = 20
CALLERS = 2


@dataclass
class Tally:
    """What callers got so far."""

    good: int = 0
    bad: list[str] = field(default_factory=list)


@contextmanager
def calling(sidecar: Sidecar, listener: str) -> Iterator[Tally]:
    """Callers that send one request after the other, on connections they keep, until the block ends."""
    tally, over = Tally(), threading.Event()

    def call() -> None:
        try:
            with sidecar.connect(listener) as client:
                while not over.is_set():
                    answer = client.exchange(request("POST", "/", body=b"abc"))
                    if answer.status != 200 or answer.body != b"ok" or answer.has("connection", "close"):
                        tally.bad.append(f"{answer}")
                    tally.good += 1
        except (AssertionError, OSError) as error:
            tally.bad.append(f"{type(error).__name__}: {error}")

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield tally
    finally:
        over.set()
        for caller in callers:
            caller.join()


def changed(config: ProxyConfig, number: int) -> ProxyConfig:
    """Another document each time: every policy of the data path, a port more or less, the log, the shares."""
    extra = (inbound(("127.0.0.1", 9), f"extra-{number}"),) if number % 2 else ()
    ports = tuple(
        with_fields(port, timeout=TimeoutPolicy(request=Duration(20 + number)), pool=PoolPolicy(size=64 + number))  # type: ignore[type-var]  # any struct
        for port in config.inbound[:1]
    )
    upstreams = tuple(
        with_fields(
            port,  # type: ignore[type-var]  # as above
            circuit_breaker=BreakerPolicy(mode="Off" if number % 3 == 0 else "Enforce", failure_threshold=5 + number),
            retry=RetryPolicy(mode="Off" if number % 4 == 0 else "Enforce"),
        )
        for port in config.outbound
    )
    return with_fields(
        config,
        inbound=(*ports, *extra),
        outbound=upstreams,
        backpressure=BackpressurePolicy(mode="Shadow" if number % 5 == 0 else "Enforce", max_concurrency=100 + number),
        access_log=AccessLogPolicy(mode="All" if number % 2 else "Errors", sample=Share(0.5)),
    )


def apply(sidecar: Sidecar, config: ProxyConfig) -> None:
    """Replace the document and wait until it is the one in force."""
    sidecar.reload(config)
    sidecar.process.send_signal(signal.SIGHUP)
    eventually(lambda: json.loads(sidecar.status("/status")[1])["configHash"] == digest(encode(config)))


def each_called_again(*tallies: Tally) -> None:
    """Wait until the callers have had some more answers, or a bad one."""
    wanted = [tally.good + 5 for tally in tallies]
    pairs = list(zip(tallies, wanted, strict=True))
    eventually(lambda: all(tally.good > least or tally.bad for tally, least in pairs))


@pytest.mark.timeout(120)
def test_no_request_is_lost_through_twenty_reloads(tmp_path: Path, app: StartApp) -> None:
    served = app()
    first = document(inbound(served.address), outbound(served.address))
    sidecar = Sidecar.start(first, tmp_path)
    try:
        with calling(sidecar, "web") as inward, calling(sidecar, "db") as outward:
            for number in range(1, RELOADS + 1):
                apply(sidecar, changed(first, number))
                each_called_again(inward, outward)
        assert (inward.bad, outward.bad) == ([], [])
        assert sidecar.metric("nova_config_reloads_total", result="applied") == RELOADS
        assert sidecar.metric("nova_requests_total", code="2xx") == inward.good + outward.good
        assert sidecar.metric("nova_rejected_total") == 0
        began = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - began < 5
        assert not sidecar.complaints()
    finally:
        sidecar.kill()
