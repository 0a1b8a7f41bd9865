"""The Deployments of workloadRef, without a cluster: they stand in the same file as the NovaService, or nowhere."""

from __future__ import annotations

import sys
from typing import Any

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator.adoption import preview
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod_warnings import workload_warnings
from nova_operator.plan import ConflictError


def adopted(service: NovaService, documents: list[Any], namespace: str, defaults: Defaults) -> tuple[Manifest, ...]:
    """The Deployment that a service adopts, with its sidecar; empty where there is none to show, of which standard
    error tells. `namespace` is that of documents that name none. Raises ConfigError."""
    reference, name = service.spec.workload_ref, service.metadata.name
    if reference is None:
        return ()
    if reference.mode == "Inject":
        _tell(f"pods with the label {names.LABEL_INJECT}: {name} get the sidecar of {name} when they are created")
        return ()
    place = (reference.name, service.metadata.namespace)
    found = next((one for one in documents if is_deployment(one) and _place(one, namespace) == place), None)
    if found is None:
        _tell(f"Deployment/{reference.name} is not in the file; put it there to see it with the sidecar of {name}")
        return ()
    for warning in workload_warnings(service, found, defaults.platform):
        _tell(f"warning: {warning}")
    try:
        return (preview(service, found, defaults),)
    except ConflictError as error:
        raise ConfigError("$.spec.workloadRef", str(error)) from error


def is_deployment(document: object) -> bool:
    """Whether it is a Deployment with all that is read of one."""
    if not isinstance(document, dict) or document.get("kind") != "Deployment":
        return False
    metadata, spec = document.get("metadata"), document.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    pod = template.get("spec") if isinstance(template, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str) and isinstance(pod, dict)


def _place(deployment: Manifest, namespace: str) -> tuple[str, str]:
    metadata = deployment["metadata"]
    return metadata["name"], metadata.get("namespace", namespace)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
