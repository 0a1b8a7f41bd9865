"""What is counted of requests with an Idempotency-Key, as metrics; only where the policy is or was on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily
from nova_sidecar.pipeline.stats import PortStats


def idempotency_metrics(ports: Sequence[PortStats], stats: Mapping[str, Any]) -> Iterator[Family]:
    """Requests and answers by what became of them, and what is under way; `stats` is the whole of `/stats`."""
    labels = ("direction", "name", "result")
    requests = CounterFamily(
        "nova_idempotency_requests", "Requests with an Idempotency-Key, by what became of them.", labels=labels
    )
    answers = CounterFamily(
        "nova_idempotency_answers", "Answers to them that came from the app, by what became of them.", labels=labels
    )
    for port in ports:
        counts = port.policies.get("idempotency")
        if counts is not None:
            for result, count in counts.results.items():
                requests.add_metric((port.direction, port.name, result.value), count)
            for kept, count in counts.kept.items():
                answers.add_metric((port.direction, port.name, kept.value), count)
    yield requests
    yield answers
    shown = stats["policies"].get("idempotency")
    for name, text, field in (
        ("nova_idempotency_leading", "Requests with a key that are with the app now.", "leading"),
        ("nova_idempotency_waiting", "Requests that wait for the answer to another one.", "waiting"),
        ("nova_idempotency_local_bytes", "Memory of answers that are kept in this sidecar alone.", "localBytes"),
    ):
        family = GaugeFamily(name, text)
        if shown is not None:
            family.add_metric((), shown[field])
        yield family
