"""Adoption and giving back: whatever the Deployment and whatever its owner does meanwhile, it comes back as it was."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator import adoption
from nova_operator.adoption import adopt, disown, give_back, let_go, own_of, read, settle
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.metadata import Manifest
from nova_operator.plan import ConflictError
from nova_operator.reversal import changes, take_back

DEFAULTS = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m"})
OLD = Defaults(
    sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m"}, platform=Platform(native_sidecars=False)
)
UPSTREAMS = [
    {"name": "auth", "host": "auth", "port": 80, "tls": {"secret": "auth-ca"}},
    {"name": "stock", "host": "stock.store", "port": 9090},
]


def service(name: str = "shop", uid: str = "u-1", **spec: Any) -> NovaService:
    body = {"workloadRef": {"name": "web"}, "ports": [{"port": 8080}], **spec}
    metadata = {"name": name, "namespace": "market", "uid": uid, "generation": 1}
    return convert(
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}, NovaService
    )


def deployment(pod: Manifest | None = None, container: Manifest | None = None, **metadata: Any) -> Manifest:
    """As the API server gives it: with its defaults."""
    app = {"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}], "resources": {}, **(container or {})}
    spec = {"containers": [app], "terminationGracePeriodSeconds": 30, "securityContext": {}, **(pod or {})}
    about = {"name": "web", "namespace": "market", "uid": "d-1", "resourceVersion": "7", "generation": 1}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**about, **metadata},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }


def patched(document: Any, patch: Any) -> Any:
    """RFC 7396, and the defaults that the API server fills into what Nova adds."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value)
    return result


def served(live: Manifest, patch: Manifest) -> Manifest:
    result: Manifest = patched(live, patch)
    pod = result["spec"]["template"]["spec"]
    for one in [*pod.get("initContainers", ()), *pod["containers"]]:
        if one["name"] == names.SIDECAR_CONTAINER:
            one |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
    for volume in pod.get("volumes", ()):
        if "configMap" in volume:
            volume["configMap"].setdefault("defaultMode", 420)
    for name in [name for name, value in pod.items() if value == []]:
        del pod[name]  # the API server leaves empty lists out
    if not result["metadata"].get("annotations", {"": ""}):
        del result["metadata"]["annotations"]
    return result


def adopted(live: Manifest, of: NovaService | None = None, defaults: Defaults = DEFAULTS) -> Manifest:
    write = adopt(of or service(), live, defaults, None)
    assert write is not None
    return served(live, write.patch)


def given_back(live: Manifest) -> Manifest:
    patch = give_back(live)
    live = live if patch is None else served(live, patch)
    assert give_back(live) is None
    return served(live, let_go(live))


def pod_of(manifest: Manifest) -> Manifest:
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def app_of(manifest: Manifest) -> Manifest:
    app: Manifest = next(one for one in pod_of(manifest)["containers"] if one["name"] == "web")
    return app


ENV = st.lists(
    st.sampled_from(
        [
            {"name": "MODE", "value": "fast"},
            {"name": "NOVA_UPSTREAM_AUTH_URL", "value": "http://mine"},
            {"name": "MODE", "value": "again"},
        ]
    ),
    max_size=3,
)
CONTAINERS = st.fixed_dictionaries(
    {},
    optional={
        "env": ENV.filter(bool),
        "lifecycle": st.sampled_from([{}, {"postStart": {"exec": {"command": ["x"]}}}, {"preStop": {"sleep": {}}}]),
        "securityContext": st.sampled_from([{}, {"runAsUser": 0}]),
    },
)
PODS = st.fixed_dictionaries(
    {"terminationGracePeriodSeconds": st.sampled_from([0, 30, 45, 90])},
    optional={
        "initContainers": st.sampled_from([[{"name": "migrate", "image": "m:1"}]]),
        "volumes": st.sampled_from([[{"name": "data", "emptyDir": {}}]]),
        "hostAliases": st.sampled_from([[{"ip": "10.0.0.1", "hostnames": ["db"]}] * 2, [{"ip": "10.0.0.1"}]]),
        "securityContext": st.sampled_from([{}, {"sysctls": [{"name": "net.a", "value": "1"}]}, {"runAsUser": 5}]),
    },
)
METADATA = st.fixed_dictionaries({}, optional={"labels": st.just({"a": "b"}), "annotations": st.just({"c": "d"})})
DEPLOYMENTS = st.builds(lambda p, c, m: deployment(p, c, **m), PODS, CONTAINERS, METADATA)
SERVICES = st.sampled_from(
    [service(), service(upstreams=UPSTREAMS), service(upstreams=UPSTREAMS, shutdown={"preStop": "0s"})]
)


