"""Collects what an image installs: the wheel of nova, its dependencies for another Python than ours, and pip."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from nova_cli.cluster.process import run
from nova_cli.errors import CommandError
from nova_cli.images.catalog import Image

GLIBC = [f"_2_{minor}" for minor in range(28, 16, -1)] + ["2014"]
"""The versions of the C library that wheels may be made for. Debian 10 has 2.28, so any base of today will do."""

EXTRAS: Mapping[str, str] = {"sidecar": "graphql,jwt,sidecar,store,tracing", "services": "services,data"}
"""What of the package an image installs, where it is not the extra of its own name; as in its Dockerfile."""


def build_nova(root: Path, target: Path) -> Path:
    """Build the wheel of this repository into `target`."""
    _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(root))
    wheels = sorted(target.glob("nova-*.whl"))
    if not wheels:
        raise CommandError(f"pip built no wheel of nova from {root}")
    return wheels[-1]


def collect(image: Image, root: Path, nova: Path, python: str, target: Path) -> None:
    """Fill the folder `target` with wheels for `image` on Python `python`, and with what compiles it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    extras = EXTRAS.get(image.name, image.name)
    compiler = image.compiler(root)
    if compiler.exists():
        extras += ",compile"
        shutil.copy(compiler, target)
    requirements = [f"nova[{extras}] @ {nova.as_uri()}", "pip"]
    options = ["--quiet", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    _pip("download", *options, *platforms(os.uname().machine), "--dest", str(target), *requirements)


def platforms(machine: str) -> list[str]:
    """pip's options for the platforms whose wheels may be used: Linux, the processor of this machine."""
    processor = {"arm64": "aarch64"}.get(machine, machine)
    return [f"--platform=manylinux{version}_{processor}" for version in GLIBC]


def _pip(*arguments: str) -> None:
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])
