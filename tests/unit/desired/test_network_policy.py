"""Who may speak to the pods and to whom they may: rule by rule."""

from typing import Any

import msgspec
import pytest

from nova_api import names
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.network_policy import network_policy
from tests.unit.test_operator_desired import DEFAULTS, kinds, service

INSIDE = msgspec.structs.replace(DEFAULTS, operator_namespace="nova-system")
SIBLINGS = {"podSelector": {"matchLabels": {"nova.dev/service": "shop"}}}
ON_15100 = [{"protocol": "TCP", "port": 15100}]


def policy(defaults: Defaults = INSIDE, **spec: Any) -> dict[str, Any]:
    given = {"mode": "Enforce", **spec.pop("networkPolicy", {})}
    manifest = network_policy(service(networkPolicy=given, **spec), defaults)
    assert manifest is not None
    return dict(manifest["spec"])


def egress(**spec: Any) -> list[Any]:
    """What is reached beside names."""
    return list(policy(**spec)["egress"][1:])


def namespace(name: str) -> dict[str, Any]:
    return {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]}


def anywhere(port: int) -> dict[str, Any]:
    return {"ports": [{"protocol": "TCP", "port": port}]}


def test_off_makes_none() -> None:
    assert "NetworkPolicy" not in kinds()


def test_traffic_comes_to_the_sidecars_ports_alone() -> None:
    ports = [{"name": "http", "port": 80, "appPort": 8080}, {"name": "raw", "port": 9000, "protocol": "tcp"}]
    rule = policy(ports=ports)["ingress"][0]
    assert rule == {"ports": [{"protocol": "TCP", "port": 15100}, {"protocol": "TCP", "port": 15101}]}


def test_the_given_peers_come_in_and_no_others() -> None:
    peers = [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]
    traffic, status = policy(networkPolicy={"allowFrom": peers})["ingress"]
    assert traffic == {"from": peers, "ports": ON_15100}
    assert status["ports"] == [{"protocol": "TCP", "port": names.STATUS_PORT}]


@pytest.mark.parametrize("affinity", ["Cookie", "Redis"])
def test_pods_that_hand_clients_over_reach_each_other(affinity: str) -> None:
    peers = {"allowFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    spec = policy(networkPolicy=peers, sessionAffinity={"type": affinity, "redis": {"url": "redis://redis.data.svc"}})
    assert {"from": [SIBLINGS], "ports": ON_15100} in spec["ingress"]
    assert {"to": [SIBLINGS], "ports": ON_15100} in spec["egress"]
    assert (namespace("data") in spec["egress"]) is (affinity == "Redis")


@pytest.mark.parametrize(
    ("defaults", "mode", "peers"),
    [
        (INSIDE, "Auto", [{"namespaceSelector": {}}]),
        (INSIDE, "Off", [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nova-system"}}}]),
        (DEFAULTS, "Auto", None),
        (DEFAULTS, "Off", None),
    ],
)
def test_who_may_ask_for_the_state(defaults: Defaults, mode: str, peers: Any) -> None:
    status = policy(defaults, monitoring={"mode": mode})["ingress"][-1]
    assert status.get("from") == peers


def test_names_are_always_resolved() -> None:
    dns = policy()["egress"][0]["ports"]
    assert {(port["protocol"], port["port"]) for port in dns} >= {("UDP", 53), ("TCP", 53)}


@pytest.mark.parametrize(
    ("host", "rules"),
    [
        ("auth", [namespace("market")]),
        ("auth.identity.svc", [namespace("identity")]),
        ("auth.identity.svc.cluster.local", [namespace("identity")]),
        ("auth.identity", [namespace("identity"), anywhere(9090)]),  # or a name of the internet
        ("api.mail.example", [anywhere(9090)]),
        ("deep.auth.identity.svc.cluster.local", [anywhere(9090)]),
    ],
)
def test_a_host_opens_its_namespace_or_its_port(host: str, rules: list[Any]) -> None:
    assert egress(upstreams=[{"name": "auth", "host": host, "port": 9090}]) == rules


def test_the_pods_of_a_novaservice_are_known_by_label_and_port() -> None:
    upstream = {"name": "auth", "host": "auth.identity.svc", "port": 80, "discovery": "Endpoints", "podPort": 15101}
    (rule,) = egress(upstreams=[upstream])
    (peer,) = rule["to"]
    assert peer["podSelector"] == {"matchLabels": {"nova.dev/service": "auth"}}
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "identity"}}
    assert rule["ports"] == [{"protocol": "TCP", "port": 15101}]


def test_two_upstreams_in_one_namespace_are_one_rule() -> None:
    upstreams = [{"name": name, "host": name, "port": 9090} for name in ("auth", "cart")]
    assert egress(upstreams=upstreams) == [namespace("market")]


@pytest.mark.parametrize(
    ("endpoint", "rule"),
    [
        ("http://otel-collector.tracing.svc:4318", namespace("tracing")),
        ("https://otlp.vendor.example", anywhere(443)),
        ("http://otlp.vendor.example", anywhere(80)),
    ],
)
def test_spans_reach_their_collector(endpoint: str, rule: Any) -> None:
    assert egress(tracing={"mode": "Enforce", "endpoint": endpoint}) == [rule]
    assert egress(tracing={"mode": "Off", "endpoint": endpoint}) == []


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("redis://sessions.example.com/0", [anywhere(6379)]),
        ("rediss://sessions.example.com:7000/0", [anywhere(7000)]),
        ("redis+sentinel://a.example.com,b.example.com:26380/main/0", [anywhere(26379), anywhere(26380)]),
        ("redis+cluster://a.data.svc:6379,b.data.svc:6380", [namespace("data")]),
    ],
)
def test_sessions_reach_their_redis(url: str, rules: list[Any]) -> None:
    found = egress(sessionAffinity={"type": "Redis", "redis": {"url": url}})
    assert found[: len(rules)] == rules
    assert len(found) == len(rules) + 1  # and the siblings


def test_request_policies_reach_their_redis() -> None:
    url = "redis://redis.data.svc:6379/0"
    data = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}
    assert egress(redis={"url": url}) == [{"to": [data]}]
    both = egress(redis={"url": url}, sessionAffinity={"type": "Redis", "redis": {"url": url}})
    assert both.count({"to": [data]}) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://auth.example/keys", [namespace("example"), anywhere(443)]),
        ("https://id.auth.example:8443/keys", [anywhere(8443)]),
        ("http://auth.identity.svc/keys", [namespace("identity")]),
        ("http://auth:8080/keys", [namespace("market")]),
    ],
)
def test_the_keys_of_tokens_are_reached(url: str, expected: list[Any]) -> None:
    own = {"issuer": "own", "audiences": ["shop"], "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQ"}]}
    jwt = {"issuers": [{"issuer": "a", "audiences": ["shop"], "jwksUrl": url}, own]}
    assert egress(jwt=jwt) == expected
    assert egress(jwt=jwt | {"mode": "Off"}) == []


def test_further_destinations_are_the_users() -> None:
    peers = [{"ipBlock": {"cidr": "10.20.0.0/16"}}]
    assert egress(networkPolicy={"allowTo": peers}) == [{"to": peers}]
