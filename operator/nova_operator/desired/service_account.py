"""The ServiceAccount that a service's pods run as."""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest, child


def service_account(service: NovaService) -> Manifest:
    """One identity per service, without a token: neither the sidecar nor most apps talk to the API server."""
    return child(service, "v1", "ServiceAccount", service.metadata.name, {"automountServiceAccountToken": False})
