"""`make bench`: the command line, and the life of all processes of a run."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from . import grpcload, load, measure, proxies, proxies_grpc, proxies_policies, report, scaling, tools
from .machine import Cores
from .processes import Address, running, wait_until_accepting, wait_until_serving
from .proxies import BUILDERS, Build, Proxy
from .tokens import Tokens

_ROOT = Path(__file__).parents[2]
_QUICK = ("nova", "envoy", "haproxy", "nginx")
_WORKLOADS = ("http1", "grpc", "policies", "scaling")
_FLOOR = 2.0
_IDLE = 10_000
_TOKENS = 1000
"""As many as the slowest rate sends in a second, so that one second shows a proxy all of them."""
_CALLS = 25_000
"""Calls prepared for each connection; who answers more of them in a round ends it early."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure the sidecar beside Envoy, HAProxy and nginx, on one core each, in one run.",
    )
    known = ", ".join(("direct", *BUILDERS))
    parser.add_argument("--only", type=_names, metavar="NAMES", help=f"comma-separated, of: {known}")
    parser.add_argument(
        "--workloads", type=_workloads, default=_WORKLOADS, metavar="KINDS", help=f"of: {', '.join(_WORKLOADS)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: fewer and shorter rounds, no *_policies rows"
    )
    parser.add_argument("--rounds", type=int, help="rounds at full load (default 3, quick 2)")
    parser.add_argument("--seconds", type=int, help="seconds per row and round (default 3, quick 2)")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="run the sidecar with this interpreter (default: an optimised build of the same version, if there)",
    )
    parser.add_argument(
        "--pure", action="store_true", help="run the sidecar from its sources, not compiled as in its image"
    )
    parser.add_argument("--check", action="store_true", help=f"fail if http1.ratio_envoy is below {_FLOOR:g}")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench.json", help="default %(default)s")
    return parser.parse_args(given)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in (*BUILDERS, "direct")]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _workloads(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(","))
    if unknown := [kind for kind in kinds if kind not in _WORKLOADS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return kinds


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        document = _run(options, tools.interpreter(options.python).with_build(pure=options.pure))
    except tools.Unavailable as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 3
    report.write(document, options.output)
    print(report.table(document))
    print(f"\nwritten to {options.output}")
    if "nova" in document["skipped"]:
        print("FAIL: the sidecar does not run", file=sys.stderr)
        return 1
    if options.check and (problem := report.verdict(document, _FLOOR)):
        print(f"FAIL: {problem}", file=sys.stderr)
        return 1
    return 0


def _leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that every process started here is ended."""
    sys.exit(128 + number)


@dataclass(frozen=True)
class Suite:
    """One kind of traffic: what is measured, the upstream, the proxies before it, and how to see that they serve."""

    plan: measure.Plan
    upstream: Callable[[Path], Proxy]
    builders: Mapping[str, Build]
    wait: Callable[[Address, subprocess.Popen[bytes], Path], None]


def _suites(options: argparse.Namespace, folder: Path, python: tools.Interpreter) -> Iterator[Suite]:
    if "http1" in options.workloads:
        plan = _http_plan(options)
        yield Suite(
            plan,
            partial(proxies.upstream, sizes=plan.sizes),
            {**BUILDERS, "nova": partial(proxies.nova, python=python)},
            lambda address, process, errors: wait_until_serving(
                address, f"/{plan.sizes[0]}", plan.sizes[0], process, errors
            ),
        )
    if "grpc" in options.workloads:
        yield Suite(
            _grpc_plan(options, folder),
            proxies_grpc.upstream,
            {**proxies_grpc.BUILDERS, "nova": partial(proxies_grpc.nova, python=python)},
            wait_until_accepting,
        )
    if "policies" in options.workloads and not options.quick:
        tokens = Tokens()
        plan = _policies_plan(options, tokens, folder)
        with contextlib.ExitStack() as stack:
            try:
                store = stack.enter_context(proxies_policies.redis(plan.cores.load, _folder(folder, "redis")))
            except tools.Unavailable:
                store = None
            yield Suite(
                plan,
                partial(proxies.upstream, sizes=plan.sizes),
                proxies_policies.builders(python, store, tokens),
                lambda address, process, errors: wait_until_serving(
                    address, f"/{plan.sizes[0]}", plan.sizes[0], process, errors, header=plan.scenarios[0].header
                ),
            )


def _policies_plan(options: argparse.Namespace, tokens: Tokens, folder: Path) -> measure.Plan:
    rounds, seconds, few, short = _lengths(options)
    header = tokens.header()
    one = measure.Scenario(
        "policies",
        "one request policy at a time",
        rounds,
        seconds,
        connections=32,
        size=100,
        header=header,
        without=proxies_policies.KEYED,
    )
    different = tokens.write(folder / "tokens", _TOKENS)
    rows = tuple(f"{name}{memory}" for name in ("nova_jwt", "envoy_jwt") for memory in ("", "_verified"))
    fixed = (
        measure.Scenario(
            f"tokens_{rate}",
            f"{rate} requests/s, each with another of {_TOKENS} tokens",
            few,
            short,
            connections=16,
            size=100,
            rate=rate,
            headers=different,
            only=("nova", "envoy", *rows),
        )
        for rate in (1000, 5000)
    )
    keyed = measure.Scenario(
        "keyed",
        "each request a POST with an idempotency key of its own",
        few,
        short,
        connections=32,
        size=100,
        script="keyed.lua",
        only=("nova", *proxies_policies.KEYED),
    )
    return measure.Plan(wrk=tools.program("wrk"), cores=Cores.choose(), scenarios=(one, *fixed, keyed))


def _http_plan(options: argparse.Namespace) -> measure.Plan:
    rounds, seconds, few, short = _lengths(options)
    same = measure.Scenario("http1", "full load, all requests the same", rounds, seconds, connections=32, size=100)
    unique = measure.Scenario(
        "http1_unique", "full load, no two requests the same", few, short, connections=32, size=100, script="unique.lua"
    )
    fixed = (
        measure.Scenario(f"fixed_{rate}", f"{rate} requests/s", few, short, connections=16, size=1024, rate=rate)
        for rate in (1000, 5000)
    )
    return measure.Plan(
        wrk=tools.program("wrk"),
        cores=Cores.choose(),
        scenarios=(same, unique, *fixed),
        idle=0 if options.quick else _IDLE,
    )


def _grpc_plan(options: argparse.Namespace, folder: Path) -> measure.Plan:
    rounds, seconds, few, short = _lengths(options)
    blocks = folder / "calls"
    calls = load.Calls(proxies_grpc.PATH, 32, request_bytes=100, response_bytes=proxies_grpc.RESPONSE_BYTES)
    if not options.quick:
        grpcload.write_calls(blocks, calls.path, 8, _CALLS)
    kinds = (
        ("grpc_unary", "gRPC, all calls alike", rounds, seconds, 8, calls),
        ("grpc_unary_traced", "gRPC, a trace and timeout per call", few, short, 8, replace(calls, blocks=blocks)),
        ("grpc_stream", "gRPC, 100 streams on each connection", few, short, 4, replace(calls, streams=100)),
        ("grpc_single", "gRPC, one stream on each connection", few, short, 8, replace(calls, streams=1)),
    )
    scenarios = tuple(
        measure.Scenario(key, title, n, length, connections=connections, size=calls.response_bytes, calls=each)
        for key, title, n, length, connections, each in kinds
        if not options.quick or key == "grpc_unary"
    )
    return measure.Plan(wrk="", cores=Cores.choose(), scenarios=scenarios)


def _lengths(options: argparse.Namespace) -> tuple[int, int, int, int]:
    """Rounds and seconds of the first scenario, then of the others."""
    quick: bool = options.quick
    rounds = options.rounds or (2 if quick else 3)
    seconds = options.seconds or (2 if quick else 3)
    return (rounds, seconds, 1, 1) if quick else (rounds, seconds, rounds, 2)


def _run(options: argparse.Namespace, python: tools.Interpreter) -> dict[str, Any]:
    names = options.only or (_QUICK if options.quick else tuple(BUILDERS))
    skipped: dict[str, str] = {}
    found: list[tuple[measure.Plan, measure.Measured]] = []
    with tempfile.TemporaryDirectory(prefix="nova-bench-") as temporary:
        folder = Path(temporary)
        for number, suite in enumerate(_suites(options, folder, python)):
            found.append((suite.plan, measured(suite, names, _folder(folder, str(number)), skipped)))
        grown = _scaling(options, folder, python, skipped)
    versions = {name: _version(name) for name in names if name not in skipped}
    return report.figures(found, skipped, versions, python) | {"scaling": grown}


def _scaling(
    options: argparse.Namespace, folder: Path, python: tools.Interpreter, skipped: dict[str, str]
) -> dict[str, dict[str, float]]:
    """CPU µs per request of the sidecar alone, while something else grows."""
    if options.quick or "scaling" not in options.workloads:
        return {}
    try:
        return scaling.isolated(python, folder / "scaling.json")
    except tools.Unavailable as reason:
        skipped["scaling"] = str(reason)
        return {}


def measured(suite: Suite, names: Sequence[str], folder: Path, skipped: dict[str, str]) -> measure.Measured:
    """Start everything of a suite and load it."""
    cores = suite.plan.cores
    with contextlib.ExitStack() as stack:
        source = suite.upstream(_folder(folder, "upstream"))
        direct = stack.enter_context(_started("upstream", source, cores.load, suite, folder))
        rows = list(direct)
        for name in (name for name in suite.builders if _base(name) in names):
            try:
                made = suite.builders[name](_folder(folder, name), direct[0].address)
                rows += stack.enter_context(_started(name, made, cores.proxy, suite, folder))
            except tools.Unavailable as reason:
                skipped[name] = str(reason)
        return measure.measure(suite.plan, rows)


def _base(name: str) -> str:
    """Whose row it is: a policy's goes with its proxy's."""
    return name if name in BUILDERS else name.partition("_")[0]


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


@contextlib.contextmanager
def _started(name: str, made: Proxy, core: int, suite: Suite, folder: Path) -> Iterator[list[measure.Row]]:
    """The rows of a program that serves."""
    errors = folder / name / "stderr"
    with running(made.command, core=core, errors=errors) as process:
        for address in made.rows.values():
            suite.wait(address, process, errors)
        yield [measure.Row(row, address, process.pid) for row, address in made.rows.items()]


_VERSION_COMMANDS: Mapping[str, str] = {"nginx": "-v", "haproxy": "-v"}


def _version(name: str) -> str:
    base = name.removesuffix("_policies")
    if base == "envoy":
        return tools.ENVOY_VERSION
    if base not in _VERSION_COMMANDS:
        return "this checkout"
    command = [tools.program(base), _VERSION_COMMANDS[base]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()


if __name__ == "__main__":
    sys.exit(main())
