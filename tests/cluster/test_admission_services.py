"""The validating webhook on a real API server: what it refuses, what it warns of, and what it must never block."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_operator.kinds import NOVA_SERVICE
from tests.cluster.api import Api, ApiError, until
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.webhooks import Door, door

ADDRESS = {"upstreams": [{"name": "auth", "host": "10.0.0.1", "port": 80}]}
UNKNOWN = {"name": "auth", "host": "auth", "port": 9090}
TAKEN = {"upstreams": [{"name": "auth", "host": "auth", "port": 8080}]}


@pytest.fixture(scope="module")
def entrance(api: Api, apiserver: Path, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(api, namespace, apiserver, tmp_path_factory.mktemp("admission"), policy="Fail") as one:
        yield one


@pytest.fixture(scope="module")
def old(api: Api, namespace: str) -> str:
    """A service that was let in before there was a webhook, and would not be now."""
    api.service(namespace, "old", **ADDRESS)
    return "old"


@pytest.fixture(scope="module")
def operator(old: str, entrance: Door) -> Iterator[OperatorProcess]:
    with entrance.operator() as one:
        until(entrance.trusts)
        yield one


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ADDRESS, "$.spec.upstreams[0].host: expected a host name, got the address 10.0.0.1"),
        (TAKEN, "$.spec.upstreams[0].port: expected another port than 8080, on which the app listens (http)"),
    ],
)
def test_what_cannot_work_is_refused_with_field_and_rule(
    api: Api, namespace: str, spec: dict[str, object], says: str
) -> None:
    with pytest.raises(ApiError) as error:
        api.service(namespace, "bad", **spec)
    assert says in error.value.message
    assert error.value.code == 422
    assert api.find(NOVA_SERVICE, namespace, "bad") is None


@pytest.mark.usefixtures("operator")
def test_what_is_risky_is_told_and_stored(api: Api, namespace: str) -> None:
    told = api.warned(
        NOVA_SERVICE,
        namespace,
        {
            "metadata": {"name": "risky"},
            "spec": {"image": "shop:latest", "ports": [{"port": 8080}], "upstreams": [UNKNOWN]},
        },
    )
    assert any("image: without a tag" in warning for warning in told)
    assert any("upstreams[auth].host: the cluster has no Service auth yet" in warning for warning in told)
    assert api.get(NOVA_SERVICE, namespace, "risky")


@pytest.mark.usefixtures("operator")
def test_nothing_is_said_of_what_is_in_order(api: Api, namespace: str) -> None:
    spec = {"image": "shop:1", "ports": [{"port": 8080}]}
    assert api.warned(NOVA_SERVICE, namespace, {"metadata": {"name": "calm"}, "spec": spec}) == []
    until(lambda: api.find(NOVA_SERVICE, namespace, "calm"))


def test_a_bad_object_can_be_labelled_mended_and_deleted_but_not_made_worse(
    api: Api, namespace: str, old: str, operator: OperatorProcess
) -> None:
    api.patch(NOVA_SERVICE, namespace, old, {"metadata": {"labels": {"team": "a"}, "finalizers": ["test/wait"]}})
    with pytest.raises(ApiError, match="expected a host name"):
        api.change(namespace, old, replicas=2)
    api.delete(NOVA_SERVICE, namespace, old)
    until(lambda: "deletionTimestamp" in api.get(NOVA_SERVICE, namespace, old)["metadata"])
    api.patch(NOVA_SERVICE, namespace, old, {"metadata": {"finalizers": None}})
    until(lambda: api.find(NOVA_SERVICE, namespace, old) is None)
    assert operator.metric("nova_operator_admission_requests_total") > 0
