from copy import deepcopy

import pytest

from nova_api import proxy
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.proxy import Address, DrainPolicy
from nova_api.resolve import resolve, upstream_addresses
from nova_api.units import Duration
from nova_api.v1alpha1 import NovaService
from tests.documents import GOOD, UPSTREAM, Document, with_spec, with_upstream


def service(document: Document) -> NovaService:
    return convert(document, NovaService)


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_what_is_resolved_is_what_a_sidecar_decodes(document: Document) -> None:
    config = resolve(service(document))
    assert proxy.decode(proxy.encode(config)) == config


def test_equal_services_have_equal_hashes_whatever_the_order_of_their_keys() -> None:
    document = with_upstream(retry={"attempts": 2, "mode": "Shadow"})
    reversed_keys = deepcopy(document)
    reversed_keys["spec"] = dict(reversed(reversed_keys["spec"].items()))
    reversed_keys["spec"]["upstreams"][0]["retry"] = {"mode": "Shadow", "attempts": 2}
    hashes = {proxy.digest(proxy.encode(resolve(service(one)))) for one in (document, reversed_keys)}
    assert len(hashes) == 1
    assert proxy.digest(proxy.encode(resolve(service(with_upstream())))) not in hashes


def test_a_pods_sidecar_stands_in_front_of_the_app() -> None:
    config = resolve(service(with_spec(ports=[{"port": 80, "appPort": 8080}, {"name": "live", "port": 81}])))
    assert [(one.name, one.listen.port, one.app.port) for one in config.inbound] == [
        ("http", 15100, 8080),
        ("live", 15101, 81),
    ]
    assert {one.app.host for one in config.inbound} == {"127.0.0.1"}
    assert config.resolver == "dns"


def test_a_local_sidecar_listens_on_the_ports_themselves() -> None:
    config = resolve(service(with_spec(ports=[{"port": 8080, "appPort": 8081}])), "local")
    assert config.inbound[0].listen == Address(host="127.0.0.1", port=8080)
    assert config.inbound[0].app == Address(host="127.0.0.1", port=8081)
    assert config.resolver == "system"
    assert config.drain.delay == Duration(0)


def test_a_global_rate_is_divided_among_the_pods_there_are_at_least() -> None:
    globally = {"mode": "Enforce", "limits": [{"name": "all", "by": "All", "rate": 9, "scope": "Global"}]}
    redis = {"url": "redis://redis:6379/0"}
    asked = (
        with_spec(replicas=3, rateLimit=globally, redis=redis),
        with_spec(autoscaling={"minReplicas": 2, "maxReplicas": 9}, rateLimit=globally, redis=redis),
        with_spec(replicas=0, tenancy={"mode": "Shadow", "scope": "Global"}, redis=redis),
        with_spec(replicas=3, redis=redis),  # nothing is divided, so scaling changes no document
        with_spec(replicas=3, rateLimit=globally | {"mode": "Off"}),
    )
    assert [resolve(service(document)).pods for document in asked] == [3, 2, 1, 1, 1]
    alone = with_spec(replicas=3, rateLimit=globally, redis=redis, ports=[{"port": 80, "appPort": 81}])
    assert resolve(service(alone), "local").pods == 1


def test_a_local_sidecar_cannot_share_the_apps_port() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.spec\.ports\[0\]\.appPort: expected another port than 8080"):
        resolve(service(with_spec(ports=[{"port": 8080}])), "local")


def test_an_app_cannot_have_the_sidecars_ports() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.spec\.ports\[0\]\.appPort: expected a port outside 15000-15199"):
        resolve(service(with_spec(ports=[{"port": 80, "appPort": 15100}])))


def test_upstreams_of_one_host_share_its_address() -> None:
    upstreams = [UPSTREAM, {"name": "auth", "host": "auth", "port": 80}, UPSTREAM | {"name": "admin", "port": 90}]
    written = service(with_spec(upstreams=upstreams))
    assert upstream_addresses(written) == {"catalog.stock.svc": "127.77.0.1", "auth": "127.77.0.2"}
    assert [(one.listen.host, one.listen.port) for one in resolve(written).outbound] == [
        ("127.77.0.1", 8080),
        ("127.77.0.2", 80),
        ("127.77.0.1", 90),
    ]


def test_an_upstream_inherits_what_it_does_not_say() -> None:
    document = with_upstream(circuitBreaker={"failureThreshold": 2}, timeout="3s")
    document["spec"]["circuitBreaker"] = {"successThreshold": 7}
    outbound = resolve(service(document)).outbound[0]
    assert outbound.circuit_breaker.failure_threshold == 2
    assert outbound.circuit_breaker.success_threshold == 7
    assert outbound.timeout.request == Duration(3)


