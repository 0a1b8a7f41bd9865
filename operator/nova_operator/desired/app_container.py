"""The app's container: the user's, plus what makes it leave in good order and pass Pod Security *restricted*."""

from __future__ import annotations

import math

from nova_api import names
from nova_api.model import builtins
from nova_api.resolve import app_port
from nova_api.v1alpha1 import NovaService, closes_within
from nova_api.workload import EnvVar
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest

RESTRICTED: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What Pod Security *restricted* asks of each container; the rest of it stands on the pod."""


def app_container(service: NovaService, platform: Platform) -> Manifest:
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
        "env": _environment(service),
        "resources": {name: value for name, value in builtins(spec.resources).items() if value},
        "readinessProbe": spec.readiness_probe,
        "livenessProbe": spec.liveness_probe,
        "lifecycle": _lifecycle(service, platform),
    }
    return container | {name: value for name, value in optional.items() if value}


def _ports(service: NovaService) -> list[Manifest]:
    """Several Service ports may lead to one port of the app, but a container names each of its ports once."""
    by_number = {app_port(port): port.name for port in reversed(service.spec.ports)}
    return [{"name": name, "containerPort": number, "protocol": "TCP"} for number, name in sorted(by_number.items())]


def _environment(service: NovaService) -> list[Manifest]:
    """The upstreams' URLs first, so that the user's variables may refer to them as $(NOVA_UPSTREAM_…)."""
    given = {variable.name for variable in service.spec.env}
    urls = {
        names.upstream_variable(upstream.name): names.upstream_url(upstream.protocol, upstream.host, upstream.port)
        for upstream in service.spec.upstreams
    }
    upstreams = [{"name": name, "value": url} for name, url in urls.items() if name not in given]
    return upstreams + [_variable(variable) for variable in service.spec.env]


def _variable(variable: EnvVar) -> Manifest:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from}
    return {"name": variable.name, "value": variable.value or ""}


def _lifecycle(service: NovaService, platform: Platform) -> Manifest:
    """SIGTERM reaches the app only after callers had time to learn that the pod is leaving, and after the sidecar has
    closed its WebSockets one after the other: an app that is told to end closes them all at once.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow
    """
    seconds = math.ceil(service.spec.shutdown.pre_stop + closes_within(service.spec))
    if seconds == 0:
        return {}
    if platform.sleep_action:
        return {"preStop": {"sleep": {"seconds": seconds}}}
    return {"preStop": {"exec": {"command": ["sleep", str(seconds)]}}}
