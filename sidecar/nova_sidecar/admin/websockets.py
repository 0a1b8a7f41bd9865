"""What is counted of WebSockets, as metrics; only ports that pass upgrades on have any."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from nova_sidecar.pipeline.stats import PortStats, WebSocketStats

_LABELS: Final = ("direction", "name")


def web_socket_metrics(ports: Sequence[PortStats]) -> Iterator[Family]:
    """How many there are, how many came, went and why, came back, and how long they lived."""
    open_now = GaugeFamily("nova_websocket_connections", "WebSockets now.", labels=_LABELS)
    opened = CounterFamily("nova_websocket_opened", "WebSockets opened.", labels=_LABELS)
    closed = CounterFamily(
        "nova_websocket_closed", "WebSockets closed, by who or what ended them.", labels=(*_LABELS, "reason")
    )
    reconnects = CounterFamily(
        "nova_websocket_reconnects", "WebSockets opened by a session that was seen before.", labels=_LABELS
    )
    duration = HistogramFamily("nova_websocket_duration_seconds", "Life of WebSockets.", labels=_LABELS)
    for port in ports:
        stats = port.web_sockets
        if not stats.possible:
            continue
        key = (port.direction, port.name)
        open_now.add_metric(key, stats.open)
        opened.add_metric(key, stats.opened)
        for reason, count in stats.closed.items():
            closed.add_metric((*key, reason.value), count)
        reconnects.add_metric(key, stats.reconnects)
        duration.add_metric(key, _cumulated(stats), stats.duration.sum)
    yield from (open_now, opened, closed, reconnects, duration)


def _cumulated(stats: WebSocketStats) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in stats.duration.bounds), "+Inf"]
    return list(zip(bounds, accumulate(stats.duration.buckets), strict=True))
