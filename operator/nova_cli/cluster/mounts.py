"""What is mounted on this machine, read from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nova_cli.cluster.process import run


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    target: Path
    kind: str
    """The file system type."""
    options: tuple[str, ...]
    """Those of the file system, where cgroup v1 names its controllers."""


def parse(text: str) -> list[Mount]:
    """Parse mountinfo: six fields, optional ones up to a lone dash, then type, source and options."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        found.append(Mount(Path(_unescape(left.split(" ")[4])), kind, tuple(options.split(","))))
    return found


def mounts() -> list[Mount]:
    """All mounts that this process sees, in the order they were made."""
    return parse(Path("/proc/self/mountinfo").read_text())


def below(folder: Path, among: list[Mount]) -> list[Path]:
    """The mount points at or under `folder`, innermost first: the order in which they can be taken away."""
    return [mount.target for mount in reversed(among) if mount.target.is_relative_to(folder)]


def unmount_below(folder: Path) -> None:
    """Take away every mount under `folder`. Deleting a folder that still holds a mount would delete what is mounted."""
    for target in below(folder.resolve(), mounts()):
        run(["umount", "--lazy", target])


def holding(path: Path, among: list[Mount]) -> Mount:
    """The mount that `path` lies on."""
    return max((m for m in among if path.is_relative_to(m.target)), key=lambda m: len(m.target.parts))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
