"""The HTTPRoute of a service. https://gateway-api.sigs.k8s.io/reference/spec/#httproute"""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired import edge
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, child


def http_route(service: NovaService, platform: Platform) -> Manifest | None:
    """None without `gateway`, and where the cluster does not know the kind. A canary's share is added by
    `rollout.arrange`. Raises ConfigError."""
    wanted = service.spec.gateway
    if wanted is None:
        return None
    port = edge.routed_port(service, wanted.port, "$.spec.gateway.port")
    if not platform.http_routes:
        return None
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": wanted.path}}],
        "backendRefs": [{"name": service.metadata.name, "port": port.port, "weight": 1}],
    }
    if platform.session_persistence:
        rule |= edge.session_persistence(service)
    spec: Manifest = {"parentRefs": list(wanted.parent_refs), "rules": [rule]}
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    return child(service, "gateway.networking.k8s.io/v1", "HTTPRoute", service.metadata.name, {"spec": spec})
