"""The data path's counters as metrics.

The data path counts in plain integers; here they get names, at the moment somebody asks. Nothing is counted twice, and
a scrape is the only thing that costs. Every series is there from the start with zero, so that a rate or an alert has
something to start from, and all label values come from the configuration or from fixed lists. docs/metrics.md
describes each of them for users; a test keeps the two equal.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from nova_sidecar.admin.affinity import affinity_metrics
from nova_sidecar.admin.cache import cache_metrics
from nova_sidecar.admin.calls import call_metrics
from nova_sidecar.admin.coalescing import coalescing_metrics
from nova_sidecar.admin.families import Collector, CounterFamily, Family, GaugeFamily, HistogramFamily
from nova_sidecar.admin.idempotency import idempotency_metrics
from nova_sidecar.admin.jwt import jwt_metrics
from nova_sidecar.admin.pool_guard import pool_guard_metrics
from nova_sidecar.admin.rate_limit import rate_limit_metrics
from nova_sidecar.admin.relays import relay_metrics
from nova_sidecar.admin.stores import store_metrics
from nova_sidecar.admin.tenancy import tenancy_metrics
from nova_sidecar.admin.tls import tls_metrics
from nova_sidecar.admin.view import View
from nova_sidecar.admin.websockets import web_socket_metrics
from nova_sidecar.pipeline.stats import DURATION_BOUNDS, Histogram, PortStats

_PORT: Final = ("direction", "name")
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_STATES: Final = ("closed", "open", "half_open")

Labelled = Iterable[tuple[Sequence[str], float]]
"""Values with the label values they belong to."""

_COUNTERS: Final[tuple[tuple[str, str, Callable[[PortStats], int]], ...]] = (
    ("nova_retries", "Attempts after the first one.", lambda p: p.retries),
    ("nova_connections_opened", "Connections opened to the app or upstream.", lambda p: p.connections_opened),
    ("nova_connect_failures", "Connections to the app or upstream that failed to open.", lambda p: p.connect_failures),
    ("nova_downstream_connections_accepted", "Connections accepted from callers.", lambda p: p.downstream_total),
    ("nova_request_body_bytes", "Request bodies read from callers, bytes.", lambda p: p.bytes_in),
    ("nova_response_body_bytes", "Response bodies written to callers, bytes.", lambda p: p.bytes_out),
)
_LABELLED_COUNTERS: Final[tuple[tuple[str, str, str, Callable[[PortStats], Mapping[Any, int]]], ...]] = (
    ("nova_requests", "Finished exchanges by status class; none: ended before a response head.", "code",
     lambda p: dict(zip(_CLASSES, p.responses, strict=True))),
    ("nova_rejected", "Refusals and break-offs by Nova itself, by reason.", "reason", lambda p: p.rejected),
    ("nova_shadow_rejected", "What policies in Shadow mode would have refused, by reason.", "reason",
     lambda p: p.shadow_rejected),
    ("nova_retries_suppressed", "Failed attempts that were not repeated, by reason.", "reason",
     lambda p: p.retries_suppressed),
    ("nova_fallbacks", "Answers in place of the upstream's that failed, by kind.", "kind", lambda p: p.fallbacks),
    ("nova_shadow_fallbacks", "Those that a policy in Shadow mode would have given, by kind.", "kind",
     lambda p: p.shadow_fallbacks),
    ("nova_connections_closed", "Connections to the app or upstream that were closed, by reason.", "reason",
     lambda p: p.connections_closed),
    ("nova_correlation_ids", "Correlation ids by origin: taken over from the caller or generated.", "origin",
     lambda p: {"taken": p.correlation_taken, "generated": p.correlation_generated}),
)  # fmt: skip
_GAUGES: Final[tuple[tuple[str, str, Callable[[PortStats], int]], ...]] = (
    ("nova_requests_in_flight", "Exchanges now.", lambda p: p.in_flight),
    ("nova_downstream_connections", "Connections from callers now.", lambda p: p.downstream_active),
)


class ProxyCollector(Collector):
    """Requests, refusals, retries, connections, breakers, limiters and pools."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Family]:
        """One family after the other."""
        ports = list(self._view.proxy.stats.ports.values())
        for name, text, label, values in _LABELLED_COUNTERS:
            rows = (((*_key(port), str(value)), count) for port in ports for value, count in values(port).items())
            yield counter(name, text, (*_PORT, label), rows)
        for name, text, value in _COUNTERS:
            yield counter(name, text, _PORT, ((_key(port), value(port)) for port in ports))
        for name, text, value in _GAUGES:
            yield gauge(name, text, _PORT, ((_key(port), value(port)) for port in ports))
        yield durations(ports)
        yield from web_socket_metrics(ports)
        yield from tls_metrics(ports)
        yield relay_metrics(ports)
        yield call_metrics(ports)
        stats = self._view.stats()
        yield from affinity_metrics(ports, stats["affinity"])
        yield from store_metrics(stats)
        yield from cache_metrics(ports, stats["policies"])
        yield coalescing_metrics(ports)
        yield from pool_guard_metrics(stats)
        yield from idempotency_metrics(ports, stats)
        yield from jwt_metrics(ports, stats["policies"].get("jwt", {}))
        yield from rate_limit_metrics(stats["policies"].get("rateLimit", {}))
        yield from tenancy_metrics(stats["policies"].get("tenancy", {}))
        yield from _pools(stats)
        yield from _breakers(stats["outbound"])
        yield _kept(stats["outbound"])
        yield from _limiter(stats["limiter"])
        yield _spans(stats["tracing"])


