"""What is counted of the stores that sidecars share, as metrics; only where there is one."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily, HistogramFamily

_STATES: Final = ("closed", "open", "half_open")


def store_metrics(stats: Mapping[str, Any]) -> Iterator[Family]:
    """Calls by what they were for, how they ended and how long they took, and whether the store is left alone; `stats`
    is the whole of `/stats`."""
    calls = CounterFamily(
        "nova_store_calls", "Calls to Redis, by whose they were and how they ended.", labels=("store", "result")
    )
    seconds = HistogramFamily(
        "nova_store_call_seconds", "Time that calls to Redis were waited for, by whose they were.", labels=("store",)
    )
    state = GaugeFamily(
        "nova_store_state",
        "1 for the state of the breaker around Redis, 0 for the others; while it is open Redis is left alone.",
        labels=("store", "state"),
    )
    for store, shown in (("sessions", stats["affinity"]), ("policies", stats["policies"])):
        seen = shown.get("store")
        if not seen:
            continue
        for result, count in seen["calls"].items():
            calls.add_metric((store, result), count)
        seconds.add_metric((store,), seen["took"], seen["seconds"])
        for each in _STATES:
            state.add_metric((store, each), float(seen["state"] == each))
    yield from (calls, seconds, state)