@given(DEPLOYMENTS, SERVICES, st.sampled_from([DEFAULTS, OLD]))
def test_what_was_adopted_comes_back_as_it_was(before: Manifest, of: NovaService, defaults: Defaults) -> None:
    assert given_back(adopted(before, of, defaults)) == before


@given(DEPLOYMENTS, SERVICES, SERVICES)
def test_so_it_does_after_the_service_has_changed(before: Manifest, of: NovaService, then: NovaService) -> None:
    live = adopted(before, of)
    write = adopt(then, live, DEFAULTS, None)
    assert given_back(served(live, write.patch) if write else live) == before


@given(DEPLOYMENTS, SERVICES)
def test_the_second_time_nothing_is_written(before: Manifest, of: NovaService) -> None:
    assert adopt(of, adopted(before, of), DEFAULTS, None) is None


def add_variable(live: Manifest) -> None:
    app_of(live)["env"] = [*app_of(live).get("env", ()), {"name": "ADDED", "value": "1"}]


def add_init_container(live: Manifest) -> None:
    pod_of(live)["initContainers"] = [*pod_of(live).get("initContainers", ()), {"name": "added", "image": "x"}]


def add_alias(live: Manifest) -> None:
    pod_of(live)["hostAliases"] = [*pod_of(live).get("hostAliases", ()), {"ip": "10.9.9.9", "hostnames": ["added"]}]


def add_hook(live: Manifest) -> None:
    app_of(live)["lifecycle"] = {**app_of(live).get("lifecycle", {}), "postStart": {"sleep": {"seconds": 1}}}


def change_image(live: Manifest) -> None:
    app_of(live)["image"] = "web:2"


def scale(live: Manifest) -> None:
    live["spec"]["replicas"] = 9


def more_time(live: Manifest) -> None:
    pod_of(live)["terminationGracePeriodSeconds"] = 600


def less_time(live: Manifest) -> None:
    pod_of(live)["terminationGracePeriodSeconds"] = 7


def replaced_altogether(live: Manifest) -> None:
    live["spec"] = deployment({"securityContext": {"runAsUser": 1}})["spec"]


OWNERS = [
    add_variable, add_init_container, add_alias, add_hook, change_image, scale, more_time, less_time,
]  # fmt: skip


@given(DEPLOYMENTS, SERVICES, st.lists(st.sampled_from(OWNERS), unique=True), st.booleans())
def test_what_its_owner_changes_meanwhile_stays(before: Manifest, of: NovaService, done: Any, put_back: bool) -> None:
    expected, live = deepcopy(before), adopted(before, of)
    for change in done:
        change(expected)
        change(live)
        if put_back and (write := adopt(of, live, DEFAULTS, None)) is not None:
            live = served(live, write.patch)
            assert adopt(of, live, DEFAULTS, None) is None
    assert given_back(live) == expected


def test_a_deployment_that_was_replaced_altogether_is_adopted_anew() -> None:
    live = adopted(deployment(), service(upstreams=UPSTREAMS))
    replaced_altogether(live)
    del live["metadata"]["annotations"], live["metadata"]["labels"]
    expected = deepcopy(live)
    assert given_back(adopted(live)) == expected