def counter(name: str, text: str, labels: Sequence[str], rows: Labelled) -> Family:
    """A counter family; its samples are called ``<name>_total``."""
    family = CounterFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def gauge(name: str, text: str, labels: Sequence[str], rows: Labelled) -> Family:
    """A gauge family."""
    family = GaugeFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _key(port: PortStats) -> tuple[str, str]:
    return (port.direction, port.name)


def durations(ports: Iterable[PortStats]) -> Family:
    """The duration histogram of each port, cumulated as Prometheus has it."""
    family = HistogramFamily(
        "nova_request_duration_seconds",
        "Whole exchanges, first byte of the request to last of the response; upgraded connections are not in it.",
        labels=_PORT,
    )
    for port in ports:
        family.add_metric(_key(port), _cumulated(port.duration), port.duration.sum)
    return family


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in DURATION_BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(histogram.buckets), strict=True))


def _pools(stats: Mapping[str, Any]) -> Iterator[Family]:
    pools = [
        ((direction, name), port["pool"])
        for direction in ("inbound", "outbound")
        for name, port in stats[direction].items()
    ]
    yield gauge(
        "nova_pool_connections",
        "Connections to the app or upstream now, by state: idle, or active with a request on it.",
        (*_PORT, "state"),
        (((*key, state), pool[state]) for key, pool in pools for state in ("idle", "active")),
    )
    for name, text, field in (
        ("nova_pool_size", "Most connections there may be (pool.size).", "size"),
        ("nova_pool_waiting", "Requests that wait for a connection now.", "waiting"),
    ):
        yield gauge(name, text, _PORT, ((key, pool[field]) for key, pool in pools))
    yield gauge(
        "nova_endpoints",
        "Endpoints that the app or upstream has.",
        _PORT,
        ((key, len(pool["endpoints"])) for key, pool in pools),
    )
    yield gauge(
        "nova_endpoints_ejected",
        "Endpoints that are out of rotation now.",
        _PORT,
        ((key, pool["ejection"]["ejected"]) for key, pool in pools),
    )
    for name, text, field in (
        ("nova_endpoint_ejections", "Times an endpoint was taken out of rotation.", "ejections"),
        ("nova_shadow_endpoint_ejections", "Times an endpoint would have been, in Shadow mode.", "wouldEject"),
    ):
        yield counter(name, text, _PORT, ((key, pool["ejection"][field]) for key, pool in pools))


def _kept(outbound: Mapping[str, Any]) -> Family:
    return gauge(
        "nova_fallback_kept_bytes",
        "Memory of responses kept for the fallback.",
        ("upstream",),
        (((name,), port["fallback"]["keptBytes"]) for name, port in outbound.items() if "fallback" in port),
    )


def _limiter(limiter: Mapping[str, Any]) -> Iterator[Family]:
    for name, text, field in (
        ("nova_limiter_in_flight", "Requests that hold a place now (backpressure).", "inFlight"),
        ("nova_limiter_max_concurrency", "Most places there may be (backpressure.maxConcurrency).", "maxConcurrency"),
        ("nova_limiter_limit", "Places there are: as many as that, or what the adaptive limit has found.", "limit"),
        ("nova_limiter_utilization_ratio", "Places held, as a share of those there are.", "utilization"),
        ("nova_limiter_high_water", "Most places ever held at once.", "highWater"),
        ("nova_limiter_waiting", "Requests that wait for a place now.", "waiting"),
    ):
        yield gauge(name, text, (), [((), limiter[field])])
    yield counter("nova_limiter_queued", "Requests that had to wait for a place.", (), [((), limiter["queued"])])
    yield counter(
        "nova_limiter_refused_by_priority",
        "Requests that got no place, by their class; all are normal while priority is off.",
        ("priority",),
        (((name,), count) for name, count in limiter["refusedByPriority"].items()),
    )


def _spans(tracing: Mapping[str, Any]) -> Family:
    rows = [((outcome,), tracing[outcome]) for outcome in ("exported", "failed", "dropped")]
    return counter("nova_spans", "Spans of sampled requests, by what became of them.", ("outcome",), rows)


def _breakers(outbound: Mapping[str, Any]) -> Iterator[Family]:
    breakers = {name: port["breaker"] for name, port in outbound.items()}
    yield gauge(
        "nova_breaker_state",
        "1 for the state the breaker is in, 0 for the others.",
        ("upstream", "state"),
        (((name, state), breaker["state"] == state) for name, breaker in breakers.items() for state in _STATES),
    )
    yield counter(
        "nova_breaker_transitions",
        "Transitions of the breaker and what caused them.",
        ("upstream", "from", "to", "cause"),
        (
            ((name, *step.replace("->", " ").split()), count)
            for name, breaker in breakers.items()
            for step, count in breaker["transitionsByCause"].items()
        ),
    )
    yield counter(
        "nova_breaker_open_seconds",
        "Time the breaker has been open, the present time included.",
        ("upstream",),
        (((name,), breaker["openSeconds"]) for name, breaker in breakers.items()),
    )
