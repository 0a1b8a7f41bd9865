"""The loads: as much as goes (wrk and `grpcload.py`, closed loops), a fixed rate (`fixedrate.py`, open loop), and
connections that only stand there (`idle.py`)."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .processes import Address, pinned

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_FIXED_RATE = Path(__file__).with_name("fixedrate.py")
_GRPC = Path(__file__).with_name("grpcload.py")
_IDLE = Path(__file__).with_name("idle.py")


@dataclass(frozen=True)
class Answer:
    """What a load generator saw."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float = 0.0  #: how late requests left, at a fixed rate; a slow generator shows here

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


def full_load(
    wrk: str,
    address: Address,
    path: str,
    *,
    seconds: int,
    connections: int,
    core: int,
    script: str = "",
    header: str = "",
) -> Answer:
    """Each connection sends its next request as soon as it has the answer to the last one.

    All requests are the same GET with this `header`, or what a `script` beside this file makes.
    """
    made = ["-s", str(Path(__file__).with_name(script))] if script else []
    options = [*made, *(["-H", header] if header else [])]
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", *options, "--latency", f"http://{address}{path}"]
    return parse_wrk(_run(command, core, seconds))


def wrk(options: list[str], url: str, arguments: tuple[str, ...] = (), *, core: int, seconds: int) -> Answer:
    """wrk as it is: the command with its options, the target, and what its script is told."""
    return parse_wrk(_run([*options, url, *(("--", *arguments) if arguments else ())], core, seconds))


def fixed_rate(
    address: Address,
    path: str,
    *,
    rate: int,
    seconds: float,
    connections: int,
    core: int,
    headers: Path | None = None,
) -> Answer:
    """`rate` requests a second, spread evenly, whether or not the answers come. They take turns in having the
    `headers` of a file, one on each line."""
    target = [address.host, str(address.port), path, str(rate), str(seconds), str(connections)]
    target += [str(headers)] if headers else []
    seen = json.loads(_run([sys.executable, "-S", "-E", str(_FIXED_RATE), *target], core, seconds))
    return Answer(seconds=seconds, **seen)


@dataclass(frozen=True)
class Calls:
    """What one gRPC call looks like, and how many are under way on each connection."""

    path: str
    streams: int
    request_bytes: int
    response_bytes: int
    blocks: Path | None = None  #: header blocks of calls that are all different; None: all alike


def grpc(address: Address, calls: Calls, *, seconds: int, connections: int, core: int) -> Answer:
    """Each stream is followed by the next one as soon as its answer is complete."""
    sizes = [str(number) for number in (seconds, connections, calls.streams, calls.request_bytes, calls.response_bytes)]
    blocks = [str(calls.blocks)] if calls.blocks else []
    command = [sys.executable, "-S", "-E", str(_GRPC), address.host, str(address.port), calls.path, *sizes, *blocks]
    return Answer(**json.loads(_run(command, core, seconds)))


@contextlib.contextmanager
def idle(address: Address, path: str, connections: int, core: int) -> Iterator[None]:
    """Hold so many keep-alive connections that have had one answer each.

    Raises:
        ConnectionError: not all of them were answered within a minute.
    """
    command = [sys.executable, "-S", "-E", str(_IDLE), address.host, str(address.port), path, str(connections)]
    with subprocess.Popen(pinned(command, core), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            if said != str(connections):
                raise ConnectionError(f"{address} answered {said or 'none'} of {connections} connections")
            yield
        finally:
            process.stdin.close()


def _run(command: list[str], core: int, seconds: float) -> str:
    limit = seconds + 15
    return subprocess.run(pinned(command, core), capture_output=True, text=True, timeout=limit, check=True).stdout


def parse_wrk(text: str) -> Answer:
    """Read wrk's report.

    Raises:
        ValueError: the text is no report of wrk --latency.
    """
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    centiles = {int(name): float(value) * _UNITS[unit] for name, value, unit in re.findall(_CENTILE, text)}
    if not total or not {50, 99} <= centiles.keys():
        raise ValueError(f"not a report of wrk --latency: {text!r}")
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Answer(
        requests=int(total[1]),
        seconds=float(total[2]) * _UNITS[total[3]] / 1e3,
        errors=sum(map(int, socket_errors.groups() if socket_errors else ())) + int(refused[1] if refused else 0),
        p50_ms=centiles[50],
        p99_ms=centiles[99],
    )


_CENTILE = re.compile(r"^ +(\d+)% +([\d.]+)(us|ms|s|m)$", re.MULTILINE)
