"""The Deployment: app and sidecar in one pod."""

from __future__ import annotations

import math

from nova_api import names
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.app_container import app_container
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.host_aliases import host_aliases
from nova_operator.desired.metadata import Manifest, child, pod_labels, selector
from nova_operator.desired.sidecar_container import sidecar_container
from nova_operator.desired.tls import tls_volumes

_PRIVILEGED_PORTS = 1024


def deployment(service: NovaService, defaults: Defaults) -> Manifest:
    """The configuration's hash is not in the pod template: a changed threshold must not restart a pod. What cannot
    change at run time (ports, upstream hosts, images) is in the template by its nature."""
    spec: Manifest = {
        "replicas": service.spec.replicas,
        "selector": {"matchLabels": selector(service)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {"metadata": {"labels": pod_labels(service)}, "spec": _pod(service, defaults)},
    }
    return child(service, "apps/v1", "Deployment", service.metadata.name, {"spec": spec})


def _pod(service: NovaService, defaults: Defaults) -> Manifest:
    app = app_container(service, defaults.platform)
    sidecar = sidecar_container(service, defaults)
    native = defaults.platform.native_sidecars
    pod: Manifest = {
        "serviceAccountName": service.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # one variable per Service of the namespace slows starts down and surprises apps
        "terminationGracePeriodSeconds": math.ceil(service.spec.shutdown.grace_period),
        "securityContext": _security(service),
        "containers": [app] if native else [sidecar, app],
        "volumes": [
            {"name": names.CONFIG_VOLUME, "configMap": {"name": names.config_map(service.metadata.name)}},
            *tls_volumes(service),
        ],
    }
    if native:
        pod["initContainers"] = [sidecar]
    if service.spec.upstreams:
        pod["hostAliases"] = host_aliases(service)
    return pod


def _security(service: NovaService) -> Manifest:
    """Pod Security *restricted*: an image that runs as root does not start, and the Degraded condition says so.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if any(upstream.port < _PRIVILEGED_PORTS for upstream in service.spec.upstreams):
        # The sidecar binds that port without being root; a safe sysctl, which *restricted* allows.
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    return security
