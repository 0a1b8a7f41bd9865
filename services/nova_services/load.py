"""A client for the demo and the end-to-end tests: single calls and constant-rate load, results as JSON.

The load is open loop: requests start on schedule whether or not earlier ones have ended, and latency counts from
the scheduled start. A closed loop would wait for a slow server and so hide exactly the queueing that overload makes
(coordinated omission).
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp

STARTED = "started"
_LONGEST_RUN = 600.0
_HIGHEST_RATE = 20_000.0
_MOST_REQUESTS = 200_000
"""In one run; the figures of each are kept until its end."""


class Tally:
    """What came back: counts by status, by failure to get any answer, and by reason of a refusal (x-nova-reject).

    `accepted` and `refused` are the latencies, in seconds, of answers below 400 and of the others.
    """

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.uncorrelated = 0

    def answered(self, response: aiohttp.ClientResponse, latency: float, correlation_id: str) -> None:
        """Count one response, which came `latency` seconds after it was due."""
        self.statuses[response.status] += 1
        if response.headers.get("x-correlation-id") != correlation_id:
            self.uncorrelated += 1
        if reason := response.headers.get("x-nova-reject"):
            self.rejects[reason] += 1
        (self.accepted if response.ok else self.refused).append(latency)

    def report(self, seconds: float) -> dict[str, Any]:
        """The figures of a run; latencies in milliseconds."""
        total = sum(self.statuses.values()) + sum(self.failures.values())
        return {
            "requests": total,
            "seconds": round(seconds, 3),
            "rps": round(total / seconds, 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "failures": dict(self.failures),
            "rejects": dict(self.rejects),
            "uncorrelated": self.uncorrelated,
            "accepted": _percentiles(self.accepted),
            "refused": _percentiles(self.refused),
        }


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    if not ordered:
        return {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)

    return {"count": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": round(ordered[-1] * 1000, 2)}


async def load(
    url: str,
    *,
    rate: float,
    seconds: float,
    patience: float,
    headers: dict[str, str] | None = None,
    fresh: bool = False,
    ended: asyncio.Event | None = None,
) -> dict[str, Any]:
    """Send `rate` requests a second for so many seconds, or until `ended` is set, and report what came back within
    `patience` seconds each. All have `headers`, and an id of their own.

    `fresh`: each from a client of its own, with no cookie and on a connection of its own, since a Service spreads
    connections over its pods, not requests.
    """
    tally = Tally()
    total = int(rate * seconds)
    limits = aiohttp.ClientTimeout(total=patience)
    async with aiohttp.ClientSession(
        timeout=limits,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0, force_close=fresh),
        cookie_jar=aiohttp.DummyCookieJar() if fresh else None,
    ) as session:
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for index in range(total):
                due = start + index / rate
                if (early := due - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                if ended is not None and ended.is_set():
                    break
                group.create_task(_one(session, url, due, tally, f"load-{index}"))
        return tally.report(time.monotonic() - start)


def end_of_input() -> asyncio.Event:
    """An event that is set when standard input ends: so whoever started this ends it, also by going away."""
    ended, loop, source = asyncio.Event(), asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(source, 4096):
            loop.remove_reader(source)
            ended.set()

    loop.add_reader(source, read)
    return ended


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    ended = None
    if options.until_eof:
        ended = end_of_input()
        print(STARTED, flush=True)
    schedule = {"rate": options.rate, "seconds": options.seconds, "patience": options.timeout}
    return await load(options.url, **schedule, headers=dict(options.header), fresh=options.fresh, ended=ended)


async def _one(session: aiohttp.ClientSession, url: str, due: float, tally: Tally, correlation_id: str) -> None:
    try:
        async with session.get(url, headers={"x-correlation-id": correlation_id}) as response:
            await response.read()
            tally.answered(response, time.monotonic() - due, correlation_id)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        tally.failures[type(error).__name__] += 1


async def call(urls: Sequence[str], *, method: str, headers: dict[str, str], data: str | None) -> list[dict[str, Any]]:
    """Send one request to each URL, one after the other, and give status, headers, body and milliseconds."""
    results: list[dict[str, Any]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        for url in urls:
            start = time.monotonic()
            try:
                async with session.request(method, url, headers=headers, data=data) as response:
                    body = await response.text()
                    answer: dict[str, Any] = {"status": response.status, "body": body}
                    answer["headers"] = {name.lower(): value for name, value in response.headers.items()}
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                answer = {"status": 0, "body": "", "headers": {}, "error": f"{type(error).__name__}: {error}"}
            results.append({"url": url, **answer, "ms": round((time.monotonic() - start) * 1000, 2)})
    return results


def _seconds(text: str) -> float:
    return _positive(text, _LONGEST_RUN, "seconds")


def _rate(text: str) -> float:
    return _positive(text, _HIGHEST_RATE, "requests a second")


def _positive(text: str, most: float, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= most:
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most {most:g} {unit}, got {text!r}")
    return number


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise argparse.ArgumentTypeError(f"expected NAME:VALUE, got {text!r}")
    return name, value.strip()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nova_services.load",
        description="Call a service, or load it at a constant rate; results are JSON on standard output.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="constant-rate load")
    run.add_argument("url")
    run.add_argument("--rate", type=_rate, default=100.0, help="requests a second (default 100)")
    run.add_argument("--seconds", type=_seconds, default=5.0, help="how long (default 5)")
    run.add_argument("--timeout", type=_seconds, default=20.0, help="longest wait for one response (default 20)")
    run.add_argument(
        "--fresh", action="store_true", help="each request from a client of its own, so that all pods are reached"
    )
    run.add_argument(
        "--until-eof", action="store_true", help=f"end early when standard input ends; prints '{STARTED}' first"
    )
    single = verbs.add_parser("call", help="one request to each URL")
    single.add_argument("urls", nargs="+", metavar="url")
    single.add_argument("--method", default="GET")
    single.add_argument("--data")
    for one in (run, single):
        one.add_argument("--header", type=_header, action="append", default=[], metavar="NAME:VALUE")
    options = parser.parse_args(argv)
    if options.verb == "run" and options.rate * options.seconds > _MOST_REQUESTS:
        parser.error(f"--rate times --seconds: expected at most {_MOST_REQUESTS} requests in all")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 once the run is complete, whatever the services answered."""
    options = _arguments(argv)
    result: object
    if options.verb == "run":
        result = asyncio.run(_run(options))
    else:
        headers = dict(options.header)
        result = asyncio.run(call(options.urls, method=options.method, headers=headers, data=options.data))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
