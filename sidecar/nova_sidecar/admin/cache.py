"""What is counted of the cache, as metrics, and the page that makes it forget; only where it is or was on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily
from nova_sidecar.admin.message import Answer, Request, document, text
from nova_sidecar.admin.view import View
from nova_sidecar.pipeline.stats import PortStats


def cache_metrics(ports: Sequence[PortStats], policies: Mapping[str, Any]) -> Iterator[Family]:
    """Requests by what became of them, and what is kept; `policies` is that part of `/stats`."""
    requests = CounterFamily(
        "nova_cache_requests",
        "Requests by what the cache made of them; class is http, or that of a GraphQL operation.",
        labels=("direction", "name", "class", "result"),
    )
    for port in ports:
        for kind, counts in port.policies.get("cache", {}).items():
            for result, count in counts.items():
                requests.add_metric((port.direction, port.name, kind, result.value), count)
    yield requests
    shown = policies.get("cache")
    for name, help_text, field in (
        ("nova_cache_stored", "Responses taken in.", "stored"),
        ("nova_cache_evictions", "Entries that left for want of room.", "evictions"),
        ("nova_cache_invalidations", "Entries that were called invalid.", "invalidations"),
    ):
        counter = CounterFamily(name, help_text, labels=())
        if shown:
            counter.add_metric((), shown[field])
        yield counter
    for name, help_text, field in (
        ("nova_cache_entries", "Responses kept now.", "entries"),
        ("nova_cache_bytes", "Memory that they take.", "bytes"),
    ):
        gauge = GaugeFamily(name, help_text, labels=())
        if shown:
            gauge.add_metric((), shown[field])
        yield gauge
    lookups = CounterFamily("nova_cache_tier", "Looks into Redis and writes, by how they ended.", labels=("result",))
    for result, count in (shown or {}).get("tier", {}).get("lookups", {}).items():
        lookups.add_metric((result,), count)
    yield lookups


def purge(view: View, request: Request) -> Answer:
    """Forget what is stored about a `target`, or about all that a `pattern` names."""
    asked = parse_qs(request.query)
    (name, given), *more = asked.items() or [("", [])]
    if more or name not in ("target", "pattern") or len(given) != 1:
        return text(400, "expected ?target=/path or ?pattern=/path/*, percent-encoded")
    try:
        gone = view.proxy.purge_cache(**{name: given[0].encode("utf-8", "surrogateescape")})
    except ValueError as error:
        return text(400, str(error))
    if gone is None:
        return text(409, "there is no cache: spec.cache.mode is Off")
    return document(gone)
