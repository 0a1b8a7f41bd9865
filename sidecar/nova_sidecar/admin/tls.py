"""What is counted of TLS to upstreams, as metrics; only upstreams that are reached by TLS have any."""

from collections.abc import Iterator, Sequence
from typing import Final

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily
from nova_sidecar.pipeline.stats import PortStats

_LABELS: Final = ("direction", "name")


def tls_metrics(ports: Sequence[PortStats]) -> Iterator[Family]:
    """Failed handshakes, certificates taken over or refused, and until when those in use are valid."""
    failures = CounterFamily(
        "nova_tls_handshake_failures",
        "Connections by TLS that could not be made, by reason.",
        labels=(*_LABELS, "reason"),
    )
    reloads = CounterFamily(
        "nova_tls_reloads", "Certificate files that changed: applied, or refused.", labels=(*_LABELS, "result")
    )
    expiry = GaugeFamily(
        "nova_tls_certificate_expiry_seconds",
        "End of validity of the certificates in use, seconds since the epoch.",
        labels=(*_LABELS, "file"),
    )
    for port in ports:
        if not port.tls.used:
            continue
        key = (port.direction, port.name)
        for reason, count in port.tls.failures.items():
            failures.add_metric((*key, reason), count)
        for result, count in port.tls.reloads.items():
            reloads.add_metric((*key, result), count)
        for file, instant in port.tls.expiry.items():
            expiry.add_metric((*key, file), instant)
    yield from (failures, reloads, expiry)
