"""The children of a service with a canary, from those of one without."""

from typing import Any

import pytest

from nova_api import names, proxy
from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest
from nova_operator.desired.track import marked_hash, marked_track
from nova_operator.rollout.arrange import arrange
from nova_operator.rollout.callers import service_of, with_canaries
from nova_operator.rollout.ports import keep_ports
from nova_operator.rollout.wanted import Wanted

DEFAULTS = Defaults(sidecar_image="sidecar:test", sidecar_requests={"cpu": "50m"}, platform=Platform(http_routes=True))
GATEWAY = {"parentRefs": [{"name": "public"}]}


def service(name: str = "shop", **spec: Any) -> NovaService:
    body = {"image": "app:2", "replicas": 10, "ports": [{"port": 80}], **spec}
    metadata = {"name": name, "namespace": "web", "uid": "u"}
    return convert(
        {"apiVersion": "nova.dev/v1alpha1", "kind": "NovaService", "metadata": metadata, "spec": body}, NovaService
    )


def children(**spec: Any) -> tuple[Manifest, ...]:
    return desired_state(service(**spec), DEFAULTS)


def arranged(wanted: Wanted, **spec: Any) -> dict[str, Manifest]:
    """By kind and name; the stable Deployment runs app:1 and somebody has annotated its pods."""
    old = next(one for one in children(image="app:1") if one["kind"] == "Deployment")
    old["spec"]["template"]["metadata"] |= {"creationTimestamp": None}
    old["spec"]["template"]["metadata"]["annotations"]["team.example/by"] = "hand"
    found = arrange("shop", children(**spec), wanted, old)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def image(manifest: Manifest) -> str:
    found: str = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_without_a_canary_nothing_changes() -> None:
    assert arrange("shop", children(gateway=GATEWAY), Wanted(), None) == children(gateway=GATEWAY)


