"""The sidecar compiled, as in its image: a copy of the sources in the cache folder, made once for each state of them.

The bench measures it, and `pytest --compiled` runs the tests of processes against it. See sidecar/compile.py.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from nova_cli.cluster.cache import cache_root, content_key, publish

ROOT = Path(__file__).resolve().parents[1]
_COMPILE = ROOT / "sidecar" / "compile.py"
_PACKAGES = (ROOT / "sidecar" / "nova_sidecar", ROOT / "crds" / "nova_api")
_KEPT = 3  # trees of other states of the sources: going back and forth between two branches builds nothing


class CannotCompileError(Exception):
    """This machine lacks something, or mypyc refuses the sources; the message says what."""


def tree() -> Path:
    """A folder for the front of PYTHONPATH. Building it takes a minute or more, and is told on standard error."""
    files = [file for package in _PACKAGES for file in package.rglob("*") if file.suffix == ".py"]
    words = (str(sysconfig.get_config_var("SOABI")), platform.machine(), version("mypy"))
    folder = cache_root() / "compiled" / content_key([*files, _COMPILE], *words, relative_to=ROOT)
    publish(folder, _make)
    os.utime(folder)
    _drop_old(folder.parent)
    return folder


def _make(scratch: Path) -> None:
    print("compiling the sidecar, once for these sources (a minute or more)", file=sys.stderr, flush=True)
    for package in _PACKAGES:
        shutil.copytree(package, scratch / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(_COMPILE), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise CannotCompileError(done.stderr.strip())


def _drop_old(folder: Path) -> None:
    trees = sorted(
        (each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.stat().st_mtime
    )
    for each in trees[: -_KEPT - 1]:
        shutil.rmtree(each, ignore_errors=True)
