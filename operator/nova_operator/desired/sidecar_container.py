"""The sidecar's container."""

from __future__ import annotations

from nova_api import names
from nova_api.model import builtins
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.image_pod import RESTRICTED
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.state_secrets import state_mounts
from nova_operator.desired.tls import tls_mounts

USER = 65532
"""The unprivileged user that the sidecar image is built for."""


def sidecar_container(service: NovaService, defaults: Defaults) -> Manifest:
    """Its preStop hook starts the drain at the moment the app's hook starts to wait, and returns when it is done:
    a native sidecar is told to end only after the app has (KEP-753), so it serves until the last request."""
    container: Manifest = {
        "name": names.SIDECAR_CONTAINER,
        "image": service.spec.sidecar.image or defaults.sidecar_image,
        "args": ["--config", f"{names.CONFIG_DIRECTORY}/{names.CONFIG_KEY}"],
        "ports": _ports(service),
        "resources": _resources(service, defaults),
        "startupProbe": _probe("/readyz", periodSeconds=1, failureThreshold=60),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=2),
        "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=6),
        "lifecycle": {"preStop": {"exec": {"command": ["nova-sidecar", "drain"]}}},
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True, "runAsUser": USER, "runAsGroup": USER},
        "volumeMounts": [
            {"name": names.CONFIG_VOLUME, "mountPath": names.CONFIG_DIRECTORY, "readOnly": True},
            *tls_mounts(service),
            *state_mounts(service),
        ],
    }
    if defaults.sidecar_pull_policy:
        container["imagePullPolicy"] = defaults.sidecar_pull_policy
    if defaults.platform.native_sidecars:
        container["restartPolicy"] = "Always"
    return container


def _ports(service: NovaService) -> list[Manifest]:
    inbound = [
        {"name": f"nova-in-{index}", "containerPort": names.inbound_port(index), "protocol": "TCP"}
        for index in range(len(service.spec.ports))
    ]
    return [*inbound, {"name": names.STATUS_PORT_NAME, "containerPort": names.STATUS_PORT, "protocol": "TCP"}]


def _resources(service: NovaService, defaults: Defaults) -> Manifest:
    """Requests are always set: one container without a CPU request switches a pod's HorizontalPodAutoscaler off."""
    given = builtins(service.spec.sidecar.resources) if service.spec.sidecar.resources else {}
    resources: Manifest = {"requests": {**defaults.sidecar_requests, **given.get("requests", {})}}
    if given.get("limits"):
        resources["limits"] = given["limits"]
    return resources


def _probe(path: str, **timing: int) -> Manifest:
    return {"httpGet": {"path": path, "port": names.STATUS_PORT}, "timeoutSeconds": 1, **timing}
