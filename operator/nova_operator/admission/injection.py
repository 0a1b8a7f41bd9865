"""The sidecar for a pod that Nova did not build, on the pod's way into the cluster. Pure.

The pod says which service it is of by the label `nova.dev/inject`, and the service says by `workloadRef.mode: Inject`
that it wants that. What the pod gets is what a Deployment's template gets (`desired.pod.lay_over`). A pod that has the
sidecar is left alone, so the API server may ask again when another webhook has changed the pod.
"""

from __future__ import annotations

from typing import Any

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator import reasons, spec, status
from nova_operator.admission.review import Answer, json_patch
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod import lay_over
from nova_operator.desired.pod_warnings import pod_warnings


class InjectionError(Exception):
    """Why a pod cannot get the sidecar, in words for whoever made the pod."""


def asked_for(pod: Manifest) -> str | None:
    """The service whose sidecar a pod asks for; None for a pod that asks for none or has it."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    service = labels.get(names.LABEL_INJECT)
    return str(service) if service is not None and not has_sidecar(pod) else None


def has_sidecar(pod: Manifest) -> bool:
    """Whether there is a sidecar in a pod."""
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return any(container.get("name") == names.SIDECAR_CONTAINER for container in containers)


def inject(pod: Manifest, name: str, document: Manifest | None, defaults: Defaults) -> Answer:
    """The pod with the sidecar of the service `name`, of which `document` is what the cluster has.

    Raises InjectionError where there is no such service, or it does not want this, or the pod cannot have it.
    """
    service = _service(name, document)
    _check_force(name, document or {})
    try:
        desired_state(service, defaults)  # a service that is not put into force has no configuration to mount
        laid = lay_over(service, {"metadata": pod.get("metadata") or {}, "spec": pod["spec"]}, defaults, "$")
    except ConfigError as error:
        raise InjectionError(f"NovaService {name} and this pod do not go together: {error}") from error
    before: dict[str, Any] = {"metadata": pod.get("metadata") or {}, "spec": pod["spec"]}
    told = pod_warnings(service, laid["spec"], defaults.platform, "spec")
    return Answer(patch=tuple(json_patch(before, laid)), warnings=told)


def _service(name: str, document: Manifest | None) -> NovaService:
    if document is None:
        raise InjectionError(
            f"there is no NovaService {name} in this namespace: make it, or remove {names.LABEL_INJECT}"
        )
    if "deletionTimestamp" in document["metadata"]:
        raise InjectionError(f"NovaService {name} is being deleted: remove the label {names.LABEL_INJECT}")
    try:
        service = spec.read(document).service
    except ConfigError as error:
        raise InjectionError(f"NovaService {name} is not valid: {error}") from error
    if not spec.is_injected(service):
        raise InjectionError(
            f"NovaService {name} builds or changes its pods itself: set its workloadRef.mode to Inject, or remove the"
            f" label {names.LABEL_INJECT}"
        )
    return service


def _check_force(name: str, document: Manifest) -> None:
    """A pod waits for its ConfigMap, which is not there while something stands in the service's way from the start. Of
    a service without any status nothing is known yet; it was made just now."""
    before = status.read(document.get("status"))
    ready = next((condition for condition in before.conditions if condition.type == "Ready"), None)
    if not before.config_hash and ready is not None and ready.reason in {reasons.CONFLICT, reasons.CHILD_REJECTED}:
        raise InjectionError(f"NovaService {name} is not in force: {ready.message}")
