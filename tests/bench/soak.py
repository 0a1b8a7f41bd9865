"""`make bench-soak`: one sidecar under a mix of everything for a while, and whether it stays what it was.

    python -m tests.bench.soak --minutes 10

HTTP/1.1 with heads alike and unlike, bodies both ways, everything that goes wrong, clients that leave; gRPC calls and
streams; WebSockets that come and go; a changed document and an app that is restarted, each a tenth of the time. The
load is light (a third of a core for all processes together), so that a leak shows as a slope and not as noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from nova_api.policies import AccessLogPolicy, BackpressurePolicy, BreakerPolicy, PoolPolicy, TimeoutPolicy
from nova_api.proxy import ProxyConfig
from nova_api.units import Duration, Share
from tests.loopback.support import mill
from tests.loopback.support.grpcapp import GrpcApp, GrpcClient, serving
from tests.loopback.support.sidecar import Sidecar, document, inbound, outbound, with_fields
from tests.loopback.support.waiting import eventually

from . import soak_load
from .soak_load import Ledger
from .soak_verdict import Bounds, Sample, per_minute, problems

_OUTPUT = Path(__file__).parents[2] / "build" / "soak.json"
_TIMES = 10
"""Reloads in one soak; each app is restarted half as often."""
_LEAVE_SECONDS = 20.0
_SHORT = PoolPolicy(idle_timeout=Duration(2), jitter=Share(0))


@dataclass(frozen=True)
class Plan:
    """How long, how often it is looked at, and what counts as flat."""

    seconds: float
    every: float = 5.0
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Result:
    """What one soak found; `problems` is empty when the sidecar stayed what it was."""

    samples: list[Sample]
    after: Sample
    ledger: Ledger
    problems: list[str]

    def document(self, plan: Plan) -> dict[str, Any]:
        """As it is written to the file."""
        return {
            "seconds": plan.seconds,
            "problems": self.problems,
            "rss_kib_per_minute": round(per_minute(self.samples, lambda each: each.rss_kib), 2),
            "descriptors_per_minute": round(per_minute(self.samples, lambda each: each.descriptors), 3),
            "bounds": asdict(plan.bounds),
            "done": dict(self.ledger.done),
            "unexpected": dict(self.ledger.wrong),
            "during_restarts": dict(self.ledger.disturbed),
            "after": asdict(self.after),
            "series": [asdict(each) for each in self.samples],
        }


class Apps:
    """The apps behind the sidecar, two of which can be restarted on the port they have."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._mill = stack.enter_context(contextlib.ExitStack())
        _, self.http = self._mill.enter_context(mill.running())
        self._calls = GrpcApp()
        stack.callback(self._leave)
        self.calls = self._calls.address
        self.chat = stack.enter_context(soak_load.echoing())

    def _leave(self) -> None:
        self._calls.stop()

    def restart_http(self) -> None:
        """Killed, as by the kernel for want of memory."""
        self._mill.close()
        self._mill.enter_context(mill.running(self.http[1]))

    def restart_calls(self) -> None:
        """Asked to leave, as by a rollout."""
        self._calls.stop()
        self._calls = GrpcApp(self.calls[1])


def soak(plan: Plan, folder: Path, progress: Callable[[str], None]) -> Result:
    """Run it; the sidecar's log stays in the folder."""
    ledger = Ledger()
    with contextlib.ExitStack() as stack:
        apps = Apps(stack)
        first = _document(apps)
        sidecar = Sidecar.start(first, folder)
        stack.callback(sidecar.kill)
        began = time.monotonic()
        before = _look(sidecar, began)
        samples: list[Sample] = []
        with _load(sidecar, ledger), _events(sidecar, first, apps, ledger, plan.seconds / _TIMES):
            while (now := time.monotonic() - began) < plan.seconds:
                time.sleep(min(plan.every, plan.seconds - now))
                samples.append(_look(sidecar, began))
                progress(_line(samples[-1], ledger))
        _apply(sidecar, first)
        after = _settled(sidecar, before, began)
        found = problems(samples, before, after, plan.bounds)
        found += [f"{count} times {text}" for text, count in ledger.wrong.most_common(20)]
        if code := sidecar.stop():
            found.append(f"the sidecar ended with {code}")
        found += sidecar.complaints()[:20]
    return Result(samples, after, ledger, found)


def _document(apps: Apps) -> ProxyConfig:
    seen = {"circuit_breaker": BreakerPolicy(mode="Shadow"), "timeout": TimeoutPolicy(request=Duration(10))}
    return document(
        inbound(apps.http, "web", pool=_SHORT),
        inbound(apps.calls, "calls", protocol="grpc"),
        inbound(apps.chat, "chat", protocol="websocket", pool=_SHORT),
        outbound(apps.http, "db", pool=_SHORT, **seen),
        outbound(apps.calls, "orders", protocol="grpc", **seen),
        access_log=AccessLogPolicy(mode="Errors"),
    )


def _changed(config: ProxyConfig, apps: Apps, number: int) -> ProxyConfig:
    """Another document each time: a port more or less, limits, timeouts."""
    extra = (inbound(apps.http, f"extra-{number}"),) if number % 2 else ()
    web = with_fields(config.inbound[0], timeout=TimeoutPolicy(request=Duration(20 + number)))  # type: ignore[type-var]  # any struct
    return with_fields(
        config,
        inbound=(web, *config.inbound[1:], *extra),
        backpressure=BackpressurePolicy(max_concurrency=100 + number),
    )


