"""Builds the images that have changed, in this order: base, wheels, images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster import packages
from nova_cli.cluster.cache import cache_root, locked
from nova_cli.cluster.provider import docker_answers
from nova_cli.cluster.requirements import require_root
from nova_cli.console import Console
from nova_cli.images import wheels
from nova_cli.images.builder import Builder, builder
from nova_cli.images.catalog import Image, find_repository, select


def build(console: Console, names: Sequence[str] = (), root: Path | None = None) -> list[Path]:
    """Archives of the images called `names`, or of all, in that order; built where their sources have changed."""
    repository = root or find_repository()
    wanted = select(list(names))
    if not docker_answers():
        require_root()
        packages.require(packages.IMAGES, console)
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"), builder(repository, console) as chosen:
        archives = {image: _archive(image, repository, chosen) for image in wanted}
        stale = [image for image, archive in archives.items() if not archive.exists()]
        if stale:
            _build(stale, repository, chosen, console)
        else:
            console.line("images are up to date")
    return list(archives.values())


def _archive(image: Image, root: Path, chosen: Builder) -> Path:
    """Where the archive is kept. The hash in its name makes it new whenever the sources are."""
    return cache_root() / "images" / f"nova-{image.name}-{image.key(root, chosen.base.key)}.tar"


def _build(stale: Sequence[Image], root: Path, chosen: Builder, console: Console) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        with console.step("build the wheel of nova"):
            nova = wheels.build_nova(root, Path(scratch))
        for image in stale:
            with console.step(f"collect wheels for {image.reference} (Python {chosen.base.python})"):
                wheels.collect(image, nova, chosen.base.python, root / "build" / "wheels" / image.name)
            with console.step(f"build {image.reference}"):
                _publish(image, root, chosen)


def _publish(image: Image, root: Path, chosen: Builder) -> None:
    """Build into a temporary file, put it in place, and drop the archives of older sources."""
    archive = _archive(image, root, chosen)
    scratch = archive.with_suffix(".part")
    scratch.unlink(missing_ok=True)
    chosen.build(image, root, scratch)
    for old in archive.parent.glob(f"nova-{image.name}-*.tar"):
        old.unlink()
    scratch.rename(archive)
