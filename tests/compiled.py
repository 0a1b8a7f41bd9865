"""The sidecar compiled, as in its image: a copy of the sources in the cache folder, made once for each state of them.

The bench measures it, and `pytest --compiled` runs the tests of processes against it. See sidecar/compile.py. Where the
image of the same sources is at hand, for an interpreter like this one, it is taken out of that: what is tested is then
what is shipped, and nothing is compiled twice.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO

from nova_cli.cluster.cache import cache_root, content_key, publish

ROOT = Path(__file__).resolve().parents[1]
_COMPILE = ROOT / "sidecar" / "compile.py"
_PACKAGES = (ROOT / "sidecar" / "nova_sidecar", ROOT / "crds" / "nova_api")
_HOME = "opt/nova"
_SHIPPED = tuple(f"{_HOME}/{name}" for name in ("nova_sidecar/", "nova_sidecar__mypyc.", "nova_api/"))
_KEPT = 3  # trees of other states of the sources: going back and forth between two branches builds nothing


class CannotCompileError(Exception):
    """This machine lacks something, or mypyc refuses the sources; the message says what."""


def tree(image: Path | None = None) -> Path:
    """A folder for the front of PYTHONPATH. Building it takes a minute or more, and is told on standard error; `image`
    is the archive of the image that was built of these sources, if there is one."""
    files = [file for package in _PACKAGES for file in package.rglob("*") if file.suffix == ".py"]
    words = (str(sysconfig.get_config_var("SOABI")), platform.machine(), version("mypy"))
    folder = cache_root() / "compiled" / content_key([*files, _COMPILE], *words, relative_to=ROOT)
    publish(folder, partial(_make, image))
    os.utime(folder)
    _drop_old(folder.parent)
    return folder


def _make(image: Path | None, scratch: Path) -> None:
    if image is not None and _taken(image, scratch):
        return
    print("compiling the sidecar, once for these sources (a minute or more)", file=sys.stderr, flush=True)
    for package in _PACKAGES:
        shutil.copytree(package, scratch / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(_COMPILE), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise CannotCompileError(done.stderr.strip())


def _taken(image: Path, scratch: Path) -> bool:
    """Whether the image has it for this interpreter; then it is in `scratch`."""
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    with tarfile.open(image) as archive:
        for layer in json.load(_file(archive, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=_file(archive, layer)) as tar:
                ours = [each for each in tar if each.isfile() and each.name.startswith(_SHIPPED)]
                if any(each.name.endswith(suffix) for each in ours):
                    for each in ours:
                        target = scratch / Path(each.name).relative_to(_HOME)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(_file(tar, each.name).read())
                    return _loads(scratch)
    return False


def _loads(folder: Path) -> bool:
    """Whether this machine can run it: an image may have another C library. If not, the folder is empty again."""
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONOPTIMIZE": "2"}
    program = "from nova_sidecar import build, main, runtime; raise SystemExit(build.build() != 'compiled')"
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, check=False)
    if done.returncode:
        for each in folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    return done.returncode == 0


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None, name
    return found


def _drop_old(folder: Path) -> None:
    trees = sorted(
        (each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.stat().st_mtime
    )
    for each in trees[: -_KEPT - 1]:
        shutil.rmtree(each, ignore_errors=True)
