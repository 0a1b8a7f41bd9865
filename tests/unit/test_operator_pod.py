"""A pod of the user's with Nova laid over it: what is added, what stays, what is refused and what is warned of."""

from copy import deepcopy
from typing import Any

import pytest

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.pod import lay_over, pod_template, template_hash
from nova_operator.desired.pod_warnings import pod_warnings, workload_warnings

DEFAULTS = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m"})
OLD = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={}, platform=Platform.of("1", "28"))
AUTH = {"name": "auth", "host": "auth", "port": 80}
WEB: Manifest = {"name": "web", "image": "web:1"}


def service(**spec: Any) -> NovaService:
    body = {"ports": [{"port": 80, "appPort": 8080}], **spec}
    metadata = {"name": "shop", "namespace": "market", "uid": "u-1", "generation": 1}
    return convert(
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}, NovaService
    )


def of_template(pod: Manifest | None = None, *, metadata: Any = None, **spec: Any) -> NovaService:
    template = {"metadata": metadata or {}, "spec": {"containers": [WEB], **(pod or {})}}
    return service(template=template, **spec)


def laid(pod: Manifest | None = None, defaults: Defaults = DEFAULTS, **spec: Any) -> Manifest:
    result: Manifest = pod_template(of_template(pod, **spec), defaults)["spec"]
    return result


def web_of(pod: Manifest) -> Manifest:
    web: Manifest = next(one for one in pod["containers"] if one["name"] == "web")
    return web


