"""The Deployment: app and sidecar in one pod."""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest, child, selector
from nova_operator.desired.pod import pod_template
from nova_operator.desired.track import tracked


def deployment(service: NovaService, defaults: Defaults) -> Manifest | None:
    """None for workloadRef, whose Deployment is somebody else's (`adoption`). Raises ConfigError."""
    if service.spec.workload_ref is not None:
        return None
    spec: Manifest = {
        "selector": {"matchLabels": selector(service)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": tracked(pod_template(service, defaults), "stable"),
    }
    if service.spec.autoscaling is None:
        spec["replicas"] = service.spec.replicas
    return child(service, "apps/v1", "Deployment", service.metadata.name, {"spec": spec})
