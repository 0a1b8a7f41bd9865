"""Ingress, HTTPRoute and the Service's annotations: how the edge is told where to send whom."""

import re
from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_operator.desired.defaults import Platform
from nova_operator.desired.edge import controller, ingress_annotations, routed_port, service_annotations
from nova_operator.desired.effect import without_effect
from nova_operator.desired.http_route import http_route
from nova_operator.desired.ingress import ingress
from tests.unit.test_operator_desired import kinds, service

COOKIE = {"type": "Cookie", "timeout": "90s", "cookie": {"name": "sid", "sameSite": "None", "secure": True}}
EVERYTHING = Platform(http_routes=True, session_persistence=True)
GATEWAY = {"parentRefs": [{"name": "public"}]}
PORTS = [
    {"name": "http", "port": 80, "appPort": 8080},
    {"name": "calls", "port": 9000, "protocol": "grpc"},
    {"name": "raw", "port": 9001, "protocol": "tcp"},
]


def annotations(ingress: dict[str, Any], **spec: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Those of the Ingress and those of the Service."""
    one = service(ingress=ingress, ports=PORTS, **spec)
    port = routed_port(one, one.spec.ingress.port if one.spec.ingress else None, "")
    return ingress_annotations(one, port), service_annotations(one)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"className": "nginx"}, "nginx"),
        ({"className": "public-nginx"}, "nginx"),
        ({"className": "traefik"}, "traefik"),
        ({"className": "haproxy"}, "haproxy"),
        ({"className": "internal", "controller": "haproxy"}, "haproxy"),
        ({"className": "nginx", "controller": "traefik"}, "traefik"),
        ({"className": "alb"}, None),
        ({}, None),
    ],
)
def test_the_controller_follows_from_the_class_unless_it_is_named(given: dict[str, str], found: str | None) -> None:
    assert controller(service(ingress=given)) == found


def test_nginx_keeps_clients_by_a_cookie_of_its_own() -> None:
    on_ingress, on_service = annotations({"className": "nginx"}, sessionAffinity=COOKIE)
    assert on_ingress == {
        "nginx.ingress.kubernetes.io/affinity": "cookie",
        "nginx.ingress.kubernetes.io/affinity-mode": "persistent",
        "nginx.ingress.kubernetes.io/session-cookie-name": "sid-edge",
        "nginx.ingress.kubernetes.io/session-cookie-path": "/",
        "nginx.ingress.kubernetes.io/session-cookie-max-age": "90",
        "nginx.ingress.kubernetes.io/session-cookie-samesite": "None",
        "nginx.ingress.kubernetes.io/session-cookie-secure": "true",
        "nginx.ingress.kubernetes.io/session-cookie-change-on-failure": "true",
    }
    assert on_service == {}


def test_traefik_reads_them_from_the_service() -> None:
    on_ingress, on_service = annotations({"className": "traefik"}, sessionAffinity=COOKIE)
    assert on_ingress == {}
    prefix = "traefik.ingress.kubernetes.io/service.sticky.cookie"
    assert on_service == {
        prefix: "true",
        f"{prefix}.name": "sid-edge",
        f"{prefix}.maxage": "90",
        f"{prefix}.httponly": "true",
        f"{prefix}.samesite": "none",
        f"{prefix}.secure": "true",
    }


def test_both_controllers_for_haproxy_are_told() -> None:
    on_ingress, on_service = annotations({"className": "haproxy"}, sessionAffinity=COOKIE)
    assert on_ingress == {
        "haproxy-ingress.github.io/affinity": "cookie",
        "haproxy-ingress.github.io/session-cookie-name": "sid-edge",
        "haproxy-ingress.github.io/session-cookie-strategy": "insert",
        "haproxy-ingress.github.io/session-cookie-keywords": "indirect nocache httponly maxlife 90s secure",
        "haproxy-ingress.github.io/session-cookie-same-site": "true",
        "haproxy.org/cookie-persistence": "sid-edge",
    }
    assert on_service == {}


@pytest.mark.parametrize(
    ("name", "on_ingress", "on_service"),
    [
        ("nginx", {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}, {}),
        ("traefik", {}, {"traefik.ingress.kubernetes.io/service.serversscheme": "h2c"}),
        ("haproxy", {"haproxy-ingress.github.io/backend-protocol": "grpc", "haproxy.org/server-proto": "h2"}, {}),
    ],
)
def test_grpc_goes_by_http2(name: str, on_ingress: dict[str, str], on_service: dict[str, str]) -> None:
    assert annotations({"className": name, "port": "calls"}) == (on_ingress, on_service)


def test_a_silent_web_socket_is_let_be() -> None:
    ports = [{"name": "live", "port": 80, "appPort": 8080, "protocol": "websocket"}]
    one = service(ingress={"className": "nginx"}, ports=ports)
    found = ingress_annotations(one, one.spec.ports[0])
    assert {name.rpartition("/")[2]: value for name, value in found.items()} == {
        "proxy-read-timeout": "3600",
        "proxy-send-timeout": "3600",
    }


@pytest.mark.parametrize("name", ["nginx", "traefik", "haproxy"])
def test_without_affinity_there_is_nothing_to_say(name: str) -> None:
    assert annotations({"className": name}) == ({}, {})


def test_the_users_annotations_win() -> None:
    own = {"nginx.ingress.kubernetes.io/affinity-mode": "balanced", "example.com/own": "1"}
    manifest = ingress(service(ingress={"className": "nginx", "annotations": own}, sessionAffinity=COOKIE))
    assert manifest is not None
    assert own.items() <= manifest["metadata"]["annotations"].items()


def test_an_ingress_for_every_host_without_tls() -> None:
    manifest = ingress(service(ingress={"path": "/shop"}))
    assert manifest is not None
    backend = {"service": {"name": "shop", "port": {"name": "http"}}}
    rule = {"http": {"paths": [{"path": "/shop", "pathType": "Prefix", "backend": backend}]}}
    assert manifest["spec"] == {"rules": [rule]}


@pytest.mark.parametrize("field", ["ingress", "gateway"])
@pytest.mark.parametrize(
    ("port", "says"), [("nobody", "one of http, calls, raw"), ("raw", "the port named raw, whose protocol is tcp")]
)
def test_a_port_that_cannot_be_routed_is_refused(field: str, port: str, says: str) -> None:
    given = {"port": port} if field == "ingress" else {**GATEWAY, "port": port}
    with pytest.raises(ConfigError, match=says) as refusal:
        kinds(ports=PORTS, **{field: given})
    assert refusal.value.path == f"$.spec.{field}.port"


def test_a_route_is_made_where_there_are_routes() -> None:
    assert http_route(service(gateway=GATEWAY), Platform()) is None
    assert http_route(service(), EVERYTHING) is None


def test_a_route_keeps_clients_where_it_can() -> None:
    one = service(gateway=GATEWAY, sessionAffinity=COOKIE)
    plain, able = http_route(one, Platform(http_routes=True)), http_route(one, EVERYTHING)
    assert plain is not None
    assert able is not None
    assert "sessionPersistence" not in plain["spec"]["rules"][0]
    assert able["spec"]["rules"][0]["sessionPersistence"]["absoluteTimeout"] == "90s"


@pytest.mark.parametrize(
    ("timeout", "written"), [("90s", "90s"), ("99999s", "99999s"), ("100001s", "1666m41s"), ("720h", "43200m0s")]
)
def test_a_route_is_told_of_long_sessions_in_words_it_takes(timeout: str, written: str) -> None:
    """The pattern is that of the Gateway API's type Duration, GEP-2257."""
    one = service(gateway=GATEWAY, sessionAffinity={**COOKIE, "timeout": timeout})
    (rule,) = (http_route(one, EVERYTHING) or {})["spec"]["rules"]
    found = rule["sessionPersistence"]["absoluteTimeout"]
    assert found == written
    assert re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", found)


@pytest.mark.parametrize(
    ("platform", "spec", "told"),
    [
        (Platform(), {"gateway": GATEWAY}, ["gateway: the cluster has no HTTPRoutes"]),
        (Platform(http_routes=True), {"gateway": GATEWAY}, []),
        (Platform(http_routes=True), {"gateway": GATEWAY, "sessionAffinity": COOKIE}, ["gateway: the gateway is not"]),
        (EVERYTHING, {"gateway": GATEWAY, "sessionAffinity": COOKIE}, []),
        (EVERYTHING, {"ingress": {"className": "alb"}, "sessionAffinity": COOKIE}, ["ingress: the controller is not"]),
        (EVERYTHING, {"ingress": {"className": "alb"}}, []),
        (EVERYTHING, {"autoscaling": {"maxReplicas": 3}}, ["autoscaling.cpu: the app requests no cpu"]),
    ],
)
def test_what_does_nothing_in_this_cluster_is_told(platform: Platform, spec: dict[str, Any], told: list[str]) -> None:
    found = without_effect(service(**spec), platform)
    assert len(found) == len(told)
    assert all(one.startswith(begin) for one, begin in zip(found, told, strict=True))
