"""The PodMonitor, by which a Prometheus finds the sidecars' metrics.

https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor
"""

from __future__ import annotations

from nova_api import names
from nova_api.units import Duration
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, child, selector


def pod_monitor(service: NovaService, platform: Platform) -> Manifest | None:
    """None where it is switched off, and where the cluster does not know the kind. The job is the service's name."""
    monitoring = service.spec.monitoring
    if monitoring.mode == "Off" or not platform.pod_monitors:
        return None
    spec: Manifest = {
        "selector": {"matchLabels": selector(service)},
        "jobLabel": names.LABEL_SERVICE,
        "podMetricsEndpoints": [
            {"port": names.STATUS_PORT_NAME, "path": "/metrics", "interval": milliseconds(monitoring.interval)}
        ],
    }
    return child(
        service,
        "monitoring.coreos.com/v1",
        "PodMonitor",
        service.metadata.name,
        {"spec": spec},
        labels=monitoring.labels,
    )


def milliseconds(interval: Duration) -> str:
    """A Prometheus duration has no fractions."""
    milliseconds = round(interval * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