def test_only_what_is_needed_is_written() -> None:
    write = adopt(service(), deployment(labels={"a": "b"}), DEFAULTS, None)
    assert write is not None
    assert write.why == "adopted"
    patch = write.patch
    assert patch["metadata"].pop("annotations").keys() == {adoption.ANNOTATION}
    exactly = {"name": "web", "namespace": "market", "uid": "d-1", "resourceVersion": "7"}
    assert patch["metadata"] == {**exactly, "labels": {"nova.dev/service": "shop"}}
    assert patch["spec"].keys() == {"template"}
    assert patch["spec"]["template"]["metadata"] == {"labels": {"nova.dev/service": "shop"}}
    pod = patch["spec"]["template"]["spec"]
    assert pod.keys() == {"containers", "initContainers", "volumes", "terminationGracePeriodSeconds"}
    assert pod["containers"] == [
        {**app_of(deployment()), "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}},
    ]


def drifted(change: Any) -> adoption.Write:
    live = adopted(deployment(), service(upstreams=UPSTREAMS))
    change(live)
    write = adopt(service(upstreams=UPSTREAMS), live, DEFAULTS, None)
    assert write is not None
    fixed = served(live, write.patch)
    assert adopt(service(upstreams=UPSTREAMS), fixed, DEFAULTS, None) is None
    return write


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda live: pod_of(live).pop("initContainers"), "spec.template.spec.initContainers"),
        (lambda live: pod_of(live)["initContainers"][0].update(image="evil"), "initContainers[nova-sidecar].image"),
        (lambda live: pod_of(live).pop("hostAliases"), "spec.template.spec.hostAliases"),
        (lambda live: app_of(live)["env"].pop(0), "env[NOVA_UPSTREAM_AUTH_URL]"),
        (lambda live: app_of(live).pop("lifecycle"), "containers[web].lifecycle"),
        (lambda live: pod_of(live)["volumes"].pop(0), "volumes[nova-config]"),
        (lambda live: live["metadata"]["labels"].clear(), "metadata.labels.nova.dev/service"),
        (
            lambda live: live["spec"]["template"]["metadata"]["labels"].pop("nova.dev/service"),
            "template.metadata.labels",
        ),
    ],
)
def test_what_is_missing_is_put_back(change: Any, why: str) -> None:
    assert why in drifted(change).why


def test_what_the_service_no_longer_wants_goes() -> None:
    live = adopted(deployment(), service(upstreams=UPSTREAMS))
    write = adopt(service(), live, DEFAULTS, None)
    assert write is not None
    assert write.why == "changed"
    live = served(live, write.patch)
    assert ("hostAliases" in pod_of(live), "env" in app_of(live)) == (False, False)


def test_a_spelling_of_the_servers_is_no_drift_once_it_was_written() -> None:
    write = adopt(service(), deployment(), DEFAULTS, None)
    assert write is not None
    live = served(deployment(), write.patch)
    pod_of(live)["initContainers"][0]["image"] = "spelled/differently"
    assert adopt(service(), live, DEFAULTS, None) is not None
    assert adopt(service(), live, DEFAULTS, settle(write, live)) is None


def test_time_to_leave_is_the_longer_of_both() -> None:
    assert pod_of(adopted(deployment()))["terminationGracePeriodSeconds"] == 45
    longer = deployment({"terminationGracePeriodSeconds": 90})
    assert pod_of(adopted(longer))["terminationGracePeriodSeconds"] == 90


def test_a_value_that_its_owner_sets_again_is_the_owners_until_the_service_wants_another() -> None:
    live = adopted(deployment())
    less_time(live)
    assert adopt(service(), live, DEFAULTS, None) is None
    asks = service(shutdown={"gracePeriod": "50s"})
    write = adopt(asks, live, DEFAULTS, None)
    assert write is not None
    live = served(live, write.patch)
    assert pod_of(live)["terminationGracePeriodSeconds"] == 50
    assert pod_of(given_back(live))["terminationGracePeriodSeconds"] == 7


