"""What a pod needs to run behind Nova, laid over whatever pod it is: the one of `spec.image`, the one of
`spec.template`, that of a Deployment somebody else made, or a single pod on its way into the cluster.

    the sidecar        a container of its own, with its ports, probes and volumes (`sidecar_container`, `tls`)
    the way to it      the label that the Service selects, and host aliases for the upstreams (`host_aliases`)
    on the app         a variable per upstream, and a hook that lets callers learn of its end before it ends
    on the pod         time to leave in good order, and the right to listen on upstreams' ports below 1024

Everything else is the user's and stays: probes, security settings, a hook of their own, a longer time to leave. What
cannot work beside it is refused first (`pod_checks`); what works worse than it could is told (`pod_warnings`).
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import msgspec

from nova_api import names
from nova_api.model import builtins
from nova_api.v1alpha1 import NovaService, closes_within
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.host_aliases import host_aliases
from nova_operator.desired.image_pod import image_pod
from nova_operator.desired.metadata import Manifest, pod_labels, selector
from nova_operator.desired.pod_checks import PORT_START, app_name, check_grace_period, check_pod, items, needs_low_ports
from nova_operator.desired.service_account import identity
from nova_operator.desired.sidecar_container import sidecar_container
from nova_operator.desired.state_secrets import state_volumes
from nova_operator.desired.tls import tls_volumes
from nova_operator.desired.topology_spread import topology_spread

TEMPLATE: Final = "$.spec.template"


def pod_template(service: NovaService, defaults: Defaults) -> Manifest:
    """The whole template (metadata and spec) of the pods that the operator makes, for image and template.

    Equal services give equal templates. The configuration's hash is not in it: a changed threshold must not restart a
    pod. What cannot change at run time (ports, upstream hosts, images) is, by its nature. Raises ConfigError.
    """
    template = service.spec.template
    if template is None:
        own = {"metadata": {"labels": pod_labels(service)}, "spec": image_pod(service)}
    else:
        check_grace_period(service, template.spec, TEMPLATE)
        given = {name: value for name, value in builtins(template.metadata).items() if value}
        given["labels"] = {**pod_labels(service), **template.metadata.labels}
        own = {"metadata": given, "spec": template.spec}
    own["spec"] = {**identity(service), **topology_spread(service, defaults.platform), **own["spec"]}
    return lay_over(service, own, defaults, TEMPLATE)


def template_hash(template: Manifest) -> str:
    """Short hash of a pod template, 10 hexadecimal digits: equal ones need no new pods."""
    return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:10]


def lay_over(service: NovaService, template: Manifest, defaults: Defaults, where: str) -> Manifest:
    """A pod or pod template (metadata and spec) with Nova in it; `template` itself stays as it is.

    Only adds, apart from a shorter terminationGracePeriodSeconds, which becomes shutdown.gracePeriod. Raises
    ConfigError whose path begins with `where`, for what cannot work together.
    """
    metadata, pod, spec = template.get("metadata") or {}, template["spec"], f"{where}.spec"
    check_pod(service, template, where)
    laid = {**pod, "containers": _containers(service, pod, defaults.platform, where)}
    _add_sidecar(laid, sidecar_container(service, defaults))
    laid["volumes"] = [*items(pod, "volumes", spec), *_volumes(service)]
    laid["terminationGracePeriodSeconds"] = _grace_period(service, pod)
    if service.spec.upstreams:
        laid["hostAliases"] = [*items(pod, "hostAliases", spec), *host_aliases(service)]
    if needs_low_ports(service):
        laid["securityContext"] = _with_low_ports(pod.get("securityContext") or {})
    labels = {**(metadata.get("labels") or {}), **selector(service)}
    return {**template, "metadata": {**metadata, "labels": labels}, "spec": laid}


def _containers(service: NovaService, pod: Manifest, platform: Platform, where: str) -> list[Manifest]:
    name = app_name(service, pod, where)
    containers = items(pod, "containers", f"{where}.spec")
    return [
        _app(service, one, platform, f"{where}.spec.containers[{name}]") if one.get("name") == name else one
        for one in containers
    ]


def _app(service: NovaService, container: Manifest, platform: Platform, where: str) -> Manifest:
    """The upstreams' URLs come first, so that the user's variables may refer to them as $(NOVA_UPSTREAM_…)."""
    given = items(container, "env", where)
    named = {variable.get("name") for variable in given}
    urls = [variable for variable in upstream_variables(service) if variable["name"] not in named]
    lifecycle = {**pre_stop(service, platform), **(container.get("lifecycle") or {})}
    added = {"env": [*urls, *given], "lifecycle": lifecycle}
    return container | {name: value for name, value in added.items() if value}


def upstream_variables(service: NovaService) -> list[Manifest]:
    """Variables with the URL of each upstream, and the target where it speaks gRPC."""
    found: dict[str, str] = {}
    for upstream in service.spec.upstreams:
        found |= names.upstream_variables(upstream.name, upstream.protocol, upstream.host, upstream.port)
    return [{"name": name, "value": value} for name, value in found.items()]


def pre_stop(service: NovaService, platform: Platform) -> Manifest:
    """SIGTERM reaches the app only after callers had time to learn that the pod is leaving, and after the sidecar has
    closed its WebSockets one after the other: an app that is told to end closes them all at once.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-flow
    """
    seconds = pre_stop_seconds(service)
    if seconds == 0:
        return {}
    if platform.sleep_action:
        return {"preStop": {"sleep": {"seconds": seconds}}}
    return {"preStop": {"exec": {"command": ["sleep", str(seconds)]}}}


def pre_stop_seconds(service: NovaService) -> int:
    """How long the app goes on serving after its pod was told to end."""
    closes = closes_within(service.spec)
    return math.ceil(service.spec.shutdown.pre_stop + closes + (names.CLOSE_RESERVE if closes else 0))


def _grace_period(service: NovaService, pod: Manifest) -> int:
    needed = math.ceil(service.spec.shutdown.grace_period)
    given = pod.get("terminationGracePeriodSeconds")
    return max(needed, given) if isinstance(given, int) else needed


def _add_sidecar(pod: Manifest, sidecar: Manifest) -> None:
    """First, so that it is there when the app, and every init container after it, calls an upstream."""
    place = "initContainers" if "restartPolicy" in sidecar else "containers"
    pod[place] = [sidecar, *(pod.get(place) or ())]


def _volumes(service: NovaService) -> list[Manifest]:
    config = {"name": names.CONFIG_VOLUME, "configMap": {"name": names.config_map(service.metadata.name)}}
    return [config, *tls_volumes(service), *state_volumes(service)]


def _with_low_ports(security: Manifest) -> Manifest:
    """The sidecar binds an upstream's port below 1024 without being root: a safe sysctl, which Pod Security
    *restricted* allows."""
    given = security.get("sysctls") or []
    if any(sysctl.get("name") == PORT_START for sysctl in given):
        return security
    return {**security, "sysctls": [*given, {"name": PORT_START, "value": "0"}]}
