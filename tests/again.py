"""`python -m tests.again STATUS`: what has just failed, once more with the machine to itself.

Three tests at a time on two cores run into each other's load, and then a wait ends that would not have ended on a
machine of its own. Such a failure says nothing about Nova. The tests marked `alone` are disturbed by nobody here, but
by whoever else uses the same physical machine, which only ever makes a figure worse; so with `--alone` they are
measured once more, by the same bound. Each is said on a line of its own, because a race in Nova would look alike at
first: look at it before it comes again. More than `MOST` failures are no accident of load; they stand.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

MOST: Final = 3
_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
_TESTS_FAILED: Final = 1
"""What pytest ends with when all ran and some failed; with more, the run broke off."""


def main() -> int:
    """Exit status 0 if each of them passes now."""
    parser = argparse.ArgumentParser(prog="python -m tests.again", description="Run what has failed once more, alone.")
    parser.add_argument("status", type=int, help="what the run that failed ended with")
    parser.add_argument("--compiled", action="store_true", help="as in that run")
    parser.add_argument("--alone", action="store_true", help="they were alone already: measure once more")
    options = parser.parse_args()
    failed = sorted(json.loads(_FAILED.read_text())) if options.status == _TESTS_FAILED else []
    if not 0 < len(failed) <= MOST or not all("::" in one for one in failed):
        print(
            f"status {options.status}, {len(failed)} tests to try again of {MOST} at most: it stands", file=sys.stderr
        )
        return options.status
    again = subprocess.run([sys.executable, "-m", "pytest", *["--compiled"] * options.compiled, *failed], check=False)
    if again.returncode == 0:
        for one in failed:
            print(
                f"{'FAILED ALONE' if options.alone else 'FAILED BESIDE OTHERS'}, PASSED AGAIN: {one}", file=sys.stderr
            )
    return again.returncode


if __name__ == "__main__":
    sys.exit(main())