def _apply(sidecar: Sidecar, config: ProxyConfig) -> None:
    sidecar.reload(config)
    sidecar.process.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def _load(sidecar: Sidecar, ledger: Ledger) -> Iterator[None]:
    web, db, chat = (sidecar.address(name) for name in ("web", "db", "chat"))
    with GrpcClient(sidecar.address("calls")) as inward, GrpcClient(sidecar.address("orders")) as outward:
        kept = [
            soak_load.Kept(address, make)
            for address in (web, db)
            for make in (soak_load.alike, soak_load.unlike, soak_load.bodies)
        ]
        kinds = [("http", 0.02, each) for each in kept]
        kinds += [("fault", 0.1, soak_load.faults(address)) for address in (web, db)]
        kinds += [("grpc", 0.06, soak_load.calls(client)) for client in (inward, outward)]
        kinds += [("websocket", 0.15, soak_load.web_sockets(chat))]
        with soak_load.callers(ledger, kinds):
            yield
        for each in kept:
            each.close()


@contextlib.contextmanager
def _events(sidecar: Sidecar, first: ProxyConfig, apps: Apps, ledger: Ledger, pause: float) -> Iterator[None]:
    """Changes of the document, and of the apps, until the block ends."""
    over = threading.Event()

    def run() -> None:
        number = 0
        while not over.wait(pause):
            number += 1
            try:
                _apply(sidecar, _changed(first, apps, number))
                with ledger.restarting():
                    apps.restart_http() if number % 2 else apps.restart_calls()
                    if number % 2 == 0:
                        serving(apps.calls)
            except (AssertionError, OSError, ValueError) as error:
                ledger.note("event", f"{type(error).__name__}: {error}", calm=True)
            else:
                ledger.note("event", "", calm=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def _look(sidecar: Sidecar, began: float) -> Sample:
    code, body = sidecar.status("/metrics")
    assert code == 200, body
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(body.decode()):
        for each in family.samples:
            sums[each.name] = sums.get(each.name, 0.0) + each.value
    return Sample(
        seconds=round(time.monotonic() - began, 2),
        rss_kib=sidecar.rss >> 10,
        descriptors=sidecar.descriptors,
        tasks=int(sums["nova_event_loop_tasks"]),
        in_flight=int(sums["nova_requests_in_flight"]),
        downstream=int(sums["nova_downstream_connections"]),
        upstream=int(sums["nova_pool_connections"]),
        websockets=int(sums["nova_websocket_connections"]),
        exchanges=int(sums["nova_requests_total"]),
        cpu_seconds=sidecar.cpu_seconds,
    )


def _settled(sidecar: Sidecar, before: Sample, began: float) -> Sample:
    """The sidecar when the load is over, as soon as nothing of it is left, or after some seconds as it is."""
    last = _look(sidecar, began)

    def quiet() -> bool:
        nonlocal last
        last = _look(sidecar, began)
        return not problems([], before, last, Bounds())

    with contextlib.suppress(AssertionError):
        eventually(quiet, within=_LEAVE_SECONDS, every=0.2)
    return last


_COLUMNS = ("seconds", "RSS MiB", "fds", "tasks", "in flight", "callers", "upstream", "ws", "exchanges", "CPU %")


def _line(sample: Sample, ledger: Ledger) -> str:
    cells = (
        f"{sample.seconds:.0f}", f"{sample.rss_kib / 1024:.2f}", sample.descriptors, sample.tasks, sample.in_flight,
        sample.downstream, sample.upstream, sample.websockets, sample.exchanges,
        f"{100 * sample.cpu_seconds / max(1.0, sample.seconds):.0f}",
    )  # fmt: skip
    wrong = f"  {sum(ledger.wrong.values())} unexpected" if ledger.wrong else ""
    return "  ".join(f"{cell:>{len(name)}}" for cell, name in zip(cells, _COLUMNS, strict=True)) + wrong


def table(result: Result, plan: Plan) -> str:
    """A dozen lines of the series, and the verdict."""
    step = max(1, len(result.samples) // 12)
    found = result.document(plan)
    quiet = Ledger()
    return "\n".join(
        [
            "  ".join(_COLUMNS),
            *(_line(each, quiet) for each in result.samples[step - 1 :: step]),
            f"when the load is over:\n{_line(result.after, quiet)}",
            f"memory: {found['rss_kib_per_minute']:+.1f} KiB a minute over the second half, "
            f"at most {plan.bounds.rss_kib_per_minute:g}; descriptors: {found['descriptors_per_minute']:+.2f}",
            f"done: {', '.join(f'{kind} {count}' for kind, count in found['done'].items())}; "
            f"failed during restarts: {sum(result.ledger.disturbed.values())}",
            *(f"FAIL: {problem}" for problem in result.problems),
        ]
    )


def main(given: Sequence[str] | None = None) -> int:
    """The command. Returns 0 when the sidecar stayed what it was, 1 when not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak",
        description="Keep one sidecar under a mix of everything and see that memory, descriptors and tasks stay flat.",
        epilog="Exit codes: 0 flat, 1 not flat or something unexpected was seen, 130 given up.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="default %(default)g")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between samples, %(default)g")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="default %(default)s")
    options = parser.parse_args(given)
    if options.minutes <= 0 or options.every <= 0:
        parser.error("--minutes and --every must be above 0")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan = Plan(60 * options.minutes, options.every)
    with tempfile.TemporaryDirectory(prefix="nova-soak-") as folder:
        result = soak(plan, Path(folder), _progress)
    _progress("")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result.document(plan), indent=2) + "\n")
    print(table(result, plan))
    print(f"\nwritten to {options.output}")
    return 1 if result.problems else 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
