"""`make bench`: the command line, and the life of all processes of a run."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from . import measure, report, tools
from .machine import Cores
from .processes import running, wait_until_serving
from .proxies import BUILDERS, Build, Proxy, nova, upstream

_ROOT = Path(__file__).parents[2]
_QUICK = ("nova", "envoy", "haproxy", "nginx")
_FLOOR = 2.0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure the sidecar beside Envoy, HAProxy and nginx, on one core each, in one run.",
    )
    known = ", ".join(("direct", *BUILDERS))
    parser.add_argument("--only", type=_names, metavar="NAMES", help=f"comma-separated, of: {known}")
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
    parser.add_argument("--check", action="store_true", help=f"fail if http1.ratio_envoy is below {_FLOOR:g}")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench.json", help="default %(default)s")
    return parser.parse_args(given)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in (*BUILDERS, "direct")]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        plan = _plan(options)
        python = tools.interpreter(options.python)
        document = _run(plan, options.only or (_QUICK if options.quick else tuple(BUILDERS)), python)
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


def _plan(options: argparse.Namespace) -> measure.Plan:
    quick: bool = options.quick
    rounds = options.rounds or (2 if quick else 3)
    seconds = options.seconds or (2 if quick else 3)
    few, short = (1, 1) if quick else (rounds, 2)
    same = measure.Scenario("http1", "full load, all requests the same", rounds, seconds, connections=32, size=100)
    unique = measure.Scenario(
        "http1_unique", "full load, no two requests the same", few, short, connections=32, size=100, unique=True
    )
    fixed = (
        measure.Scenario(f"fixed_{rate}", f"{rate} requests/s", few, short, connections=16, size=1024, rate=rate)
        for rate in (1000, 5000)
    )
    return measure.Plan(wrk=tools.program("wrk"), cores=Cores.choose(), scenarios=(same, unique, *fixed))


def _run(plan: measure.Plan, names: Sequence[str], python: tools.Interpreter) -> dict[str, Any]:
    skipped: dict[str, str] = {}
    builders: dict[str, Build] = {**BUILDERS, "nova": partial(nova, python=python)}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nova-bench-")))
        direct = stack.enter_context(_started("upstream", _build_upstream(folder, plan), plan.cores.load, plan, folder))
        rows = list(direct)
        for name in (name for name in names if name != "direct"):
            try:
                made = builders[name](_folder(folder, name), direct[0].address)
                rows += stack.enter_context(_started(name, made, plan.cores.proxy, plan, folder))
            except tools.Unavailable as reason:
                skipped[name] = str(reason)
        measured = measure.measure(plan, rows)
        versions = {name: _version(name) for name in names if name not in skipped}
    return report.figures(plan, measured, skipped, versions, python)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _build_upstream(folder: Path, plan: measure.Plan) -> Proxy:
    return upstream(_folder(folder, "upstream"), plan.sizes)


@contextlib.contextmanager
def _started(name: str, made: Proxy, core: int, plan: measure.Plan, folder: Path) -> Iterator[list[measure.Row]]:
    """The rows of a program that serves."""
    errors = folder / name / "stderr"
    with running(made.command, core=core, errors=errors) as process:
        for address in made.rows.values():
            wait_until_serving(address, f"/{plan.sizes[0]}", plan.sizes[0], process, errors)
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
