"""What is counted of the stores that sidecars share, as metrics; only where there is one."""

from collections.abc import Mapping
from typing import Any

from nova_sidecar.admin.families import CounterFamily, Family


def store_metrics(stats: Mapping[str, Any]) -> Family:
    """Calls by what they were for and how they ended; `stats` is the whole of `/stats`."""
    calls = CounterFamily(
        "nova_store_calls", "Calls to Redis, by whose they were and how they ended.", labels=("store", "result")
    )
    for store, shown in (("sessions", stats["affinity"]), ("policies", stats["policies"])):
        for result, count in shown.get("store", {}).get("calls", {}).items():
            calls.add_metric((store, result), count)
    return calls
