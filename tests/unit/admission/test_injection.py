"""Which pods get the sidecar, and which do not, with the reason."""

from typing import Any

import pytest

from nova_api import names
from nova_operator.admission.injection import InjectionError, asked_for, has_sidecar, inject
from nova_operator.desired.pod import lay_over
from tests.unit.admission.services import DEFAULTS, document, service
from tests.unit.admission.test_review import applied

INJECT = {
    "workloadRef": {"name": "shop", "mode": "Inject"},
    "upstreams": [{"name": "auth", "host": "auth", "port": 80}],
}


def pod(**changes: Any) -> dict[str, Any]:
    metadata = {"generateName": "shop-7d-", "labels": {names.LABEL_INJECT: "shop", "app": "shop"}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "web", "image": "x:1"}], **changes}}


def test_a_pod_gets_what_a_template_gets() -> None:
    asked = pod()
    answer = inject(asked, "shop", document(**INJECT), DEFAULTS)
    after = applied(asked, list(answer.patch))
    expected = lay_over(service(**INJECT), pod(), DEFAULTS, "$")
    assert after == expected
    assert has_sidecar(after)
    assert after["metadata"]["labels"] == {names.LABEL_INJECT: "shop", "app": "shop", names.LABEL_SERVICE: "shop"}


def test_what_works_worse_than_it_could_is_told() -> None:
    own = {"preStop": {"exec": {"command": ["./goodbye"]}}}
    asked = pod(containers=[{"name": "web", "image": "x:1", "lifecycle": own}], terminationGracePeriodSeconds=30)
    (warning,) = inject(asked, "shop", document(**INJECT), DEFAULTS).warnings
    assert warning.startswith("spec.containers[web].lifecycle.preStop is kept as it is")


def test_a_pod_that_has_it_is_not_asked_about_again() -> None:
    asked = pod()
    assert asked_for(asked) == "shop"
    after = applied(asked, list(inject(asked, "shop", document(**INJECT), DEFAULTS).patch))
    assert asked_for(after) is None


@pytest.mark.parametrize("metadata", [{}, {"labels": None}, {"labels": {"app": "shop"}}])
def test_a_pod_without_the_label_asks_for_nothing(metadata: dict[str, Any]) -> None:
    assert asked_for({"metadata": metadata, "spec": {}}) is None


CONFLICT = {
    "type": "Ready",
    "status": "False",
    "reason": "Conflict",
    "message": "Service/shop belongs to somebody else",
    "observedGeneration": 1,
    "lastTransitionTime": "2030-01-01T00:00:00Z",
}
IN_THE_WAY = {**document(**INJECT), "status": {"conditions": [CONFLICT]}}
REFUSED: list[tuple[dict[str, Any] | None, dict[str, Any], str]] = [
    (None, {}, "there is no NovaService shop in this namespace"),
    (document(), {}, "set its workloadRef.mode to Inject"),
    (document(workloadRef={"name": "shop"}), {}, "set its workloadRef.mode to Inject"),
    (document(workloadRef={"name": "shop", "mode": "Inject"}, ports=[]), {}, "is not valid: $.spec.ports"),
    (document(**INJECT | {"upstreams": [{"name": "a", "host": "10.0.0.1", "port": 1}]}), {}, "expected a host name"),
    (document(**INJECT), {"hostNetwork": True}, "$.spec.hostNetwork: expected a network of its own"),
    (document(**INJECT), {"containers": [{"name": "a"}, {"name": "b"}]}, "$.spec.appContainer"),
    ({**document(**INJECT), "metadata": {"name": "shop", "deletionTimestamp": "x"}}, {}, "is being deleted"),
    (IN_THE_WAY, {}, "is not in force: Service/shop belongs to somebody else"),
]


@pytest.mark.parametrize(("found", "changes", "says"), REFUSED, ids=[says for _, _, says in REFUSED])
def test_a_pod_that_cannot_have_it_is_told_why(
    found: dict[str, Any] | None, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InjectionError) as error:
        inject(pod(**changes), "shop", found, DEFAULTS)
    assert says in str(error.value)


def test_a_service_that_had_a_configuration_still_has_it() -> None:
    known = {**IN_THE_WAY, "status": {**IN_THE_WAY["status"], "configHash": "abc"}}
    assert inject(pod(), "shop", known, DEFAULTS).patch
