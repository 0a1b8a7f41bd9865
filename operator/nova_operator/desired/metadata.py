"""Labels, owner references and the annotation that every child carries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nova_api import names
from nova_api.v1alpha1 import API_VERSION, KIND, NovaService

Manifest = dict[str, Any]
"""A Kubernetes object as plain data, as in YAML."""

ANNOTATION_MANIFEST_HASH: Final = "nova.dev/manifest-hash"
"""Hash of what the operator last applied. It tells that a field was dropped, which no comparison of values can."""

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"


def selector(service: NovaService) -> dict[str, str]:
    """The labels that select a service's pods. They can never change: a Deployment's selector is immutable."""
    return {names.LABEL_SERVICE: service.metadata.name}


def workload_name(service: NovaService) -> str:
    """Name of the Deployment whose pods the service has: its own, or that of workloadRef."""
    reference = service.spec.workload_ref
    return service.metadata.name if reference is None else reference.name


def own_workload(children: tuple[Manifest, ...]) -> Manifest | None:
    """The Deployment of the service's own pods among its children, which may have others; None where somebody else
    made it, or it is not to be made yet."""
    return next((one for one in children if one["kind"] == "Deployment" and _is_namesake(one)), None)


def _is_namesake(child: Manifest) -> bool:
    return bool(child["metadata"]["name"] == child["metadata"]["labels"][names.LABEL_SERVICE])


def pod_labels(service: NovaService) -> dict[str, str]:
    """Labels of the pods."""
    return {**selector(service), "app.kubernetes.io/name": service.metadata.name}


def tool_labels(service: NovaService, name: str) -> dict[str, str]:
    """Labels of pods that work for a service and are none of it, by which they are selected, too. Not those of its own
    pods, or its Service would lead to them."""
    return {names.LABEL_TOOL_OF: service.metadata.name, "app.kubernetes.io/name": name}


def literal(argument: str) -> str:
    """An argument of a container that is taken as it is: the kubelet puts values of the environment, secret ones too,
    in place of `$(NAME)`, and makes `$` of `$$`.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#entrypoint
    """
    return argument.replace("$", "$$")


def child(
    service: NovaService,
    api_version: str,
    kind: str,
    name: str,
    body: Manifest,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """A child of a service: labelled, owned by it, and marked with the hash of all it says. `labels` and `annotations`
    stand beside Nova's own, which win: by them the child is found again."""
    metadata: Manifest = {
        "name": name,
        "namespace": service.metadata.namespace,
        "labels": {**(labels or {}), **pod_labels(service), LABEL_MANAGED_BY: names.OPERATOR_NAME},
    }
    if service.metadata.uid:  # there is none before the API server has seen the service, as in `nova render`
        metadata["ownerReferences"] = [_owner(service)]
    manifest: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
    if annotations:
        metadata["annotations"] = dict(annotations)
    metadata["annotations"] = {**(annotations or {}), ANNOTATION_MANIFEST_HASH: _digest(manifest)}
    return manifest


def resealed(manifest: Manifest) -> Manifest:
    """A child that was changed after `child` made it, with the hash of what it says now."""
    metadata = dict(manifest["metadata"])
    annotations = {k: v for k, v in metadata.pop("annotations").items() if k != ANNOTATION_MANIFEST_HASH}
    changed = {**manifest, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}
    return {
        **changed,
        "metadata": {**metadata, "annotations": {**annotations, ANNOTATION_MANIFEST_HASH: _digest(changed)}},
    }


def _owner(service: NovaService) -> Manifest:
    """The garbage collector removes a child after its owner, and `kubectl delete --cascade=foreground` waits for it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": service.metadata.name,
        "uid": service.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()[:16]
