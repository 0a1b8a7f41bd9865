"""The sidecar itself as metrics: configuration, reloads, logs, drain, and what the process uses."""

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nova_sidecar.admin.collector import counter, gauge
from nova_sidecar.admin.families import Collector, Family
from nova_sidecar.admin.view import View
from nova_sidecar.pipeline.protection import Guard
from nova_sidecar.policy.drain import Phase
from nova_sidecar.policy.protection import Cause

_STATM: Final = Path("/proc/self/statm")


class RuntimeCollector(Collector):
    """What holds for the process as a whole.

    The library's own process collector is not used: it lists every file descriptor at each scrape, which takes tens
    of milliseconds with a hundred thousand connections.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Family]:
        """One family after the other."""
        view, reloader = self._view, self._view.reloader
        yield gauge("nova_build_info", "1; the version is in the label.", ("version",), [((view.version,), 1)])
        yield gauge(
            "nova_config_info",
            "1 for the configuration in force; its hash is in the label.",
            ("hash",),
            [((reloader.document.hash,), 1)],
        )
        yield counter(
            "nova_config_reloads",
            "Changed configurations by result: applied, or refused while the old one stayed in force.",
            ("result",),
            [(("applied",), reloader.applied), (("refused",), reloader.refused)],
        )
        yield gauge(
            "nova_config_stale",
            "1 while the file holds a refused configuration.",
            (),
            [((), reloader.refusal is not None)],
        )
        yield gauge(
            "nova_phase",
            "1 for the phase the sidecar is in, 0 for the others.",
            ("phase",),
            [((str(phase),), view.drain.phase is phase) for phase in Phase],
        )
        yield counter(
            "nova_log_dropped", "Log lines lost because their reader was too slow.", (), [((), view.sink.dropped)]
        )
        yield from _protection(view.proxy.guard)
        yield from _process(view.started)


def _protection(guard: Guard) -> Iterator[Family]:
    decided, usage = guard.decided, guard.usage
    yield gauge("nova_event_loop_lag_seconds", "How late the event loop came round lately.", (), [((), guard.lag)])
    yield gauge("nova_event_loop_tasks", "Tasks of the event loop now.", (), [((), len(asyncio.all_tasks()))])
    yield gauge(
        "nova_memory_used_ratio", "Memory in use, as a share of the container's limit; 0 without one.", (),
        [((), usage.memory)],
    )  # fmt: skip
    yield gauge("process_open_fds", "Open descriptors; an estimate before Linux 6.2.", (), [((), usage.descriptors)])
    yield gauge("process_max_fds", "Descriptors there may be; 0: no limit.", (), [((), usage.descriptor_limit)])
    yield gauge(
        "nova_self_protection_active",
        "1 while the sidecar is at its limit (selfProtection), by cause.",
        ("cause",),
        [((str(cause),), decided.active(cause)) for cause in Cause],
    )
    for name, text, counts in (
        ("nova_self_protection_raised", "Times the sidecar came to a limit, by cause.", decided.raised),
        ("nova_downstream_connections_refused", "Connections from callers closed at once.", guard.turned_away),
        (
            "nova_downstream_connections_shadow_refused",
            "Connections that self-protection in Shadow mode would have closed.",
            guard.would_turn_away,
        ),
    ):
        yield counter(name, text, ("cause",), [((str(cause),), count) for cause, count in counts.items()])


def _process(started: float) -> Iterator[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield counter("process_cpu_seconds", "User and system CPU time.", (), [((), used.ru_utime + used.ru_stime)])
    yield gauge("process_resident_memory_bytes", "Resident memory.", (), [((), _resident_bytes(used.ru_maxrss))])
    yield gauge("process_start_time_seconds", "Start of the process since the epoch.", (), [((), started)])


def _resident_bytes(peak_kib: int) -> int:
    """Present resident memory where /proc tells it (proc(5), statm), else the peak."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return peak_kib * 1024
