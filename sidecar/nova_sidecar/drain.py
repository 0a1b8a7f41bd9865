"""``nova-sidecar drain``: the preStop hook. Makes the sidecar in this pod leave and returns when it has.

A client and nothing else: it loads no proxy, so that it starts at once on a busy node, and it never waits past its
own deadline.
"""

import argparse
import http.client
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

CONTROL = "127.0.0.1:15021"  # `names.CONTROL_PORT`, which would load half of the model; a test compares
CONNECT_TIMEOUT = 2.0
SILENCE = 5.0
"""Progress comes every second; this much silence means the sidecar is gone."""


def main(arguments: Sequence[str]) -> int:
    """Drain and say how it goes; returns the exit code: 0 drained, 1 not (in time), 2 wrong usage."""
    options = _parser().parse_args(arguments)
    host, _, port = options.address.rpartition(":")
    if not host or not port.isdigit():
        print(f"nova-sidecar drain: --address: expected HOST:PORT, got {options.address}", file=sys.stderr)
        return 2
    last: dict[str, Any] = {}
    began = time.monotonic()
    try:
        for last in _follow(host, int(port), began + options.timeout):
            print(f"{last['phase']}: {last['inFlight']} in flight, at most {last['secondsLeft']} s left", flush=True)
    except TimeoutError:
        print(
            f"nova-sidecar drain: {options.address}: not drained within {time.monotonic() - began:.1f} s",
            file=sys.stderr,
        )
        return 1
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"nova-sidecar drain: {options.address}: {error}", file=sys.stderr)
        return 1
    if last.get("phase") != "drained":
        print(f"nova-sidecar drain: {options.address}: ended before it was drained", file=sys.stderr)
        return 1
    return 0 if last.get("complete") else 1


def _follow(host: str, port: int, deadline: float) -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)
    try:
        connection.request("POST", "/drain?wait=true", headers={"Content-Length": "0"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise ValueError(f"status {response.status}: {response.read(200).decode(errors='replace').strip()}")
        while (left := deadline - time.monotonic()) > 0:
            if connection.sock is not None:
                connection.sock.settimeout(min(left, SILENCE))
            line = response.readline(4096)
            if not line:
                return
            yield json.loads(line)
        raise TimeoutError
    finally:
        connection.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nova-sidecar drain",
        description="Make the sidecar in this pod leave: not ready, then no new connections, then what is in flight "
        "finishes. Prints the progress and returns when it is over. Meant as a preStop hook; a second call joins the "
        "first.",
    )
    parser.add_argument(
        "--address",
        default=CONTROL,
        metavar="HOST:PORT",
        help="the control address (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="give up after this long (default: %(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, got {text!r}")
    return seconds
