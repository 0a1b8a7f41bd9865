"""The base image: one with Python in it, and the version of that Python, which the wheels must fit."""

from __future__ import annotations

import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from nova_cli.cluster.cache import cache_root, content_key, publish
from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.errors import CommandError
from nova_cli.images.buildah import Buildah

PACKAGES = "python3,ca-certificates"
LOCAL_REFERENCE = "localhost/nova/python:1"
BUILD_PACKAGES = f"{PACKAGES},python3-dev,gcc,libc6-dev"
BUILD_REFERENCE = "localhost/nova/python-build:1"
"""The same with what compiling needs; only build stages begin with it."""
ROOT_FILE_SYSTEM = "rootfs.tar"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_PYTHON = re.compile(r"^\./usr/bin/python(3\.\d+)$")
_DEFAULT_BASE = re.compile(r"^ARG BASE_IMAGE=(\S*python:(3\.\d+)\S*)$", re.MULTILINE)


@dataclass(frozen=True)
class Base:
    """A base image."""

    reference: str
    python: str
    """Such as `3.13`."""
    key: str
    """Changes when its content does, as far as can be known without fetching it."""
    storage: Path | None = None
    """buildah's storage that has it, where it was made here."""


def shipped_base(dockerfile: Path) -> Base:
    """The base that the Dockerfile names itself; Docker will fetch it."""
    match = _DEFAULT_BASE.search(dockerfile.read_text())
    if match is None:
        raise CommandError(f"{dockerfile} has no line `ARG BASE_IMAGE=python:3.…`, which says what wheels it needs")
    return Base(reference=match[1], python=match[2], key=match[1])


def local_base(console: Console) -> Base:
    """A base of this machine's own distribution, made with mmdebstrap where no registry can be reached. Made once."""
    suite = codename()
    key = content_key([], "2", suite, PACKAGES, BUILD_PACKAGES, *_UNUSED)
    folder = cache_root() / "images" / f"base-{key}"

    def make(scratch: Path) -> None:
        archive, buildah = scratch / ROOT_FILE_SYSTEM, Buildah(scratch / "storage")
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNUSED]
        for packages, reference in ((PACKAGES, LOCAL_REFERENCE), (BUILD_PACKAGES, BUILD_REFERENCE)):
            with console.step(f"make the base image {reference} ({suite}, once)"):
                run(["mmdebstrap", "--variant=minbase", f"--include={packages}", *excluded, suite, archive])
                (scratch / "python").write_text(_python_version(archive))
                import_root_file_system(archive, reference, buildah)
                archive.unlink()

    publish(folder, make)
    return Base(LOCAL_REFERENCE, (folder / "python").read_text(), key, folder / "storage")


def import_root_file_system(archive: Path, reference: str, buildah: Buildah) -> None:
    """Turn the root file system in `archive` into the image `reference` of buildah's storage."""
    recipe = archive.with_name("Dockerfile")
    recipe.write_text(f"FROM scratch\nADD {archive.name} /\nENV PATH={PATH}\n")
    folder = archive.parent
    buildah.run("bud", "--tag", reference, "--file", str(recipe), str(folder), keep=folder)


def codename(os_release: Path = Path("/etc/os-release")) -> str:
    """Of this machine's Debian or Ubuntu, such as `bookworm`. Raises CommandError on others."""
    match = re.search(r"^VERSION_CODENAME=\"?([a-z]+)", os_release.read_text(), re.MULTILINE)
    if match is None or not shutil.which("mmdebstrap"):
        raise CommandError("a base image can be made on Debian and Ubuntu only; start Docker to build images elsewhere")
    return match[1]


def _python_version(archive: Path) -> str:
    with tarfile.open(archive) as tar:
        for name in tar.getnames():
            if match := _PYTHON.match(name):
                return match[1]
    raise CommandError(f"{archive} has no Python")
