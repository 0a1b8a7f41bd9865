"""The figures for programs and the table for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from statistics import median
from typing import Any

from .after import Rest
from .converge import Round

LIMIT = 1.5


def figures(
    count: int, *, bare: Sequence[Round], operator: Sequence[Round], base_mb: float, peak: Rest, found: dict[str, Any]
) -> dict[str, Any]:
    """The document that is written as JSON. Ratios are of neighbouring rounds, and their median counts: what else the
    machine did meanwhile slows both."""
    ratios = [one.seconds / other.seconds for one, other in zip(operator, bare, strict=True)]
    return {
        f"converge_{count}": {
            "ratio_raw_client": round(median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "seconds": round(median(one.seconds for one in operator), 2),
            "raw_client_seconds": round(median(one.seconds for one in bare), 2),
            "cpu_ms_per_service": _cpu(operator),
            "raw_client_cpu_ms_per_service": _cpu(bare),
        },
        f"memory_mb_{count}": round(peak.rss_mb, 1),
        "memory_mb_without_services": round(base_mb, 1),
        f"idle_{count}": {
            "api_calls_per_minute": round(peak.calls_per_minute, 1),
            "cpu_percent_of_a_core": round(peak.cpu_percent, 2),
        },
        **found,
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def table(document: dict[str, Any], count: int) -> str:
    """What the run found, line by line."""
    converge, idle = document[f"converge_{count}"], document[f"idle_{count}"]
    lines = [
        f"{count} services converge      {converge['seconds']:.1f} s",
        f"a bare client writes them   {converge['raw_client_seconds']:.1f} s",
        f"ratio                       {converge['ratio_raw_client']:.2f}   (rounds {converge['ratios']}; goal {LIMIT})",
        "",
        "CPU ms for each service     " + _columns(converge["cpu_ms_per_service"]),
        "  with the bare client      " + _columns(converge["raw_client_cpu_ms_per_service"]),
        "",
        f"memory                      {document[f'memory_mb_{count}']:.0f} MB, without services "
        f"{document['memory_mb_without_services']:.0f} MB",
        f"at rest                     {idle['api_calls_per_minute']:.0f} API calls a minute, "
        f"{idle['cpu_percent_of_a_core']:.1f} % of a core",
    ]
    words = {
        "config_to_sidecar_seconds": "a change is in the sidecar",
        "drift_seconds": "drift is put back",
        "change_seconds": "a change is written",
        "change_beside_noise_seconds": "  beside a noisy service",
    }
    for key, word in words.items():
        if key in document:
            times = document[key]
            noise = f"; {times['noise_per_second']:.0f} changes a second" if "noise_per_second" in times else ""
            about = f"({times['samples']} times{noise})"
            lines.append(f"{word:27} p50 {times['p50']:.2f} s, p99 {times['p99']:.2f} s {about}")
    return "\n".join(lines)


def _columns(spent: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in spent.items())


def _cpu(rounds: Sequence[Round]) -> dict[str, float]:
    return {name: round(median(one.cpu_ms[name] for one in rounds), 2) for name in rounds[0].cpu_ms}
