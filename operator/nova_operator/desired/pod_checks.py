"""What in a pod cannot work together with a sidecar: refused before anything is written, with the field and the rule.

The pod is whatever people wrote, so its shape is checked before anything else (`pod_shape`); what no part of Nova
reads, the API server checks.
"""

from __future__ import annotations

import math
from typing import Any, Final

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.host_aliases import addresses_by_name
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod_shape import check_shape
from nova_operator.desired.state_secrets import SESSION_VOLUME, STORE_VOLUME
from nova_operator.desired.tls import VOLUME_PREFIX

PORT_START: Final = "net.ipv4.ip_unprivileged_port_start"
_OURS: Final = (names.CONFIG_VOLUME, SESSION_VOLUME, STORE_VOLUME)
"""Volumes of the sidecar."""
_PRIVILEGED_PORTS: Final = 1024
_MOST_DIGITS: Final = 20
_LOOPBACK: Final = names.upstream_address(0).rpartition(".")[0] + "."


def check_pod(service: NovaService, template: Manifest, where: str) -> None:
    """Raises ConfigError for a pod or pod template at the path `where` that cannot have the sidecar."""
    pod, spec = template["spec"], f"{where}.spec"
    check_shape(pod, spec)
    if pod.get("hostNetwork"):
        raise ConfigError(
            f"{spec}.hostNetwork", "expected a network of its own: the sidecar's ports would be the node's"
        )
    if (pod.get("os") or {}).get("name") == "windows":
        raise ConfigError(f"{spec}.os.name", "expected linux, for which the sidecar is built")
    _check_label(service, template, where)
    _check_containers(service, pod, spec)
    _check_volumes(pod, spec)
    _check_host_aliases(service, pod, spec)
    _check_sysctls(service, pod, spec)


def check_grace_period(service: NovaService, pod: Manifest, where: str) -> None:
    """Raises ConfigError where the pod is killed before it could leave in good order."""
    given, needed = pod.get("terminationGracePeriodSeconds"), math.ceil(service.spec.shutdown.grace_period)
    if isinstance(given, int) and given < needed:
        raise ConfigError(
            f"{where}.spec.terminationGracePeriodSeconds",
            f"expected at least {needed}, which is shutdown.gracePeriod, got {given}; leave it out, or shorten "
            "shutdown.gracePeriod",
        )


def app_name(service: NovaService, pod: Manifest, where: str) -> str:
    """Name of the container that is the app. Raises ConfigError where it is not there or several could be it."""
    found = [str(one.get("name")) for one in items(pod, "containers", f"{where}.spec")]
    found = [name for name in found if name != names.SIDECAR_CONTAINER]
    wanted = service.spec.app_container
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted is None and names.APP_CONTAINER not in found:
        raise ConfigError(
            "$.spec.appContainer", f"expected the name of the container that is the app: {_any_of(found)}"
        )
    if (wanted or names.APP_CONTAINER) not in found:
        raise ConfigError("$.spec.appContainer", f"expected a container of the pod, {_any_of(found)}, got {wanted}")
    return wanted or names.APP_CONTAINER


def needs_low_ports(service: NovaService) -> bool:
    """Whether the sidecar has to listen on a port that is root's otherwise."""
    return any(upstream.port < _PRIVILEGED_PORTS for upstream in service.spec.upstreams)


def items(parent: Manifest, name: str, where: str) -> list[Manifest]:
    """A list of objects in something that people wrote; empty when left out. Raises ConfigError for anything else."""
    value: Any = parent.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{where}.{name}", "expected a list of objects, as in a Pod")
    return value


def _check_label(service: NovaService, template: Manifest, where: str) -> None:
    labels = (template.get("metadata") or {}).get("labels") or {}
    if labels.get(names.LABEL_SERVICE, service.metadata.name) != service.metadata.name:
        raise ConfigError(
            f"{where}.metadata.labels.{names.LABEL_SERVICE}",
            f"expected {service.metadata.name}, the name of the service, got {labels[names.LABEL_SERVICE]}",
        )


def _check_containers(service: NovaService, pod: Manifest, where: str) -> None:
    seen: set[str] = set()
    for place in ("initContainers", "containers"):
        for index, container in enumerate(items(pod, place, where)):
            path, name = f"{where}.{place}[{index}]", str(container.get("name"))
            if name == names.SIDECAR_CONTAINER:
                raise ConfigError(f"{path}.name", f"expected another name than {name}, which is the sidecar's own")
            if name in seen:
                raise ConfigError(f"{path}.name", f"expected a name that no other container has, got {name}")
            seen.add(name)
            _check_ports(service, container, path)


def _check_ports(service: NovaService, container: Manifest, where: str) -> None:
    upstreams = {upstream.port: upstream.name for upstream in service.spec.upstreams}
    for index, port in enumerate(items(container, "ports", where)):
        number, path = port.get("containerPort"), f"{where}.ports[{index}].containerPort"
        if number in names.RESERVED_PORTS:
            first, last = names.RESERVED_PORTS[0], names.RESERVED_PORTS[-1]
            raise ConfigError(path, f"expected a port outside {first}-{last}, which the sidecar keeps, got {number}")
        if number in upstreams and port.get("protocol", "TCP") == "TCP":
            raise ConfigError(
                path,
                f"expected another port than {number}, on which the sidecar stands for the upstream "
                f"{upstreams[number]}: a pod cannot listen on it twice",
            )


def _check_volumes(pod: Manifest, where: str) -> None:
    for index, volume in enumerate(items(pod, "volumes", where)):
        name = str(volume.get("name"))
        if name in _OURS or name.startswith(VOLUME_PREFIX):
            raise ConfigError(
                f"{where}.volumes[{index}].name",
                f"expected another name than {name}: {', '.join(_OURS)} and {VOLUME_PREFIX}* are the sidecar's",
            )


def _check_host_aliases(service: NovaService, pod: Manifest, where: str) -> None:
    """A name with two addresses in /etc/hosts has the first one, and the sidecar would be passed by in silence."""
    ours = addresses_by_name(service)
    for index, alias in enumerate(items(pod, "hostAliases", where)):
        path = f"{where}.hostAliases[{index}]"
        if ours and str(alias.get("ip")).startswith(_LOOPBACK):
            raise ConfigError(f"{path}.ip", f"expected another address than {alias['ip']}: {_LOOPBACK}* are upstreams")
        for name in alias.get("hostnames") or ():
            if name in ours:
                raise ConfigError(
                    f"{path}.hostnames",
                    f"expected no {name}, the name of an upstream, which has to lead to the sidecar; "
                    "remove it here, or the upstream",
                )


def _check_sysctls(service: NovaService, pod: Manifest, where: str) -> None:
    lowest = min((upstream.port for upstream in service.spec.upstreams), default=_PRIVILEGED_PORTS)
    security = pod.get("securityContext") or {}
    for index, sysctl in enumerate(items(security, "sysctls", f"{where}.securityContext")):
        value = str(sysctl.get("value"))
        if (
            sysctl.get("name") == PORT_START
            and value.isdecimal()
            and (len(value) > _MOST_DIGITS or int(value) > lowest)
        ):
            raise ConfigError(
                f"{where}.securityContext.sysctls[{index}].value",
                f"expected at most {lowest}, the port of an upstream, on which the sidecar listens, got {value}",
            )


def _any_of(found: list[str]) -> str:
    return f"one of {', '.join(found)}" if found else "the pod has none"
