"""The image with PostgreSQL, Redis and Kafka, for who needs them as pods: Debian's packages and Maven's libraries."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from nova_cli.cluster import packages
from nova_cli.cluster.cache import cache_root, content_key, locked
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import docker_answers
from nova_cli.cluster.requirements import require_root
from nova_cli.console import Console
from nova_cli.images.base import codename, import_root_file_system
from nova_cli.images.buildah import Buildah
from nova_cli.images.catalog import VERSION
from nova_cli.services import kafka

REFERENCE: Final = f"nova/stores:{VERSION}"
RECIPE: Final = Path(__file__).with_name("stores.Dockerfile")
_BASE: Final = "localhost/nova/stores-base:1"
_PACKAGES: Final = "postgresql,redis-server,openjdk-17-jre-headless"
_UNUSED: Final = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/lib/jvm/*/man/*",  # else the package links to it from the folder that is left out above
    # a compiler for long queries, a quarter of it all; PostgreSQL does without where it is not there
    "/usr/lib/*/libLLVM*",
    "/usr/lib/llvm*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
)


def build_stores(console: Console) -> Path:
    """The image's archive, built where its recipe has changed."""
    docker = docker_answers()
    if not docker:
        require_root("building images")
        packages.require((*packages.IMAGES, *packages.KAFKA), console)
    suite = "docker" if docker else codename()
    key = content_key([RECIPE, kafka.POM], suite, _PACKAGES, *_UNUSED)
    folder = cache_root() / "images"
    archive = folder / f"nova-stores-{key}.tar"
    libraries = kafka.libraries(console)
    with locked(folder / ".stores.lock"):
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".stores-") as scratch:
                shutil.copytree(libraries, Path(scratch, "kafka"))
                made = Path(scratch, "image.tar")
                if docker:
                    _with_docker(Path(scratch), made, console)
                else:
                    _with_buildah(Path(scratch), made, suite, console)
                for old in folder.glob("nova-stores-*.tar"):
                    old.unlink()
                made.rename(archive)
    return archive


def _with_docker(scratch: Path, archive: Path, console: Console) -> None:
    with console.step(f"build {REFERENCE}"):
        run(["docker", "build", "--file", RECIPE, "--tag", REFERENCE, scratch])
        run(["docker", "save", "--output", archive, REFERENCE])


def _with_buildah(scratch: Path, archive: Path, suite: str, console: Console) -> None:
    """On a base that has the packages, since the build itself has no network."""
    buildah = Buildah(scratch / "storage")
    with console.step(f"install {_PACKAGES} into a base image ({suite}, once)"):
        root = scratch / "rootfs.tar"
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNUSED]
        # the databases that the package makes for a machine of its own
        emptied = '--customize-hook=rm -rf "$1"/var/lib/postgresql "$1"/var/lib/apt/lists'
        options = ["--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={_PACKAGES}", *excluded, emptied]
        run(["mmdebstrap", *options, suite, root], env={"LC_ALL": "C.UTF-8"})
        import_root_file_system(root, _BASE, buildah)
        root.unlink()
    with console.step(f"build {REFERENCE}"):
        name = f"docker.io/{REFERENCE}"
        options = ["--build-arg", f"BASE_IMAGE={_BASE}", "--network", "none", "--pull-never", "--tag", name]
        shutil.copy(RECIPE, scratch / "Dockerfile")
        buildah.run("bud", *options, "--file", str(scratch / "Dockerfile"), str(scratch), keep=scratch)
        buildah.run("push", name, f"docker-archive:{archive}:{name}", keep=scratch)