def test_two_deployments() -> None:
    found = arranged(Wanted(old_template=True, stable_replicas=9, canary_replicas=1))
    stable, canary = found["Deployment/shop"], found["Deployment/shop-canary"]
    assert (image(stable), stable["spec"]["replicas"]) == ("app:1", 9)
    assert (image(canary), canary["spec"]["replicas"]) == ("app:2", 1)
    assert stable["spec"]["selector"] == {"matchLabels": {names.LABEL_SERVICE: "shop"}}
    assert canary["spec"]["selector"]["matchLabels"] == {names.LABEL_SERVICE: "shop", names.LABEL_TRACK: "canary"}
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert canary["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert (marked_track(stable["spec"]["template"]), marked_track(canary["spec"]["template"])) == ("stable", "canary")
    assert marked_hash(stable["spec"]["template"]) != marked_hash(canary["spec"]["template"])
    assert stable["spec"]["template"]["metadata"]["annotations"]["team.example/by"] == "hand"
    assert "creationTimestamp" not in stable["spec"]["template"]["metadata"]


def test_the_hash_of_a_template_does_not_tell_the_version() -> None:
    """Else a promotion would be a new template again."""
    promoted = next(one for one in children() if one["kind"] == "Deployment")
    canary = arranged(Wanted(canary_replicas=1))["Deployment/shop-canary"]
    assert marked_hash(promoted["spec"]["template"]) == marked_hash(canary["spec"]["template"])


def test_every_changed_child_says_so() -> None:
    plain = {f"{one['kind']}/{one['metadata']['name']}": one for one in children(gateway=GATEWAY)}
    wanted = Wanted(canary_replicas=1, traffic="stable", canary_weight=10, canary_service="canary", stable_replicas=3)
    changed = arranged(wanted, gateway=GATEWAY)
    for name in ("Deployment/shop", "Service/shop", "HTTPRoute/shop"):
        hashes = [one[name]["metadata"]["annotations"][ANNOTATION_MANIFEST_HASH] for one in (plain, changed)]
        assert len(set(hashes)) == 2, name
    assert changed["ConfigMap/shop-nova"] == plain["ConfigMap/shop-nova"]


@pytest.mark.parametrize("traffic", ["stable", "canary"])
def test_services_select_one_version(traffic: Any) -> None:
    found = arranged(Wanted(traffic=traffic))
    assert found["Service/shop"]["spec"]["selector"] == {names.LABEL_SERVICE: "shop", names.LABEL_TRACK: traffic}


def test_a_route_shares_the_requests() -> None:
    wanted = Wanted(canary_weight=30, canary_service="canary", traffic="stable")
    found = arranged(wanted, gateway=GATEWAY)
    (rule,) = found["HTTPRoute/shop"]["spec"]["rules"]
    shares = {reference["name"]: (reference["port"], reference["weight"]) for reference in rule["backendRefs"]}
    assert shares == {"shop": (80, 70), "shop-canary": (80, 30)}
    assert found["Service/shop-canary"]["spec"]["selector"][names.LABEL_TRACK] == "canary"
    assert found["Service/shop-canary"]["spec"]["ports"] == found["Service/shop"]["spec"]["ports"]


def config_map(found: tuple[Manifest, ...]) -> Manifest:
    return next(one for one in found if one["kind"] == "ConfigMap")


def deployment(found: tuple[Manifest, ...]) -> Manifest:
    return next(one for one in found if one["kind"] == "Deployment")


def test_ports_stay_while_the_stable_version_has_another_template() -> None:
    old = children(image="app:1", ports=[{"port": 80, "appPort": 8080}])
    new = children(ports=[{"port": 80, "appPort": 9090}], backpressure={"maxConcurrency": 7})
    kept, moved = keep_ports(new, deployment(old), config_map(old))
    document = proxy.decode(config_map(kept)["data"][names.CONFIG_KEY].encode())
    assert (moved, document.inbound[0].app.port, document.backpressure.max_concurrency) == (True, 8080, 7)
    assert keep_ports(new, deployment(new), config_map(old)) == (new, False)  # it has the template
    assert keep_ports(new, None, None) == (new, False)


API, ADMIN = {"name": "api", "port": 80, "appPort": 8080}, {"name": "admin", "port": 81, "appPort": 9090}
METRICS = {"name": "metrics", "port": 82, "appPort": 7070}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([API, ADMIN], [ADMIN, API], [("admin", 81, 15101), ("api", 80, 15100)]),
        ([API, ADMIN], [ADMIN], [("admin", 81, 15101)]),
        ([API], [METRICS, API], [("api", 80, 15100)]),
        ([API], [API, METRICS], [("api", 80, 15100), ("metrics", 82, 15101)]),
        ([API], [{**API, "name": "web"}], [("web", 80, 15100)]),
    ],
    ids=["another order", "one less", "one more before it", "one more behind it", "renamed"],
)
def test_callers_of_a_port_that_stays_reach_what_listens_for_it(before: Any, after: Any, expected: Any) -> None:
    """The place in the list of the spec says nothing of the pods that there are."""
    policy = {"mode": "Enforce"}
    old, new = children(image="app:1", ports=before, networkPolicy=policy), children(ports=after, networkPolicy=policy)
    kept, moved = keep_ports(new, deployment(old), config_map(old))
    found = {f"{one['kind']}/{one['metadata']['name']}": one for one in kept}
    ports = found["Service/shop"]["spec"]["ports"]
    assert (moved, [(one["name"], one["port"], one["targetPort"]) for one in ports]) == (True, expected)
    pods = [(one["name"], one["port"], one["targetPort"]) for one in found["Service/shop-endpoints"]["spec"]["ports"]]
    assert pods == [(name, target, target) for name, _, target in expected]
    admitted = [one["port"] for one in found["NetworkPolicy/shop"]["spec"]["ingress"][0]["ports"]]
    assert admitted == [15100 + place for place in range(len(before))]


def test_other_configuration_is_free_to_change() -> None:
    old, new = children(image="app:1"), children(timeout="5s")
    assert keep_ports(new, deployment(old), config_map(old)) == (new, False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("cart", ("web", "cart")), ("cart.shop", ("shop", "cart")), ("cart.shop.svc", ("shop", "cart")),
        ("cart.shop.svc.cluster.local", ("shop", "cart")), ("api.payments.example", None), ("a.b.c.d", None),
    ],
)  # fmt: skip
def test_which_service_a_host_is(host: str, expected: Any) -> None:
    assert service_of(host, "web") == expected


def test_callers_send_the_canary_its_share() -> None:
    upstreams = [
        {"name": "cart", "host": "cart.shop.svc", "port": 80},
        {"name": "api", "host": "api.example.com", "port": 443},
    ]
    caller = service("caller", upstreams=upstreams, ports=[{"port": 8080}])
    plain = desired_state(caller, DEFAULTS)
    assert with_canaries(caller, plain, lambda *_: 0) is plain
    told = with_canaries(caller, plain, lambda *key: 20 if key == ("shop", "cart") else 0)
    (config_map,) = (one for one in told if one["kind"] == "ConfigMap")
    cart, api = proxy.decode(config_map["data"][names.CONFIG_KEY].encode()).outbound
    assert cart.canary is not None
    assert (cart.canary.address.host, cart.canary.address.port, cart.canary.weight) == ("cart-canary.shop.svc", 80, 20)
    assert (cart.upstream.host, api.canary) == ("cart.shop.svc", None)
