"""A template in which anything stands in the place of what a Pod has there is refused in words, never with a fault."""

from copy import deepcopy
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.errors import ConfigError
from nova_operator.admission.risks import warnings
from nova_operator.desired import desired_state
from nova_operator.desired.pod_warnings import workload_warnings
from tests.unit.admission.services import DEFAULTS, service

POD: Final[dict[str, Any]] = {
    "containers": [
        {
            "name": "app",
            "env": [{"name": "A", "value": "b"}],
            "ports": [{"containerPort": 8081, "hostPort": 1, "protocol": "TCP"}],
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}, "exec": {"command": ["x"]}}},
            "resources": {"requests": {"cpu": "1"}, "limits": {}},
        }
    ],
    "initContainers": [{"name": "first", "ports": [{"containerPort": 1}], "env": []}],
    "volumes": [{"name": "data"}],
    "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["db"]}],
    "securityContext": {
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "os": {"name": "linux"},
    "hostNetwork": False,
    "dnsPolicy": "ClusterFirst",
    "serviceAccountName": "mine",
    "terminationGracePeriodSeconds": 60,
}
ODD: Final[tuple[Any, ...]] = (
    *(None, "x", 5, -1, 1.5, True, [], ["x"], [5], [[]], [None], {}, {"a": 1}, [{}]),
    *("9" * 5000, 10**30, [{"name": []}], [{"name": {}}], {"name": []}),
)


def paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is a value, from the outside to the inside."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [*([path] if path else []), *(found for key, value in inner for found in paths(value, (*path, key)))]


def replaced(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    pod = deepcopy(POD)
    parent: Any = pod
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return pod


@given(
    st.sampled_from(paths(POD)),
    st.sampled_from(ODD),
    st.sampled_from(({}, {"appContainer": "app"}, {"autoscaling": {"maxReplicas": 5}})),
)
def test_whatever_stands_in_a_template_is_built_or_refused_in_words(
    path: tuple[Any, ...], odd: Any, more: dict[str, Any]
) -> None:
    auth = {"name": "auth", "host": "auth", "port": 443}
    strange = service(template={"spec": replaced(path, odd)}, upstreams=[auth], **more)
    workload_warnings(strange, None, DEFAULTS.platform)  # told of what is refused, too
    try:
        desired_state(strange, DEFAULTS)
    except ConfigError:
        return
    warnings(strange)


@pytest.mark.parametrize(
    ("path", "odd", "says"),
    [
        (("os",), "windows", "$.spec.template.spec.os: expected an object, as in a Pod"),
        (
            ("containers", 0, "ports", 0, "containerPort"),
            [],
            "$.spec.template.spec.containers[0].ports[0].containerPort: expected a whole number, as in a Pod",
        ),
        (
            ("hostAliases", 0, "hostnames"),
            5,
            "$.spec.template.spec.hostAliases[0].hostnames: expected a list of texts, as in a Pod",
        ),
        (("containers", 0), {}, "$.spec.template.spec.containers[0].name: expected a name, as in a Pod"),
    ],
)
def test_the_words_name_the_field_and_the_type(path: tuple[Any, ...], odd: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        desired_state(service(template={"spec": replaced(path, odd)}), DEFAULTS)
    assert str(refused.value) == says
