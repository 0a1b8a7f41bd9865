"""Where h2spec comes from: Go's modules, pinned by go.mod, compiled once into the project's cache folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from nova_cli.cluster.toolchain import find_go
from nova_cli.console import Console
from nova_cli.errors import CommandError
from tests.bench.tools import Unavailable, cache_folder

HERE = Path(__file__).parent
PACKAGE = "github.com/summerwind/h2spec/cmd/h2spec"


class Result(NamedTuple):
    """How one case ended."""

    passed: bool
    text: str
    """What was expected and what came, "" for a case that passed."""


def results(address: tuple[str, int], report: Path) -> dict[str, Result]:
    """Run every case, the strict ones too; results by section and title.

    Raises:
        Unavailable: there is no Go, or h2spec could not be compiled.
    """
    host, port = address
    command = [str(_program()), "--strict", "--timeout", "1", "-h", host, "-p", str(port), "-j", str(report)]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, check=False)  # 1: cases have failed
    found: dict[str, Result] = {}
    for suite in ElementTree.parse(report).iter("testsuite"):
        for case in suite.iter("testcase"):
            failure = next((each for each in case if each.tag in ("failure", "error", "skipped")), None)
            name = f"{suite.get('package')}: {case.get('classname')}"
            found[name] = Result(failure is None, "" if failure is None else "".join(failure.itertext()))
    return found


def _program() -> Path:
    """The compiled program."""
    sums = (HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()
    file = cache_folder().with_name("oracles") / f"h2spec-{hashlib.sha256(sums).hexdigest()[:12]}"
    if file.exists():
        return file
    try:
        go = find_go(Console(quiet=True))
    except CommandError as error:
        raise Unavailable(str(error)) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=file.parent))
    try:
        command = [str(go), "build", "-trimpath", "-o", str(fresh / "h2spec"), PACKAGE]
        environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
        done = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        if done.returncode:
            raise Unavailable(f"go could not build h2spec: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        (fresh / "h2spec").rename(file)  # whoever else has just built it has built the same
    finally:
        shutil.rmtree(fresh)
    return file
