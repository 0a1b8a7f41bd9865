"""The cgroup of a cluster. It limits nothing; it is the one list of processes that nobody can leave by forking.

It only sees that pods get their part of the processors. To the scheduler a group is one process, however many are in
it, so beside a compiler's dozen the pods of a cluster would starve together: hence the weight.

Container runtimes start daemons that start daemons. Recording pids would miss those, but a child is born into the
cgroup of its parent, so whatever is left in there when a cluster stops belongs to the cluster. Pods live below it as
well. Both generations are served: one tree (v2), or one tree per controller (v1).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from nova_cli.cluster.mounts import Mount, mounts
from nova_cli.cluster.process import wait_until
from nova_cli.errors import CommandError

ROOT = Path("/sys/fs/cgroup")
OUTER_WEIGHT = 4
TRACKER = ("pids", "systemd", "memory", "cpu")
"""The v1 trees that may keep our list, best first."""


def trees(among: list[Mount]) -> list[Path]:
    """Where cgroups are made: the v2 tree if it is mounted at the root, else every tree below it (a v2 one as well)."""
    if any(mount.target == ROOT and mount.kind == "cgroup2" for mount in among):
        return [ROOT]
    kinds = ("cgroup", "cgroup2")
    return [mount.target for mount in among if mount.kind in kinds and mount.target.is_relative_to(ROOT)]


class Cgroup:
    """The cgroup called `name` in every tree: NAME/system for our own processes, NAME/kubepods for the kubelet's, and
    NAME/NODE, which has the same two in it, for each further node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._trees = trees(mounts())
        if not self._trees:
            raise CommandError(f"no cgroup file system is mounted under {ROOT}, which containers need")

    def inner(self, name: str) -> Cgroup:
        """The one called `name` inside of this one."""
        return Cgroup(f"{self.name}/{name}")

    @property
    def tasks(self) -> Path:
        """The file that a process writes its pid to in order to join."""
        names = {tree.name: tree for tree in self._trees}
        tree = next((names[name] for name in TRACKER if name in names), self._trees[0])
        return tree / self.name / "system" / "cgroup.procs"

    def create(self) -> None:
        """Make it, with every controller that the kubelet looks for."""
        for tree in self._trees:
            folder = tree / self.name
            if tree == ROOT:
                _delegate(folder.parent)
            folder.mkdir(exist_ok=True)
            _inherit_cpuset(folder.parent, folder)
            weigh(folder, as_heavy_as=OUTER_WEIGHT if folder.parent == tree else 1)
            if tree == ROOT:
                _delegate(folder)
            (folder / "system").mkdir(exist_ok=True)
            _inherit_cpuset(folder, folder / "system")

    def pids(self, below: str = "") -> set[int]:
        """All processes in it, or in its descendant `below`."""
        found: set[int] = set()
        for folder in self._folders(below):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        return found

    def kill(self) -> None:
        """Kill everything in it; again and again, since a process may fork while its siblings die."""

        def empty() -> bool:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.pids()

        if not wait_until(empty, 10):
            raise CommandError(f"these processes of the cluster cannot be killed: {sorted(self.pids())}")

    def remove(self) -> None:
        """Remove it from every tree. The kernel needs a moment after the last process, hence the patience."""

        def gone() -> bool:
            for folder in self._folders():
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return not any((tree / self.name).exists() for tree in self._trees)

        if not wait_until(gone, 5):
            raise CommandError(f"the cgroup {self.name} cannot be removed from {ROOT}")

    def _folders(self, below: str = "") -> Iterator[Path]:
        """Every cgroup folder, children before their parents."""
        for tree in self._trees:
            for folder, _, _ in os.walk(tree / self.name / below, topdown=False):
                yield Path(folder)


def _inherit_cpuset(parent: Path, child: Path) -> None:
    """A new v1 cpuset allows no processor and no memory at all, and refuses processes until it does."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            if (text := (parent / file).read_text().strip()) and (child / file).exists():
                (child / file).write_text(text)


def weigh(folder: Path, *, as_heavy_as: int) -> None:
    """Let it count as so many processes for each processor of the machine; the kubelet's group for pods counts as one.
    In v2 as the kubelet converts it (KEP-2254)."""
    shares = 1024 * as_heavy_as * (os.cpu_count() or 1)
    for file, value in (("cpu.shares", shares), ("cpu.weight", 1 + (shares - 2) * 9999 // 262142)):
        if (folder / file).exists():
            (folder / file).write_text(str(value))


def _delegate(folder: Path) -> None:
    """Enable every v2 controller for the children of `folder`; one by one, because one refusal would refuse all."""
    for controller in (folder / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
