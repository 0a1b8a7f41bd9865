"""What is refused before it is stored, in the words of Ready=False, and what is never refused."""

from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_operator.admission.review import Request
from nova_operator.admission.validation import check, needs_no_look
from tests.unit.admission.services import DEFAULTS, document

AUTH = {"name": "auth", "host": "auth", "port": 9090}

WRONG = [
    ({"upstreams": [{**AUTH, "port": 8080}]}, "$.spec.upstreams[0].port", "on which the app listens"),
    ({"upstreams": [{**AUTH, "port": 15020}]}, "$.spec.upstreams[0].port", "which the sidecar keeps"),
    ({"ports": [{"port": 80, "appPort": 15100}]}, "$.spec.ports[0].appPort", "which the sidecar keeps"),
    ({"upstreams": [{**AUTH, "host": "10.0.0.1"}]}, "$.spec.upstreams[0].host", "expected a host name"),
    ({"upstreams": [{**AUTH, "host": "localhost"}]}, "$.spec.upstreams[0].host", "past the sidecar"),
    (
        {"upstreams": [{**AUTH, "circuitBreaker": {"openDuration": "10m"}}]},
        "$.spec.upstreams[0].circuitBreaker",
        "openDuration must not be longer than maxOpenDuration",
    ),
    (
        {"template": {"spec": {"containers": [{"name": "nova-sidecar", "image": "x"}]}}},
        "$.spec.template.spec.containers[0].name",
        "which is the sidecar's own",
    ),
    (
        {"template": {"spec": {"hostNetwork": True, "containers": [{"name": "app", "image": "x"}]}}},
        "$.spec.template.spec.hostNetwork",
        "a network of its own",
    ),
]


def request(**fields: Any) -> Request:
    return Request(**{"uid": "1", "operation": "CREATE", "namespace": "market", "name": "shop", **fields})


@pytest.mark.parametrize(("spec", "path", "rule"), WRONG, ids=[path for _, path, _ in WRONG])
def test_what_passes_the_schema_and_cannot_work_is_refused(spec: dict[str, Any], path: str, rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(request(object=document(**spec)), DEFAULTS)
    assert error.value.path.startswith(path)
    assert rule in error.value.rule


def test_a_service_that_gets_its_name_later_is_checked_too() -> None:
    nameless = document()
    nameless["metadata"] = {"generateName": "shop-"}
    asked = request(name="", object=nameless)
    assert not needs_no_look(asked)
    assert check(asked, DEFAULTS).service.metadata.namespace == "market"


def test_an_update_that_leaves_the_spec_alone_passes_however_bad_it_is() -> None:
    bad = document(upstreams=[{**AUTH, "host": "10.0.0.1"}])
    labelled = {
        **bad,
        "metadata": {**bad["metadata"], "labels": {"a": "b"}, "finalizers": []},
        "status": {"replicas": 1},
    }
    assert needs_no_look(request(operation="UPDATE", object=labelled, old_object=bad))
    mended = document()
    assert not needs_no_look(request(operation="UPDATE", object=mended, old_object=bad))


def test_an_object_on_its_way_out_passes_whatever_is_changed() -> None:
    bad = document(upstreams=[{**AUTH, "host": "10.0.0.1"}])
    bad["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert needs_no_look(request(operation="UPDATE", object=bad, old_object=document()))


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_other_operations_pass(operation: str) -> None:
    assert needs_no_look(request(operation=operation, old_object=document()))
