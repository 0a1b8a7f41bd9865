"""The builders: whole manifests against golden files, and the decisions one by one.

After a change that is meant, write the golden files anew:

    UPDATE_GOLDEN=1 pytest tests/unit/test_operator_desired.py
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from nova_api import names, proxy
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.host_aliases import aliases, host_aliases
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest

GOLDEN = Path(__file__).parent / "operator_golden"
DEFAULTS = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m", "memory": "64Mi"})
OLD = Defaults(sidecar_image="nova-sidecar:test", sidecar_requests={"cpu": "50m"}, platform=Platform.of("1", "28"))


def service(name: str = "shop", namespace: str = "market", **spec: Any) -> NovaService:
    body = {"image": "registry.example/shop:1", "ports": [{"port": 80, "appPort": 8080}], **spec}
    metadata = {"name": name, "namespace": namespace, "uid": "u-1", "generation": 1}
    return convert(
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}, NovaService
    )


def build(kind: str, defaults: Defaults = DEFAULTS, **spec: Any) -> Manifest:
    return next(manifest for manifest in desired_state(service(**spec), defaults) if manifest["kind"] == kind)


def kinds(**spec: Any) -> list[str]:
    return [manifest["kind"] for manifest in desired_state(service(**spec), DEFAULTS)]


def upstream(name: str, host: str, port: int = 9090) -> dict[str, Any]:
    return {"name": name, "host": host, "port": port}


@pytest.mark.parametrize("name", ["minimal", "full", "template"])
def test_the_manifests_are_the_golden_ones(name: str) -> None:
    document = yaml.safe_load((GOLDEN / f"{name}.in.yaml").read_text())
    manifests = list(desired_state(convert(document, NovaService), DEFAULTS))
    for manifest in manifests:  # hashes and the proxy document have tests of their own
        manifest["metadata"]["annotations"][ANNOTATION_MANIFEST_HASH] = "…"
        if manifest["kind"] == "ConfigMap":
            manifest["data"] = dict.fromkeys(manifest["data"], "…")
    golden = GOLDEN / f"{name}.out.yaml"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True, width=120))
    assert manifests == list(yaml.safe_load_all(golden.read_text()))


def test_the_sidecar_gets_the_document_that_the_model_resolves() -> None:
    document = build("ConfigMap")["data"][names.CONFIG_KEY].encode()
    assert proxy.decode(document) == resolve(service())


def test_what_pods_need_comes_before_them() -> None:
    assert kinds(replicas=2) == [
        "ServiceAccount", "ConfigMap", "Service", "Service", "PodDisruptionBudget", "Deployment",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("replicas", "mode", "has"), [(0, "Auto", False), (1, "Auto", False), (2, "Auto", True), (9, "Off", False)]
)
def test_a_budget_exists_only_where_it_cannot_block_a_drain(replicas: int, mode: str, has: bool) -> None:
    assert ("PodDisruptionBudget" in kinds(replicas=replicas, podDisruptionBudget={"mode": mode})) is has


def test_a_changed_threshold_changes_the_config_map_and_not_the_deployment() -> None:
    changed = {"backpressure": {"maxConcurrency": 7}}
    assert build("Deployment") == build("Deployment", **changed)
    assert build("ConfigMap") != build("ConfigMap", **changed)


def test_the_hash_annotation_moves_with_everything_that_is_said() -> None:
    def hash_of(manifest: Manifest) -> str:
        return str(manifest["metadata"]["annotations"][ANNOTATION_MANIFEST_HASH])

    probe = {"readinessProbe": {"httpGet": {"port": 8080}}}
    assert hash_of(build("Deployment")) == hash_of(build("Deployment"))
    assert hash_of(build("Deployment")) != hash_of(build("Deployment", **probe))


def test_equal_services_give_equal_manifests() -> None:
    assert desired_state(service(), DEFAULTS) == desired_state(service(), DEFAULTS)


def test_an_old_server_gets_an_ordinary_container_and_a_sleep_binary() -> None:
    pod = build("Deployment", OLD)["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    sidecar, app = pod["containers"]
    assert (sidecar["name"], "restartPolicy" in sidecar) == (names.SIDECAR_CONTAINER, False)
    assert app["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "10"]}}}


def test_without_a_wait_there_is_no_hook() -> None:
    pod = build("Deployment", shutdown={"preStop": "0s"})["spec"]["template"]["spec"]
    assert "lifecycle" not in pod["containers"][0]


@pytest.mark.parametrize(("port", "asks"), [(80, True), (1023, True), (1024, False), (9090, False)])
def test_a_privileged_upstream_port_needs_a_safe_sysctl(port: int, asks: bool) -> None:
    spec = {"ports": [{"port": 80, "appPort": 8080}], "upstreams": [upstream("auth", "auth", port)]}
    security = build("Deployment", **spec)["spec"]["template"]["spec"]["securityContext"]
    assert ("sysctls" in security) is asks


@pytest.mark.parametrize(
    ("major", "minor", "native", "sleep"),
    [
        ("1", "28", False, False),
        ("1", "29+", True, False),
        ("1", "30", True, True),
        ("1", "34+", True, True),
        ("2", "0", True, True),
        ("", "", False, False),
    ],
)
def test_what_a_server_can_do_follows_from_its_version(major: str, minor: str, native: bool, sleep: bool) -> None:
    platform = Platform.of(major, minor)
    assert (platform.native_sidecars, platform.sleep_action) == (native, sleep)
    assert (platform.http_routes, platform.pod_monitors) == (False, False)  # no version tells


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("auth", ("auth.market", "auth.market.svc", "auth.market.svc.cluster.local")),
        ("auth.market", ("auth", "auth.market.svc", "auth.market.svc.cluster.local")),
        ("auth.id", ("auth.id.svc", "auth.id.svc.cluster.local")),
        ("auth.id.svc", ("auth.id", "auth.id.svc.cluster.local")),
        ("auth.id.svc.cluster.local", ("auth.id", "auth.id.svc")),
        ("api.mail.example", ()),
        ("a.b.c.d", ()),
    ],
)
def test_a_service_is_intercepted_under_all_of_its_names(host: str, expected: tuple[str, ...]) -> None:
    assert aliases(host, "market") == expected


def test_a_spelled_out_host_keeps_its_own_address() -> None:
    spec = {"upstreams": [upstream("short", "auth"), upstream("long", "auth.market.svc")]}
    assert host_aliases(service(**spec)) == [
        {"ip": "127.77.0.1", "hostnames": ["auth", "auth.market", "auth.market.svc.cluster.local"]},
        {"ip": "127.77.0.2", "hostnames": ["auth.market.svc"]},
    ]


def test_no_host_name_has_two_addresses() -> None:
    hosts = ["auth", "auth.market", "auth.market.svc", "auth.market.svc.cluster.local", "auth.id", "mail.example"]
    spec = {"upstreams": [upstream(f"u{index}", host) for index, host in enumerate(hosts)]}
    said = [name for entry in host_aliases(service(**spec)) for name in entry["hostnames"]]
    assert len(said) == len(set(said))


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({"upstreams": [upstream("auth", "auth", 8080)]}, "$.spec.upstreams[0].port", "another port than 8080"),
        ({"upstreams": [upstream("auth", "auth", 15020)]}, "$.spec.upstreams[0].port", "outside 15000-15199"),
        ({"ports": [{"port": 80, "appPort": 15100}]}, "$.spec.ports[0].appPort", "outside 15000-15199"),
        *(
            ({"upstreams": [upstream("auth", host)]}, "$.spec.upstreams[0].host", "past the sidecar")
            for host in ("localhost", "app.localhost", "10.0.0.1", "127.1", "1", "0x7f000001", "10.0.0.0x1", "a.1")
        ),
    ],
)
def test_what_could_never_run_is_refused_with_the_field(spec: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        desired_state(service(**spec), DEFAULTS)
    assert refusal.value.path == path
    assert says in refusal.value.rule


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("defaults", [DEFAULTS, OLD])
def test_pods_meet_pod_security_restricted(defaults: Defaults) -> None:
    pod = build("Deployment", defaults)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in _containers(pod):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_every_container_of_the_sidecar_has_a_cpu_request_for_the_autoscaler() -> None:
    spec = {"sidecar": {"resources": {"requests": {"memory": "1Gi"}}}}
    sidecar = build("Deployment", **spec)["spec"]["template"]["spec"]["initContainers"][0]
    assert sidecar["resources"] == {"requests": {"cpu": "50m", "memory": "1Gi"}}


@pytest.mark.parametrize(
    "host", ["auth", "10-0-0-1.shop.pod", "3scale", "1.example.com", "a.0x1g", "localhost.example.com"]
)
def test_names_that_only_look_like_addresses_are_names(host: str) -> None:
    assert build("Deployment", upstreams=[upstream("auth", host)])
