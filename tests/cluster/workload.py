"""Deployments that somebody else made, and the services that adopt them."""

from __future__ import annotations

from typing import Any

from nova_api import names
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE
from nova_operator.kube import path_of
from tests.cluster.api import Api, Object, until

UPSTREAMS = [
    {"name": "auth", "host": "auth", "port": 80, "tls": {"secret": "auth-ca"}},
    {"name": "stock", "host": "stock.store", "port": 9090},
]


def web(name: str, **pod: Any) -> Object:
    """A Deployment as its owner writes it."""
    labels = {"app": name}
    container = {"name": "web", "image": "registry.example/web:1", "ports": [{"containerPort": 8080}]}
    spec: Object = {"containers": [{**container, "env": [{"name": "MODE", "value": "fast"}]}], **pod}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def nova(name: str) -> str:
    """Name of the service of a Deployment."""
    return f"{name}-nova"


def adopt(api: Api, namespace: str, name: str, **spec: Any) -> None:
    """Create the service that adopts a Deployment."""
    body = {"workloadRef": {"name": name}, "ports": [{"port": 80, "appPort": 8080}], **spec}
    api.create(NOVA_SERVICE, namespace, {"metadata": {"name": nova(name)}, "spec": body})


def adopted(api: Api, namespace: str, name: str, theirs: Object | None = None, **spec: Any) -> Object:
    """An adopted Deployment; returns it as it was before."""
    before = api.create(DEPLOYMENT, namespace, theirs or web(name))
    adopt(api, namespace, name, **spec)
    until(lambda: is_adopted(api.deployment(namespace, name)))
    return before


def is_adopted(deployment: Object) -> bool:
    """Whether it has the sidecar, and the operator has done its last write."""
    return has_sidecar(deployment) and names.OPERATOR_NAME not in managers(deployment)


def has_sidecar(deployment: Object) -> bool:
    """Whether its pods have it."""
    return names.SIDECAR_CONTAINER in [one["name"] for one in pod_of(deployment).get("initContainers", ())]


def pod_of(deployment: Object) -> Object:
    """The specification of its pods."""
    pod: Object = deployment["spec"]["template"]["spec"]
    return pod


def managers(deployment: Object) -> set[str]:
    """Who manages fields of it."""
    return {entry["manager"] for entry in deployment["metadata"]["managedFields"]}


def said(deployment: Object) -> Object:
    """What people set: the spec, the labels, and the annotations that no controller writes."""
    metadata = deployment["metadata"]
    annotations = metadata.get("annotations") or {}
    theirs = {key: value for key, value in annotations.items() if key != "deployment.kubernetes.io/revision"}
    return {"spec": deployment["spec"], "labels": metadata.get("labels"), "annotations": theirs}


def delete(api: Api, namespace: str, name: str) -> None:
    """Delete the service of a Deployment and wait until it is gone."""
    api.delete(NOVA_SERVICE, namespace, nova(name))
    until(lambda: api.find(NOVA_SERVICE, namespace, nova(name)) is None)


def apply(api: Api, namespace: str, manifest: Object, manager: str = "team") -> Object:
    """Server-side apply as its owner does it, without force: a conflict is an error."""
    path = path_of(DEPLOYMENT, namespace, manifest["metadata"]["name"]) + f"?fieldManager={manager}"
    applied: Object = api.call("PATCH", path, manifest, "application/apply-patch+yaml")
    return applied