def test_the_annotation_says_whose_it_is() -> None:
    found = read(adopted(deployment()))
    assert found is not None
    assert (found.service, found.uid) == ("shop", "u-1")
    assert read(deployment()) is None
    assert own_of(deployment()) == deployment()
    assert give_back(deployment()) is None


@pytest.mark.parametrize(
    "changes",
    [
        "",
        "{}",
        '[{"at": []}]',
        '[{"at": ["metadata", "annotations"], "set": 1}]',
        '[{"at": ["spec", "replicas"], "set": 2}]',
        '[{"at": ["spec", "template", {}]}]',
        '[{"at": ["spec", "template", {"a": "b", "c": "d"}]}]',
        '[{"at": ["spec", "template"]}]',
        '[{"at": ["spec", "template", "spec"]}]',
        '[{"at": ["spec", "template", "metadata"], "set": {}, "was": 5}]',
        '[{"at": ["spec", "template", "metadata", "annotations"]}]',
        '[{"at": ["spec", "template", "metadata", "labels"], "set": {"app": "web"}, "was": 5}]',
        '[{"at": ["metadata", "labels"], "set": {"app": "web"}, "was": "x"}]',
        '[{"at": ["metadata", "labels", "app"], "set": "web", "was": {}}]',
        "[" * 100_000,
    ],
)
def test_an_annotation_that_nova_cannot_have_written_is_none(changes: str) -> None:
    forged = deployment(
        annotations={adoption.ANNOTATION: f'{{"service":"a","uid":"b","hash":"c","changes":{changes}}}'}
    )
    assert read(forged) is None
    assert own_of(forged) == forged
    assert own_of(deployment()) == deployment()
    assert give_back(deployment()) is None


def test_the_operator_manages_no_field_in_the_end() -> None:
    theirs, ours = {"manager": "helm", "operation": "Update"}, {"manager": "nova-operator", "operation": "Update"}
    assert disown(deployment()) is None
    assert disown(deployment(managedFields=[theirs])) is None
    patch = disown(deployment(managedFields=[theirs, ours]))
    assert patch is not None
    exactly = {"name": "web", "namespace": "market", "uid": "d-1", "resourceVersion": "7"}
    assert patch["metadata"] == {**exactly, "managedFields": [theirs]}
    assert patch.keys() == {"apiVersion", "kind", "metadata"}
    alone = disown(deployment(managedFields=[ours]))
    assert alone is not None
    assert alone["metadata"]["managedFields"] == [{}]


@pytest.mark.parametrize(
    ("name", "says"), [("other", "made by the NovaService other"), ("shop", "made by this service")]
)
def test_what_a_nova_service_makes_is_not_adopted(name: str, says: str) -> None:
    owner = {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "name": name, "uid": "x", "controller": True}
    with pytest.raises(ConflictError, match=says):
        adopt(service(), deployment(ownerReferences=[owner]), DEFAULTS, None)


def test_what_cannot_have_a_sidecar_is_refused_by_its_field() -> None:
    with pytest.raises(ConfigError) as refusal:
        adopt(service(), deployment({"hostNetwork": True}), DEFAULTS, None)
    assert refusal.value.path == "Deployment/web $.spec.template.spec.hostNetwork"


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_whatever_is_laid_over_can_be_taken_back(before: Any, more: Any) -> None:
    after = _over(before, more)
    assert take_back({"": after}, tuple(changes({"": before}, {"": after}))) == {"": before}


def _over(before: Any, more: Any) -> Any:
    if isinstance(before, dict) and isinstance(more, dict):
        return {**before, **{name: _over(before.get(name), value) for name, value in more.items()}}
    return more
