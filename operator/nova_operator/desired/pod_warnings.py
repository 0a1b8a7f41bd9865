"""What in a pod works worse beside the sidecar than it could, and stays as its owner has it.

Each warning names the field, says what happens and what changes that, on one line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod import pre_stop_seconds
from nova_operator.desired.pod_checks import app_name, items
from nova_operator.desired.pod_shape import check_shape


def workload_warnings(service: NovaService, deployment: Manifest | None, platform: Platform) -> tuple[str, ...]:
    """The warnings for the pods of a service: of spec.template, or of the Deployment of workloadRef where it is known.

    None for an image, of which the operator makes the whole pod, and none for a pod that is refused.
    """
    template = service.spec.template
    try:
        if template is not None:
            return pod_warnings(service, template.spec, platform, "template.spec")
        if service.spec.workload_ref is not None and deployment is not None:
            where = f"Deployment/{deployment['metadata']['name']} spec.template.spec"
            return pod_warnings(service, deployment["spec"]["template"]["spec"], platform, where)
    except ConfigError:
        return ()
    return ()


def pod_warnings(service: NovaService, pod: Manifest, platform: Platform, where: str) -> tuple[str, ...]:
    """The warnings for a pod specification at the path `where`, before or after the sidecar was laid over it.

    Raises ConfigError where `pod_checks` would.
    """
    check_shape(pod, where)
    return tuple(warning for rule in _RULES for warning in rule(service, pod, platform, where))


def _own_hook(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    app, seconds = _app(service, pod, where), pre_stop_seconds(service)
    hook = (app.get("lifecycle") or {}).get("preStop") or {}
    asleep = (hook.get("sleep") or {}).get("seconds", 0)
    command = (hook.get("exec") or {}).get("command") or ["", ""]
    if hook and asleep < seconds and command != ["sleep", str(seconds)]:
        yield (
            f"{where}.containers[{app.get('name')}].lifecycle.preStop is kept as it is; callers learn of a pod's end in"
            f" time only if it takes {seconds} s or more, in which the app goes on serving"
        )


def _short_time(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    """Injection lengthens it on each pod, and leaves the Deployment's own."""
    given, needed = pod.get("terminationGracePeriodSeconds"), math.ceil(service.spec.shutdown.grace_period)
    reference = service.spec.workload_ref
    if isinstance(given, int) and given < needed and (reference is None or reference.mode != "Inject"):
        yield (
            f"{where}.terminationGracePeriodSeconds {given} is shorter than shutdown.gracePeriod {needed}s: a pod that"
            " leaves is killed before its last requests are done"
        )


def _host_port(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    app = _app(service, pod, where)
    for port in items(app, "ports", where):
        if port.get("hostPort"):
            yield (
                f"{where}.containers[{app.get('name')}].ports: who calls the node's port {port['hostPort']} reaches the"
                " app past the sidecar"
            )


def _name_servers(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    policy = pod.get("dnsPolicy")
    if service.spec.upstreams and policy == "Default":
        yield (
            f"{where}.dnsPolicy Default: the sidecar looks upstreams up at the node's name servers, which do not know"
            " the Services of the cluster; ClusterFirst does"
        )


def _early_calls(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    if service.spec.upstreams and not platform.native_sidecars and pod.get("initContainers"):
        yield (
            f"{where}.initContainers end before the sidecar starts, and cannot call an upstream; on Kubernetes 1.29 and"
            " later they can"
        )


def _profile(service: NovaService, pod: Manifest, platform: Platform, where: str) -> Iterator[str]:
    profile = ((pod.get("securityContext") or {}).get("seccompProfile") or {}).get("type")
    if profile == "Localhost":
        yield (
            f"{where}.securityContext.seccompProfile is the sidecar's too, which does not start where it forbids what a"
            " network server needs; at the app's container it is the app's alone"
        )


def _app(service: NovaService, pod: Manifest, where: str) -> Manifest:
    name = app_name(service, pod, where.removesuffix(".spec"))
    return next(one for one in items(pod, "containers", where) if one.get("name") == name)


_RULES: Final[tuple[Callable[[NovaService, Manifest, Platform, str], Iterator[str]], ...]] = (
    _own_hook,
    _short_time,
    _host_port,
    _name_servers,
    _early_calls,
    _profile,
)
