"""The sidecar itself as metrics: configuration, reloads, logs, drain, and what the process uses."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nova_sidecar.admin.collector import counter, gauge
from nova_sidecar.admin.view import View
from nova_sidecar.policy.drain import Phase

_STATM: Final = Path("/proc/self/statm")


class RuntimeCollector(Collector):
    """What holds for the process as a whole.

    The library's own process collector is not used: it lists every file descriptor at each scrape, which takes tens
    of milliseconds with a hundred thousand connections.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
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
        yield from _process(view.started)


def _process(started: float) -> Iterator[Metric]:
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
