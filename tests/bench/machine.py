"""What the kernel says: who ran on which core, for how long, in how much memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The core of the proxies and the core of load generator and upstream; the same one where there is only one."""

    proxy: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return cls(proxy=allowed[0], load=allowed[min(1, len(allowed) - 1)])


@dataclass(frozen=True)
class Memory:
    """Memory of a process tree in MB: RSS counts shared pages once per process, PSS shares them out."""

    rss_mb: float
    pss_mb: float


def process_tree(root: int) -> list[int]:
    """`root` and all its descendants that still run."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
            queue += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            continue
        found.append(pid)
    return found


def cpu_ns(root: int) -> int:
    """CPU time of a process tree in nanoseconds.

    /proc/PID/schedstat counts in nanoseconds, which matters at a fixed low rate: /proc/PID/stat counts in 10 ms ticks.
    """
    return sum(thread_group_ns(pid) for pid in process_tree(root))


def thread_group_ns(pid: int) -> int:
    """CPU time of one process in nanoseconds, without its children."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return _cpu_ticks_of(pid) * _TICK_NS  # a kernel built without schedstat


def _cpu_ticks_of(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def memory(root: int) -> Memory:
    """Resident memory of a process tree now."""
    totals = {"Rss:": 0, "Pss:": 0}
    for pid in process_tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, *rest = line.split()
            if key in totals:
                totals[key] += int(rest[0])
    return Memory(rss_mb=totals["Rss:"] / 1024, pss_mb=totals["Pss:"] / 1024)


def core_busy_ns(core: int) -> int:
    """Time one core has spent on anything but idling, steal by the hypervisor included."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in values[:8])
            return (user + nice + system + irq + softirq + steal) * _TICK_NS
    raise LookupError(f"/proc/stat has no cpu{core}")


@dataclass(frozen=True)
class Usage:
    """What one measured interval cost."""

    cpu_ns: int  #: of the process under test
    foreign_share: float  #: of the proxy core's time that went to somebody else
    load_share: float  #: of the load core's time that was busy; near 1 the generator is the limit


class Meter:
    """Reads the counters when made; `stop` returns the difference."""

    __slots__ = ("_before", "_cores", "_pid")

    def __init__(self, pid: int, cores: Cores) -> None:
        self._pid = pid
        self._cores = cores
        self._before = self._read()

    def stop(self) -> Usage:
        wall, own, proxy_core, load_core = (now - then for now, then in zip(self._read(), self._before, strict=True))
        on_proxy_core = own if self._is_on_proxy_core() else 0
        return Usage(
            cpu_ns=own,
            foreign_share=max(0.0, (proxy_core - on_proxy_core) / wall),
            load_share=min(1.0, load_core / wall),
        )

    def _is_on_proxy_core(self) -> bool:
        return self._cores.proxy in os.sched_getaffinity(self._pid)

    def _read(self) -> tuple[int, int, int, int]:
        return (
            time.monotonic_ns(),
            cpu_ns(self._pid),
            core_busy_ns(self._cores.proxy),
            core_busy_ns(self._cores.load),
        )
