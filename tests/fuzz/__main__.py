"""The command: one target for as long as one likes."""

import argparse
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence

from .driver import Failure, Outcome, run
from .targets import TARGETS

_COMPILED = "NOVA_FUZZ_COMPILED"


def main(given: Sequence[str] | None = None) -> int:
    """Run it. Returns 0 when nothing was found, 1 when something was, 130 when given up."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feed slightly broken messages to what reads bytes of others, and see that everything holds.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="targets:\n"
        + "\n".join(f"  {name:16} {make().about}" for name, make in TARGETS.items())
        + "\n\nA failure prints the command that brings it back and the smallest input found that still fails.\n"
        "Exit codes: 0 nothing found, 1 a failure, 2 wrong arguments, 130 given up.",
    )
    parser.add_argument("target", choices=TARGETS, metavar="TARGET", help="one of those below")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, default %(default)g")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other cases, default %(default)s")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="number of the first case, default 0")
    parser.add_argument("--cases", type=int, default=0, help="stop after so many cases, default: as time allows")
    parser.add_argument("--compiled", action="store_true", help="the compiled sidecar, as its image has it")
    options = parser.parse_args(given)
    if options.seconds <= 0 or options.cases < 0 or options.first < 0:
        parser.error("--seconds must be above 0, --cases and --first must not be below")
    if options.compiled and _COMPILED not in os.environ:
        return _again_compiled(sys.argv[1:] if given is None else list(given))
    try:
        outcome = run(
            TARGETS[options.target], options.seed, seconds=options.seconds, cases=options.cases, first=options.first,
            progress=_progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        return 130
    _progress(outcome, end="\n", always=True)
    if outcome.failure is None:
        return 0
    print(report(options.target, options.seed, outcome.failure))
    return 1


def _again_compiled(arguments: list[str]) -> int:
    """The same by an interpreter that finds the compiled tree first."""
    from tests import compiled  # noqa: PLC0415 - what it needs is needed here alone

    environment = os.environ | {"PYTHONPATH": str(compiled.tree()), _COMPILED: "1"}
    return subprocess.run([sys.executable, "-m", "tests.fuzz", *arguments], env=environment, check=False).returncode


def report(target: str, seed: int, failure: Failure) -> str:
    """What broke, and how to bring it back."""
    first = f"--first {failure.number} --cases 1" if failure.alone else f"--cases {failure.number + 1} --seconds 3600"
    return "\n".join(
        [
            "".join(traceback.format_exception(failure.error)).rstrip(),
            "" if failure.alone else "It fails only after the cases before it: what they left behind matters.",
            f"again:    python -m tests.fuzz {target} --seed {seed} {first}",
            f"input:    {failure.data!r}",
            f"smallest: {failure.smallest!r}",
        ]
    )


def _progress(outcome: Outcome, end: str = "", *, always: bool = False) -> None:
    if always or sys.stderr.isatty():
        told = ", ".join(f"{verdict} {count}" for verdict, count in sorted(outcome.verdicts.items()))
        start = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{start}{outcome.cases} cases: {told}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