def test_the_users_pod_stays_and_the_sidecar_comes_first() -> None:
    theirs: Manifest = {
        "initContainers": [{"name": "migrate", "image": "m:1"}],
        "containers": [WEB, {"name": "helper", "image": "h:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
        "securityContext": {"runAsUser": 0, "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]},
        "serviceAccountName": "mine",
        "terminationGracePeriodSeconds": 90,
        "nodeSelector": {"disk": "fast"},
        "topologySpreadConstraints": [],
        "automountServiceAccountToken": True,
    }
    before = deepcopy(theirs)
    pod = laid(theirs, appContainer="web", upstreams=[AUTH])
    assert theirs == before
    assert [one["name"] for one in pod["initContainers"]] == ["nova-sidecar", "migrate"]
    assert [one["name"] for one in pod["containers"]] == ["web", "helper"]
    assert pod["containers"][1] == before["containers"][1]
    assert [one["name"] for one in pod["volumes"]] == ["data", "nova-config"]
    assert [one["ip"] for one in pod["hostAliases"]] == ["10.0.0.1", "127.77.0.1"]
    sysctls = [one["name"] for one in pod["securityContext"]["sysctls"]]
    assert sysctls == ["net.core.somaxconn", "net.ipv4.ip_unprivileged_port_start"]
    assert pod["securityContext"]["runAsUser"] == 0
    same = (
        "serviceAccountName", "terminationGracePeriodSeconds", "nodeSelector", "topologySpreadConstraints",
        "automountServiceAccountToken",
    )  # fmt: skip
    assert {name: pod[name] for name in same} == {name: before[name] for name in same}


def test_an_ordinary_sidecar_is_the_first_container() -> None:
    pod = laid(defaults=OLD)
    assert [one["name"] for one in pod["containers"]] == ["nova-sidecar", "web"]
    assert "initContainers" not in pod


def test_labels_and_annotations_of_the_pods() -> None:
    given = {"labels": {"team": "a", "app.kubernetes.io/name": "mine"}, "annotations": {"scrape": "no"}}
    metadata = pod_template(of_template(metadata=given), DEFAULTS)["metadata"]
    assert metadata["labels"] == {"team": "a", "app.kubernetes.io/name": "mine", names.LABEL_SERVICE: "shop"}
    assert metadata["annotations"] == {"scrape": "no"}


@pytest.mark.parametrize(
    ("container", "hook"),
    [
        ({}, {"preStop": {"sleep": {"seconds": 10}}}),
        ({"lifecycle": {"preStop": {"httpGet": {"port": 1}}}}, {"preStop": {"httpGet": {"port": 1}}}),
        ({"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}, {
            "preStop": {"sleep": {"seconds": 10}}, "postStart": {"sleep": {"seconds": 1}},
        }),
    ],
)  # fmt: skip
def test_a_hook_of_the_users_stays(container: Manifest, hook: Manifest) -> None:
    assert web_of(laid({"containers": [WEB | container]}))["lifecycle"] == hook


def test_a_variable_of_the_users_stays() -> None:
    mine = {"name": "NOVA_UPSTREAM_AUTH_URL", "value": "http://mine"}
    assert web_of(laid({"containers": [WEB | {"env": [mine]}]}, upstreams=[AUTH]))["env"] == [mine]


def test_an_upstream_of_grpc_has_a_target_too() -> None:
    calls = AUTH | {"name": "user-names", "protocol": "grpc", "port": 50051}
    assert web_of(laid({"containers": [WEB]}, upstreams=[calls]))["env"] == [
        {"name": "NOVA_UPSTREAM_USER_NAMES_URL", "value": f"http://{AUTH['host']}:50051"},
        {"name": "NOVA_UPSTREAM_USER_NAMES_TARGET", "value": f"dns:///{AUTH['host']}:50051"},
    ]


def test_probes_are_left_as_they_are() -> None:
    probes = {"readinessProbe": {"httpGet": {"port": 8080}}, "startupProbe": {"tcpSocket": {"port": 8080}}}
    assert probes.items() <= web_of(laid({"containers": [WEB | probes]})).items()


@pytest.mark.parametrize(
    ("given", "names_", "app"),
    [(None, ["web"], "web"), (None, ["app", "web"], "app"), ("web", ["app", "web"], "web"), ("web", ["web"], "web")],
)
def test_which_container_is_the_app(given: str | None, names_: list[str], app: str) -> None:
    containers = [{"name": name, "image": "i"} for name in names_]
    spec: Manifest = {"appContainer": given} if given else {}
    pod = laid({"containers": containers}, **spec)
    assert [one["name"] for one in pod["containers"] if "lifecycle" in one] == [app]


REFUSED: dict[str, tuple[Manifest, Any, str, str]] = {
    "hostNetwork": ({"hostNetwork": True}, {}, "hostNetwork", "network of its own"),
    "Windows": ({"os": {"name": "windows"}}, {}, "os.name", "linux"),
    "the sidecar's name": ({"containers": [WEB, {"name": "nova-sidecar"}]}, {}, "containers[1].name", "sidecar's own"),
    "its name among init containers": (
        {"initContainers": [{"name": "nova-sidecar"}]}, {}, "initContainers[0].name", "sidecar's own",
    ),
    "a name twice": ({"initContainers": [{"name": "web"}]}, {}, "containers[0].name", "no other container has"),
    "a reserved port": (
        {"containers": [WEB | {"ports": [{"containerPort": 15020}]}]}, {},
        "containers[0].ports[0].containerPort", "outside 15000-15199",
    ),
    "an upstream's port": (
        {"containers": [WEB | {"ports": [{"containerPort": 80}]}]}, {"upstreams": [AUTH]},
        "containers[0].ports[0].containerPort", "stands for the upstream auth",
    ),
    "the volume": ({"volumes": [{"name": "nova-config"}]}, {}, "volumes[0].name", "the sidecar's"),
    "a TLS volume": ({"volumes": [{"name": "nova-tls-7"}]}, {}, "volumes[0].name", "the sidecar's"),
    "an upstream's host": (
        {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["auth.market.svc"]}]}, {"upstreams": [AUTH]},
        "hostAliases[0].hostnames", "expected no auth.market.svc",
    ),
    "an upstream's address": (
        {"hostAliases": [{"ip": "127.77.0.1", "hostnames": ["x"]}]}, {"upstreams": [AUTH]}, "hostAliases[0].ip",
        "127.77.0.* are upstreams",
    ),
    "a sysctl": (
        {"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "1024"}]}},
        {"upstreams": [AUTH]}, "securityContext.sysctls[0].value", "at most 80",
    ),
    "too little time": (
        {"terminationGracePeriodSeconds": 30}, {}, "terminationGracePeriodSeconds", "at least 45",
    ),
    "no list": ({"volumes": {"name": "a"}}, {}, "volumes", "a list of objects"),
    "no objects": ({"containers": ["web"]}, {}, "containers", "a list of objects"),
}  # fmt: skip


@pytest.mark.parametrize(("pod", "spec", "path", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_together_is_refused_by_its_field(pod: Manifest, spec: Any, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        desired_state(of_template(pod, **spec), DEFAULTS)
    assert refusal.value.path == f"$.spec.template.spec.{path}"
    assert says in refusal.value.rule


@pytest.mark.parametrize(
    ("containers", "app", "says"),
    [
        ([WEB, WEB | {"name": "other"}], None, "one of web, other"),
        ([WEB], "shop", "one of web, got shop"),
        ([], None, "the pod has none"),
    ],
)
def test_an_app_that_is_not_there_or_not_clear_is_refused(containers: Any, app: str | None, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        desired_state(of_template({"containers": containers}, **({"appContainer": app} if app else {})), DEFAULTS)
    assert refusal.value.path == "$.spec.appContainer"
    assert says in refusal.value.rule


def test_a_label_that_is_novas_is_refused_with_another_value() -> None:
    with pytest.raises(ConfigError) as refusal:
        desired_state(of_template(metadata={"labels": {names.LABEL_SERVICE: "other"}}), DEFAULTS)
    assert refusal.value.path == "$.spec.template.metadata.labels.nova.dev/service"


def test_a_port_that_speaks_udp_and_a_low_enough_sysctl_are_no_conflict() -> None:
    udp = {"ports": [{"containerPort": 80, "protocol": "UDP"}]}
    sysctl = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]}
    pod = laid({"containers": [WEB | udp], "securityContext": sysctl}, upstreams=[AUTH])
    assert pod["securityContext"] == sysctl


def test_a_created_pod_gets_it_too_and_more_time() -> None:
    pod: Manifest = {"metadata": {"name": "web-x", "labels": {"app": "web"}}, "spec": {"containers": [WEB]}}
    pod["spec"]["terminationGracePeriodSeconds"] = 30
    result = lay_over(service(workloadRef={"name": "web", "mode": "Inject"}), pod, DEFAULTS, "$")
    assert result["metadata"] == {"name": "web-x", "labels": {"app": "web", names.LABEL_SERVICE: "shop"}}
    assert result["spec"]["terminationGracePeriodSeconds"] == 45


def test_the_hash_of_a_template_moves_with_what_restarts_pods_alone() -> None:
    def of(**spec: Any) -> str:
        return template_hash(pod_template(of_template(**spec), DEFAULTS))

    assert of() == of(backpressure={"maxConcurrency": 7})
    assert of() != of(upstreams=[AUTH])
    assert len(of()) == 10


WARNED: dict[str, tuple[Manifest, Any, Defaults, str]] = {
    "a hook": (
        {"containers": [WEB | {"lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}}]}, {}, DEFAULTS,
        "template.spec.containers[web].lifecycle.preStop is kept",
    ),
    "a short sleep": (
        {"containers": [WEB | {"lifecycle": {"preStop": {"sleep": {"seconds": 9}}}}]}, {}, DEFAULTS,
        "only if it takes 10 s or more",
    ),
    "a host port": (
        {"containers": [WEB | {"ports": [{"containerPort": 1, "hostPort": 31000}]}]}, {}, DEFAULTS,
        "the node's port 31000",
    ),
    "name servers": ({"dnsPolicy": "Default"}, {"upstreams": [AUTH]}, DEFAULTS, "dnsPolicy Default"),
    "init containers": (
        {"initContainers": [{"name": "migrate"}]}, {"upstreams": [AUTH]}, OLD, "end before the sidecar starts",
    ),
    "a profile": (
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}}, {}, DEFAULTS,
        "is the sidecar's too",
    ),
    "little time": ({"terminationGracePeriodSeconds": 10}, {}, DEFAULTS, "shorter than shutdown.gracePeriod 45s"),
}  # fmt: skip


@pytest.mark.parametrize(("pod", "spec", "defaults", "says"), WARNED.values(), ids=WARNED)
def test_what_works_worse_is_told(pod: Manifest, spec: Any, defaults: Defaults, says: str) -> None:
    (warning,) = workload_warnings(of_template(pod, **spec), None, defaults.platform)
    assert says in warning
    assert "\n" not in warning


def test_a_pod_as_the_operator_makes_it_warns_of_nothing() -> None:
    for defaults in (DEFAULTS, OLD):
        assert workload_warnings(of_template(upstreams=[AUTH]), None, defaults.platform) == ()
        pod = laid(defaults=defaults, upstreams=[AUTH])
        assert pod_warnings(of_template(upstreams=[AUTH]), pod, defaults.platform, "") == ()
    assert workload_warnings(service(image="i:1"), None, Platform()) == ()
    assert workload_warnings(of_template({"containers": []}), None, Platform()) == ()


def test_a_deployment_of_somebody_elses_is_warned_of_where_it_is_known() -> None:
    theirs = {
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [WEB], "dnsPolicy": "Default"}}},
    }
    of = service(workloadRef={"name": "web"}, upstreams=[AUTH])
    assert workload_warnings(of, None, Platform()) == ()
    (warning,) = workload_warnings(of, theirs, Platform())
    assert warning.startswith("Deployment/web spec.template.spec.dnsPolicy")
