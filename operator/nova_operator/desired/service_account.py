"""The ServiceAccount that a service's pods run as."""

from __future__ import annotations

from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest, child


def service_account(service: NovaService) -> Manifest | None:
    """One identity per service, without a token unless one is asked for: neither the sidecar nor most apps talk to the
    API server. None where the pods have an account that somebody else made."""
    account = service.spec.service_account
    if service.spec.workload_ref is not None or _given(service) is not None:
        return None
    body = {"automountServiceAccountToken": account.automount_token}
    return child(service, "v1", "ServiceAccount", service.metadata.name, body, annotations=account.annotations)


def identity(service: NovaService) -> Manifest:
    """The fields of a pod that say who it is; what a template says itself comes before them."""
    return {
        "serviceAccountName": _given(service) or service.metadata.name,
        "automountServiceAccountToken": service.spec.service_account.automount_token,
    }


def _given(service: NovaService) -> str | None:
    """The account that exists already. Raises ConfigError where two are named."""
    name, template = service.spec.service_account.name, service.spec.template
    in_template = None if template is None else template.spec.get("serviceAccountName")
    if name and in_template and name != in_template:
        raise ConfigError(
            "$.spec.serviceAccount.name", f"expected {in_template}, which the template names, or nothing, got {name}"
        )
    return name or in_template
