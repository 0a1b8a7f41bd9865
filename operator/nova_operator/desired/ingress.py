"""The Ingress of a service."""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired import edge
from nova_operator.desired.metadata import Manifest, child


def ingress(service: NovaService) -> Manifest | None:
    """None without `ingress`. The user's annotations win over those that Nova writes. Raises ConfigError."""
    wanted = service.spec.ingress
    if wanted is None:
        return None
    port = edge.routed_port(service, wanted.port, "$.spec.ingress.port")
    backend = {"service": {"name": service.metadata.name, "port": {"name": port.name}}}
    rule: Manifest = {"http": {"paths": [{"path": wanted.path, "pathType": "Prefix", "backend": backend}]}}
    if wanted.host is not None:
        rule = {"host": wanted.host, **rule}
    spec: Manifest = {"rules": [rule]}
    if wanted.class_name is not None:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret is not None:
        hosts = {} if wanted.host is None else {"hosts": [wanted.host]}
        spec["tls"] = [{**hosts, "secretName": wanted.tls_secret}]
    annotations = {**edge.ingress_annotations(service, port), **wanted.annotations}
    return child(
        service, "networking.k8s.io/v1", "Ingress", service.metadata.name, {"spec": spec}, annotations=annotations
    )
