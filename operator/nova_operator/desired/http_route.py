"""The HTTPRoute of a service. https://gateway-api.sigs.k8s.io/reference/spec/#httproute"""

from __future__ import annotations

from collections.abc import Mapping

from nova_api.v1alpha1 import NovaService
from nova_operator.desired import edge
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, child


def http_route(service: NovaService, platform: Platform, weights: Mapping[str, int] | None = None) -> Manifest | None:
    """None without `gateway`, and where the cluster does not know the kind. `weights` are the Services that share the
    requests, by name; the service's own when left out. Raises ConfigError."""
    wanted = service.spec.gateway
    if wanted is None:
        return None
    port = edge.routed_port(service, wanted.port, "$.spec.gateway.port")
    if not platform.http_routes:
        return None
    shares = {service.metadata.name: 1} if weights is None else weights
    rule: Manifest = {
        "matches": [{"path": {"type": "PathPrefix", "value": wanted.path}}],
        "backendRefs": [{"name": name, "port": port.port, "weight": weight} for name, weight in shares.items()],
    }
    if platform.session_persistence:
        rule |= edge.session_persistence(service)
    spec: Manifest = {"parentRefs": list(wanted.parent_refs), "rules": [rule]}
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    return child(service, "gateway.networking.k8s.io/v1", "HTTPRoute", service.metadata.name, {"spec": spec})
