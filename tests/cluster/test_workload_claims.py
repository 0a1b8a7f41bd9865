"""Deployments that are missing, unsuitable, taken or on their way out: what is said, and that it goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, SERVICE, Kind
from tests.cluster.api import NAMESPACE, Api, ApiError, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.workload import adopt, adopted, delete, has_sidecar, is_adopted, nova, said, web

POLICIES = Kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
BINDINGS = Kind(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"
)
SECONDS_FOR_RETRY = 30.0
"""The operator looks again after 10 to 12 s."""


@pytest.fixture(scope="module")
def doomed(api: Api) -> Iterator[str]:
    """A second namespace."""
    with api.namespace() as name:
        yield name


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, doomed: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    places = [f"--namespace={namespace}", f"--namespace={doomed}"]
    with running(apiserver, log, *places, "--sidecar-image=sidecar:test") as process:
        yield process


def becomes(api: Api, namespace: str, service: str, reason: str) -> str:
    """Wait until it is not ready for this reason; the message."""

    def holds() -> None:
        assert api.conditions(namespace, service).get("Ready") == ("False", reason)

    eventually(holds, SECONDS_FOR_RETRY)
    return api.message(namespace, service)


def test_what_is_in_the_way_is_said_and_when_it_goes_the_service_continues(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    adopt(api, namespace, "missing")
    api.create(DEPLOYMENT, namespace, web("unsuitable", hostNetwork=True))
    adopt(api, namespace, "unsuitable")
    adopted(api, namespace, "taken")
    rival = {"workloadRef": {"name": "taken"}, "ports": [{"port": 80}]}
    api.create(NOVA_SERVICE, namespace, {"metadata": {"name": "rival"}, "spec": rival})
    api.create(DEPLOYMENT, namespace, web("named"))
    theirs = api.create(SERVICE, namespace, {"metadata": {"name": "named"}, "spec": {"ports": [{"port": 80}]}})
    same = {"workloadRef": {"name": "named"}, "ports": [{"port": 80, "appPort": 8080}]}
    api.create(NOVA_SERVICE, namespace, {"metadata": {"name": "named"}, "spec": same})

    said = becomes(api, namespace, nova("missing"), "WorkloadMissing")
    assert said.startswith(f"there is no Deployment/missing in the namespace {namespace}; create it")
    assert api.find(CONFIG_MAP, namespace, "missing-nova-nova") is None
    said = becomes(api, namespace, nova("unsuitable"), "WorkloadUnsuitable")
    assert said.startswith("Deployment/unsuitable $.spec.template.spec.hostNetwork: expected")
    said = becomes(api, namespace, "rival", "Conflict")
    assert said.startswith("Deployment/taken belongs to the NovaService taken-nova already")
    said = becomes(api, namespace, "named", "Conflict")
    assert said.startswith("Service/named exists and is not this service's; name the NovaService differently")
    assert not has_sidecar(api.deployment(namespace, "named"))

    api.create(DEPLOYMENT, namespace, web("missing"))
    off = {"spec": {"template": {"spec": {"hostNetwork": None}}}}
    api.patch(DEPLOYMENT, namespace, "unsuitable", off)
    delete(api, namespace, "taken")
    api.delete(SERVICE, namespace, "named")
    waiting = ("missing", "unsuitable", "taken", "named")
    until(lambda: all(is_adopted(api.deployment(namespace, name)) for name in waiting), SECONDS_FOR_RETRY)
    assert api.deployment(namespace, "taken")["metadata"]["labels"] == {"nova.dev/service": "rival"}
    assert api.get(SERVICE, namespace, "named")["metadata"]["uid"] != theirs["metadata"]["uid"]


def test_what_a_nova_service_makes_is_not_adopted(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "maker")
    until(lambda: api.find(DEPLOYMENT, namespace, "maker"))
    adopt(api, namespace, "maker")
    said = becomes(api, namespace, nova("maker"), "Conflict")
    assert said.startswith("Deployment/maker is made by the NovaService maker")
    delete(api, namespace, "maker")
    api.change(namespace, "maker", image=None, workloadRef={"name": "maker"})
    said = becomes(api, namespace, "maker", "Conflict")
    assert said.startswith("Deployment/maker was made by this service")
    assert api.find(DEPLOYMENT, namespace, "maker") is not None


def test_its_owner_scales_it_and_deletes_it(api: Api, namespace: str, operator: OperatorProcess) -> None:
    adopted(api, namespace, "scaled")
    api.patch(DEPLOYMENT, namespace, "scaled", {"spec": {"replicas": 5}})

    def told() -> None:
        assert "of 5 pods" in api.message(namespace, nova("scaled"))

    eventually(told)
    assert api.deployment(namespace, "scaled")["spec"]["replicas"] == 5
    api.delete(DEPLOYMENT, namespace, "scaled", propagationPolicy="Background")
    becomes(api, namespace, nova("scaled"), "WorkloadMissing")
    delete(api, namespace, "scaled")


def test_it_is_given_back_when_the_service_wants_something_else(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    before = adopted(api, namespace, "first")
    api.create(DEPLOYMENT, namespace, web("second"))
    api.change(namespace, nova("first"), workloadRef={"name": "second"})
    until(lambda: is_adopted(api.deployment(namespace, "second")))
    assert said(api.deployment(namespace, "first")) == said(before)
    api.change(namespace, nova("first"), workloadRef={"name": "second", "mode": "Inject"})
    until(lambda: not has_sidecar(api.deployment(namespace, "second")))

    def let_go() -> None:
        assert "finalizers" not in api.get(NOVA_SERVICE, namespace, nova("first"))["metadata"]

    eventually(let_go)


def test_a_service_that_was_forced_away_leaves_what_the_next_one_can_take(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    before = adopted(api, namespace, "forced")
    api.patch(NOVA_SERVICE, namespace, nova("forced"), {"metadata": {"finalizers": None}})
    api.delete(NOVA_SERVICE, namespace, nova("forced"))
    again = {"workloadRef": {"name": "forced"}, "ports": [{"port": 80, "appPort": 8080}]}
    api.create(NOVA_SERVICE, namespace, {"metadata": {"name": "again"}, "spec": again})

    def taken() -> None:
        assert api.deployment(namespace, "forced")["metadata"]["labels"] == {"nova.dev/service": "again"}

    eventually(taken, SECONDS_FOR_RETRY)
    api.delete(NOVA_SERVICE, namespace, "again")
    until(lambda: api.find(NOVA_SERVICE, namespace, "again") is None)
    assert said(api.deployment(namespace, "forced")) == said(before)


def test_a_namespace_goes_with_all_that_is_adopted_in_it(api: Api, doomed: str, operator: OperatorProcess) -> None:
    adopted(api, doomed, "inside")
    api.delete(NAMESPACE, None, doomed)
    until(lambda: api.find(NOVA_SERVICE, doomed, nova("inside")) is None, SECONDS_FOR_RETRY)


@contextmanager
def frozen(api: Api, namespace: str, name: str) -> Iterator[None]:
    """A policy that lets nobody change a Deployment."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    policy = {
        "matchConstraints": {"resourceRules": [{**rule, "resourceNames": [name]}]},
        "validations": [{"expression": "false", "message": "it is frozen"}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": "frozen", "validationActions": ["Deny"], "matchResources": here}
    api.create(POLICIES, None, {"metadata": {"name": "frozen"}, "spec": policy})
    api.create(BINDINGS, None, {"metadata": {"name": "frozen"}, "spec": binding})
    try:
        yield
    finally:
        api.delete(BINDINGS, None, "frozen")
        api.delete(POLICIES, None, "frozen")


def test_a_refusal_to_give_back_is_said_and_waited_out(api: Api, namespace: str, operator: OperatorProcess) -> None:
    before = adopted(api, namespace, "frozen")
    probe = {"metadata": {"annotations": {"probe": "1"}}}
    with frozen(api, namespace, "frozen"):
        until(lambda: refuses(api, namespace, "frozen", probe))
        api.delete(NOVA_SERVICE, namespace, nova("frozen"))

        def told() -> None:
            message = api.message(namespace, nova("frozen"), "Degraded")
            assert message.startswith("a Deployment cannot be given back")
            assert "it is frozen" in message

        eventually(told)
    until(lambda: api.find(NOVA_SERVICE, namespace, nova("frozen")) is None, SECONDS_FOR_RETRY)
    after = said(api.deployment(namespace, "frozen"))
    assert after["spec"] == before["spec"]


def refuses(api: Api, namespace: str, name: str, change: Object) -> bool:
    """Whether a change is refused by now."""
    try:
        api.patch(DEPLOYMENT, namespace, name, change)
    except ApiError as error:
        return "it is frozen" in error.message
    return False
