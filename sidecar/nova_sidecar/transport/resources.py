"""What this process uses of what it may use: memory of its control group, descriptors of its limit.

Control groups: kernel documentation, admin-guide/cgroup-v2 and cgroup-v1/memory. Page cache that the kernel can drop at
once (inactive_file) is no pressure, so it is left out, as the kubelet does.
"""

import os
import resource
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 1 << 60  # version 1 writes a number near 2^63 for no limit
_ROOT: Final = Path("/")


class Memory:
    """The control group's memory; `find` gives None where there is no limit."""

    __slots__ = ("_limit", "_stat", "_stat_key", "_usage")

    def __init__(self, limit: Path, usage: Path, stat: Path, stat_key: str) -> None:
        self._limit = limit
        self._usage = usage
        self._stat = stat
        self._stat_key = stat_key

    @classmethod
    def find(cls, root: Path = _ROOT) -> "Memory | None":
        """The limit that holds for this process, version 2 before version 1."""
        groups = _groups(root)
        mounted = root / "sys/fs/cgroup"
        candidates = []
        if "" in groups:
            for group in {groups[""]: None, "": None}:
                base = mounted / group
                files = (base / "memory.max", base / "memory.current", base / "memory.stat")
                candidates.append(cls(*files, "inactive_file"))
        if "memory" in groups:
            for group in {groups["memory"]: None, "": None}:
                base = mounted / "memory" / group
                files = (base / "memory.limit_in_bytes", base / "memory.usage_in_bytes", base / "memory.stat")
                candidates.append(cls(*files, "total_inactive_file"))
        return next((found for found in candidates if found.limit()), None)

    def limit(self) -> int:
        """Bytes; 0 when there is none."""
        try:
            text = self._limit.read_text().strip()
        except OSError:
            return 0
        return int(text) if text.isdigit() and int(text) < _UNLIMITED else 0

    def share(self) -> float:
        """Memory in use as a share of the limit, 0 when that is not known; a limit may change at any time."""
        limit = self.limit()
        try:
            used = int(self._usage.read_text()) - self._droppable()
        except (OSError, ValueError):
            return 0.0
        return used / limit if limit else 0.0

    def _droppable(self) -> int:
        for line in self._stat.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == self._stat_key:
                return int(value)
        return 0

    def __repr__(self) -> str:
        return f"<Memory {self._limit}>"


def _groups(root: Path) -> dict[str, str]:
    """This process's control groups by controller; "" is version 2's."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    groups = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path.strip("/")
    return groups


def descriptor_limit() -> int:
    """How many descriptors this process may have; 0: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def descriptors_open(known: int) -> int:
    """How many descriptors are open. The kernel tells from 6.2 on; before, those known to be sockets are an estimate,
    since listing them all takes tens of milliseconds when they are many."""
    try:
        return os.stat("/proc/self/fd").st_size or known
    except OSError:
        return known
