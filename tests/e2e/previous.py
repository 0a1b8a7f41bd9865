"""The previous release, to upgrade from: its chart, definition and programs, as they were at one commit.

Nothing has been released yet, so the commit is one that stands for it. Its operator and sidecar run on what the images
of today have below them (Python and the libraries): a layer on top takes today's programs away and puts those of then
in their place, which takes a second where building an image takes minutes. The sidecar's are Python, not compiled.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import IO

from nova_cli.cluster.process import run
from nova_cli.errors import CommandError
from nova_cli.images.catalog import Image, select

COMMIT = "df8c37e001bd38db0c0918b225a321e7bc63a097"
TAG = "previous"
_HOME = "opt/nova"
_OPAQUE = ".wh..wh..opq"
"""A file of this name hides what lower layers have in its folder (OCI image-spec 1.1, layer.md, opaque whiteout)."""
_UNNEEDED = {"manifest.json", "repositories", "index.json", "oci-layout"}


def sources(root: Path, folder: Path) -> Path:
    """Put the repository of then into `folder`. Raises CommandError where the clone does not go back so far."""
    archive = folder.with_suffix(".tar")
    run(["git", "-C", root, "archive", f"--output={archive}", COMMIT, "charts", "crds", "operator", "sidecar"])
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="tar")
    return folder


def image(name: str, today: Path, repository: Path, target: Path) -> Path:
    """The image `name` of then, as an archive in the folder `target`, made of the archive `today`."""
    (wanted,) = select([name])
    archive = target / f"{name}-{TAG}.tar"
    with tarfile.open(today) as old, tarfile.open(archive, "w") as new:
        for member in old.getmembers():
            if member.name not in _UNNEEDED:
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
        manifest = json.loads(_read(old, "manifest.json"))[0]
        config = json.loads(_read(old, manifest["Config"]))
        layer = _layer(repository, [Path(source) for source in wanted.sources])
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        config["history"] = []
        _add(new, f"{TAG}/layer.tar", layer)
        _add(new, f"{TAG}.json", json.dumps(config).encode())
        layers = [*manifest["Layers"], f"{TAG}/layer.tar"]
        tags = [_reference(wanted)]
        _add(new, "manifest.json", json.dumps([{"Config": f"{TAG}.json", "RepoTags": tags, "Layers": layers}]).encode())
    return archive


def _reference(wanted: Image) -> str:
    return f"{wanted.full_reference.rpartition(':')[0]}:{TAG}"


def _layer(repository: Path, packages: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for package in packages:
            _add(tar, f"{_HOME}/{package.name}/{_OPAQUE}", b"")
            tar.add(repository / package, f"{_HOME}/{package.name}", filter=_as_root)
    return buffer.getvalue()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    opened: IO[bytes] | None = tar.extractfile(name)
    if opened is None:
        raise CommandError(f"the image has no {name}")
    return opened.read()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
