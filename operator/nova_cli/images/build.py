"""Builds the images that have changed, in this order: base, wheels, images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nova_cli.cluster import packages
from nova_cli.cluster.cache import cache_root, locked
from nova_cli.cluster.provider import docker_answers
from nova_cli.cluster.requirements import require_root
from nova_cli.console import Console
from nova_cli.images import wheels
from nova_cli.images.builder import Builder, builder
from nova_cli.images.catalog import Image, select
from nova_cli.repository import find_repository


def build(console: Console, names: Sequence[str] = (), root: Path | None = None) -> list[Path]:
    """Archives of the images called `names`, or of all, in that order; built where their sources have changed."""
    repository = root or find_repository()
    wanted = select(list(names))
    if not docker_answers():
        require_root("building images")
        packages.require(packages.IMAGES, console)
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"), builder(repository, console) as chosen:
        # the hash in an archive's name makes it new whenever the sources are; it is taken once, before they are read
        keys = {image: image.key(repository, chosen.base.key) for image in wanted}
        archives = {image: folder / f"nova-{image.name}-{key}.tar" for image, key in keys.items()}
        stale = {image: archive for image, archive in archives.items() if not archive.exists()}
        if stale:
            _build(stale, repository, chosen, console)
        else:
            console.line("images are up to date")
    return list(archives.values())


def _build(stale: Mapping[Image, Path], root: Path, chosen: Builder, console: Console) -> None:
    """Build the images, collecting the wheels of the next while one is built."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(max_workers=1) as collector:
        with console.step("build the wheel of nova"):
            nova = wheels.build_nova(root, Path(scratch))

        def collect(image: Image) -> None:
            with console.step(f"collect wheels for {image.reference} (Python {chosen.base.python})"):
                wheels.collect(image, root, nova, chosen.base.python, root / "build" / "wheels" / image.name)

        collected = {image: collector.submit(collect, image) for image in stale}
        for image, archive in stale.items():
            collected[image].result()
            with console.step(f"build {image.reference}"):
                _publish(image, root, chosen, archive)


def _publish(image: Image, root: Path, chosen: Builder, archive: Path) -> None:
    """Build into a temporary file, put it in place, and drop the archives of older sources."""
    scratch = archive.with_suffix(".part")
    scratch.unlink(missing_ok=True)
    chosen.build(image, root, scratch)
    for old in archive.parent.glob(f"nova-{image.name}-*.tar"):
        old.unlink()
    scratch.rename(archive)
