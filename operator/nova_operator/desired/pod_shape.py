"""The shape of a pod, as far as Nova reads it.

The definition of NovaService takes any object for a pod template, and the API server checks it no sooner than in the
Deployment. So before anything else looks at a pod, each value that is read has the type that a Pod has there.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from typing import Any, Final

from nova_api.errors import ConfigError
from nova_operator.desired.metadata import Manifest

Shape = type | dict[str, Any] | list[Any]
"""A type; an object with shapes of some of its fields; or a list, with the shape of its items as its only item."""

_CONTAINER: Final[Shape] = {
    "name": str,
    "env": [{"name": str}],
    "ports": [{"containerPort": int, "hostPort": int, "protocol": str}],
    "lifecycle": {"preStop": {"sleep": {"seconds": int}, "exec": {"command": [str]}}},
    "resources": {"requests": {}, "limits": {}},
}
_POD: Final[Shape] = {
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "volumes": [{"name": str}],
    "hostAliases": [{"ip": str, "hostnames": [str]}],
    "os": {"name": str},
    "securityContext": {"sysctls": [{"name": str, "value": str}], "seccompProfile": {"type": str}},
    "serviceAccountName": str,
    "dnsPolicy": str,
    "terminationGracePeriodSeconds": int,
}
_WORDS: Final = {str: "a text", int: "a whole number"}


def check_shape(pod: Manifest, where: str) -> None:
    """Raises ConfigError for a pod specification at the path `where` that has something else in the place of what Nova
    reads. A null counts as left out."""
    _check(pod, _POD, where)
    for place in ("initContainers", "containers"):
        for index, container in enumerate(pod.get(place) or ()):
            if not container.get("name"):
                raise ConfigError(f"{where}.{place}[{index}].name", "expected a name, as in a Pod")


def _check(value: Any, shape: Shape, where: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ConfigError(where, "expected an object, as in a Pod")
        for name, inner in shape.items():
            if value.get(name) is not None:
                _check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        kind, words = (str, "texts") if shape[0] is str else (dict, "objects")
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise ConfigError(where, f"expected a list of {words}, as in a Pod")
        for index, item in enumerate(value):
            _check(item, shape[0], f"{where}[{index}]")
    elif not isinstance(value, shape) or isinstance(value, bool):
        raise ConfigError(where, f"expected {_WORDS[shape]}, as in a Pod")
