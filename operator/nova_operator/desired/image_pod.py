"""The pod that is described by an image: the app's container alone, made to pass Pod Security *restricted*.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from nova_api import names
from nova_api.model import builtins
from nova_api.resolve import app_port
from nova_api.v1alpha1 import NovaService
from nova_api.workload import EnvVar
from nova_operator.desired.metadata import Manifest

RESTRICTED: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What Pod Security *restricted* asks of each container; the rest of it stands on the pod."""


def image_pod(service: NovaService) -> Manifest:
    """The specification of a pod with the app in it. An image that runs as root does not start, and the Degraded
    condition says so."""
    return {
        "enableServiceLinks": False,  # one variable per Service of the namespace slows starts down and surprises apps
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_app_container(service)],
    }


def _app_container(service: NovaService) -> Manifest:
    """Fields that were left out stay out, so that Kubernetes' own defaults hold."""
    spec = service.spec
    container: Manifest = {
        "name": names.APP_CONTAINER,
        "image": spec.image,
        "ports": _ports(service),
        "securityContext": RESTRICTED,
    }
    optional: Manifest = {
        "imagePullPolicy": spec.image_pull_policy,
        "command": list(spec.command),
        "args": list(spec.args),
        "env": [_variable(variable) for variable in spec.env],
        "resources": {name: value for name, value in builtins(spec.resources).items() if value},
        "readinessProbe": spec.readiness_probe,
        "livenessProbe": spec.liveness_probe,
    }
    return container | {name: value for name, value in optional.items() if value}


def _ports(service: NovaService) -> list[Manifest]:
    """Several Service ports may lead to one port of the app, but a container names each of its ports once."""
    by_number = {app_port(port): port.name for port in reversed(service.spec.ports)}
    return [{"name": name, "containerPort": number, "protocol": "TCP"} for number, name in sorted(by_number.items())]


def _variable(variable: EnvVar) -> Manifest:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from}
    return {"name": variable.name, "value": variable.value or ""}