def test_an_override_that_breaks_a_rule_names_its_upstream() -> None:
    document = with_upstream(circuitBreaker={"openDuration": "10m"})
    with pytest.raises(
        ConfigError,
        match=r"^\$\.spec\.upstreams\[0\]\.circuitBreaker: openDuration must not be longer than maxOpenDuration$",
    ):
        resolve(service(document))


def test_drain_leaves_two_seconds_of_the_grace_period() -> None:
    config = resolve(service(with_spec(shutdown={"preStop": "10s", "gracePeriod": "45s"})))
    assert config.drain == DrainPolicy(delay=Duration(10), timeout=Duration(33))


# --- endpoints


@pytest.mark.parametrize(
    ("host", "found"),
    [("auth", "auth-endpoints"), ("auth.identity.svc", "auth-endpoints.identity.svc")],
)
def test_the_pods_of_a_nova_service_are_found_through_its_headless_service(host: str, found: str) -> None:
    document = with_upstream(host=host, port=80, discovery="Endpoints", podPort=15101, tls={})
    (outbound,) = resolve(service(document)).outbound
    assert outbound.endpoints == Address(host=found, port=15101)
    assert outbound.upstream == Address(host=host, port=80)
    assert outbound.tls is not None
    assert outbound.tls.server_name == host
    document["spec"]["ports"] = [{"port": 8080, "appPort": 8081}]
    assert resolve(service(document), "local").outbound[0].endpoints is None
    assert resolve(service(with_upstream(host=host, port=80))).outbound[0].endpoints is None


def test_a_label_too_long_for_a_headless_service_is_refused() -> None:
    document = with_upstream(host="a" * 54, port=80, discovery="Endpoints")
    with pytest.raises(ConfigError, match=r"^\$\.spec\.upstreams\[0\]\.host: expected a first label of at most 53"):
        resolve(service(document))


# --- affinity


REDIS = {"type": "Redis", "redis": {"url": "redis://redis:6379/0", "secret": "redis-login", "timeout": "50ms"}}


def test_a_pod_knows_its_siblings_and_where_the_secrets_are() -> None:
    affinity = resolve(service(with_spec(sessionAffinity={"type": "Cookie", "timeout": "1h"}))).affinity
    assert affinity is not None
    assert affinity.siblings == "shop-endpoints.default.svc"
    assert (affinity.timeout, affinity.store) == (Duration(3600), None)
    assert affinity.cookie == proxy.SessionCookie(
        name="nova-session", path="/", same_site="Lax", secure=False, directory="/etc/nova-session"
    )
    stored = resolve(service(with_spec(sessionAffinity=REDIS))).affinity
    assert stored is not None
    assert stored.store == proxy.Store(
        url="redis://redis:6379/0", directory="/etc/nova-store/redis-login", timeout=Duration(0.05)
    )


def test_on_a_developers_machine_there_are_no_siblings_no_secrets_and_no_store() -> None:
    document = with_spec(sessionAffinity=REDIS, ports=[{"port": 8080, "appPort": 8081}])
    affinity = resolve(service(document), "local").affinity
    assert affinity is not None
    assert (affinity.siblings, affinity.cookie.directory, affinity.store) == ("", "", None)


@pytest.mark.parametrize("kind", ["None", "ClientIP"])
def test_what_the_service_does_by_itself_is_nothing_to_the_sidecar(kind: str) -> None:
    assert resolve(service(with_spec(sessionAffinity={"type": kind}))).affinity is None


def test_a_url_that_no_client_could_use_is_refused_before_a_sidecar_sees_it() -> None:
    redis = {"url": "redis+cluster://a:6379,b:6379/0"}
    with pytest.raises(ConfigError, match=r"^\$\.spec\.sessionAffinity\.redis\.url: expected the number of a database"):
        resolve(service(with_spec(sessionAffinity={"type": "Redis", "redis": redis})))


@pytest.mark.parametrize(
    ("key", "field", "rule"),
    [
        ({"kty": "EC", "crv": "P-256", "x": "A" * 42, "y": "A" * 43}, "x", "expected 43 characters, as P-256 has them"),
        ({"kty": "EC", "crv": "P-384", "x": "A" * 64, "y": "A" * 43}, "y", "expected 64 characters, as P-384 has them"),
        ({"kty": "EC", "crv": "P-521", "x": "A" * 64, "y": "A" * 88}, "x", "expected 88 characters, as P-521 has them"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "A" * 44}, "x", "expected 43 characters, as Ed25519 has them"),
    ],
)
def test_a_key_that_is_cut_short_is_no_key(key: dict[str, str], field: str, rule: str) -> None:
    issuer = {"issuer": "https://auth.example", "audiences": ["shop"], "keys": [key]}
    with pytest.raises(ConfigError) as raised:
        resolve(service(with_spec(jwt={"issuers": [issuer]})))
    assert (raised.value.path, raised.value.rule) == (f"$.spec.jwt.issuers[0].keys[0].{field}", rule)
