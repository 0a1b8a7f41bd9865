"""Two ways to turn a Dockerfile into an image archive."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nova_cli.cluster.cache import cache_root
from nova_cli.cluster.namespaces import make_own_folders, mount_script
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import docker_answers
from nova_cli.console import Console
from nova_cli.images.base import Base, local_base, shipped_base
from nova_cli.images.catalog import IMAGES, Image

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
    """buildah, with a base made on this machine.

    It runs in a mount namespace and with a storage of its own, which is thrown away in the end: buildah would otherwise
    leave a mount and every layer it ever made on the machine. Importing the base again costs two seconds.
    """

    def __init__(self, base: Base, storage: Path) -> None:
        self.base = base
        self._storage = storage
        self._ready = False
        make_own_folders(storage / "hidden")

    def build(self, image: Image, root: Path, archive: Path) -> None:
        """`buildah bud`, then `buildah push` into an archive under the name that pods resolve to."""
        if not self._ready:
            self._import_base()
        arguments = ["--build-arg", f"BASE_IMAGE={self.base.reference}", "--network", "none", "--pull-never"]
        tag = ["--tag", image.full_reference]
        self._buildah("bud", *arguments, *tag, "--file", str(root / image.dockerfile), str(root), keep=root)
        # the archive is read once, by a containerd on the same disk: compressing it would take longer than that
        target = f"docker-archive:{archive}:{image.full_reference}"
        self._buildah("push", image.full_reference, target, keep=root)

    def _import_base(self) -> None:
        assert self.base.archive is not None  # noqa: S101 - local bases have one
        file = self._storage / "Dockerfile"
        file.write_text(f"FROM scratch\nADD {self.base.archive.name} /\nENV PATH={PATH}\n")
        context = self.base.archive.parent
        self._buildah("bud", "--tag", self.base.reference, "--file", str(file), str(context), keep=context)
        self._ready = True

    def _buildah(self, verb: str, *arguments: str, keep: Path) -> None:
        """Run buildah on this machine's files as they are, but for the folders it writes to unasked."""
        hide = mount_script(self._storage / "hidden", keep=[cache_root(), keep])
        apart = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-eu", "-c", f'{hide}\nexec "$@"', "sh"]
        storage = ["--root", str(self._storage / "root"), "--runroot", str(self._storage / "run")]
        settings = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay", "TMPDIR": str(self._storage)}
        run([*apart, "buildah", *storage, verb, *arguments], env=settings)


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
