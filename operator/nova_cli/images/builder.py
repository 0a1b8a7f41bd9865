"""Two ways to turn a Dockerfile into an image archive."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nova_cli.cluster.cache import cache_root
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import docker_answers
from nova_cli.console import Console
from nova_cli.images.base import BUILD_REFERENCE, Base, local_base, shipped_base
from nova_cli.images.buildah import Buildah
from nova_cli.images.catalog import IMAGES, Image


class Builder(Protocol):
    """Builds images on one base."""

    base: Base

    def build(self, image: Image, root: Path, archive: Path) -> None:
        """Build `image` from the repository `root` and write it to `archive`."""


class DockerBuilder:
    """Docker, with the base images that the Dockerfiles name."""

    def __init__(self, root: Path) -> None:
        self.base = shipped_base(root / IMAGES[0].dockerfile)

    def build(self, image: Image, root: Path, archive: Path) -> None:
        """`docker build`, then `docker save`."""
        run(["docker", "build", "--file", root / image.dockerfile, "--tag", image.reference, root])
        run(["docker", "save", "--output", archive, image.reference])


class BuildahBuilder:
    """buildah, with a base made on this machine, on a storage that is thrown away in the end: nothing piles up."""

    def __init__(self, base: Base, storage: Path) -> None:
        self.base = base
        self._buildah = Buildah(storage, base=base.storage)

    def build(self, image: Image, root: Path, archive: Path) -> None:
        """`buildah bud`, then `buildah push` into an archive under the name that pods resolve to."""
        options = ["--build-arg", f"BASE_IMAGE={self.base.reference}"]
        if image.compiler(root).exists():
            options += ["--build-arg", f"BUILD_IMAGE={BUILD_REFERENCE}"]
        options += ["--network", "none", "--pull-never"]
        tag = ["--tag", image.full_reference]
        self._buildah.run("bud", *options, *tag, "--file", str(root / image.dockerfile), str(root), keep=root)
        # of the archives, Docker's has layers as they are; the one reader is a containerd on the same disk
        self._buildah.run("push", image.full_reference, f"docker-archive:{archive}:{image.full_reference}", keep=root)


@contextmanager
def builder(root: Path, console: Console) -> Iterator[Builder]:
    """The builder for this machine; what it needs to work with is gone afterwards."""
    if docker_answers():
        yield DockerBuilder(root)
        return
    base = local_base(console)
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(tempfile.TemporaryDirectory(dir=cache_root() / "images", prefix=".buildah-"))
        yield BuildahBuilder(base, Path(storage))
