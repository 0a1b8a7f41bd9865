"""Each warning with the spec that brings it up, and what makes it go."""

from typing import Any

import pytest

from nova_operator.admission.review import LONGEST_WARNING
from nova_operator.admission.risks import services_called, warnings
from tests.unit.admission.services import service

AUTH = {"name": "auth", "host": "auth", "port": 8080}
KEYS = "https://auth.example/keys"
CLIENTS = {"name": "clients", "rate": 5}
API_KEYS = {"name": "keys", "by": "Header", "header": "x-api-key", "rate": 5}
SUBJECTS = {"name": "subjects", "by": "Claim", "claim": "sub", "rate": 5}
DATABASE = {"secretRef": "shop-db", "outbox": {"brokers": ["kafka:9092"]}}
TEMPLATE = {"spec": {"containers": [{"name": "app", "image": "x:1"}]}}


def jwt(url: str = KEYS, audience: str = "shop", **fields: Any) -> dict[str, Any]:
    return {"jwt": {"issuers": [{"issuer": "a", "jwksUrl": url, "audiences": [audience]}]} | fields}


RISKY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("replicas:", {"ingress": {}}, {"ingress": {}, "replicas": 2}),
    ("autoscaling.minReplicas:", {"autoscaling": {"minReplicas": 1, "maxReplicas": 4, "concurrency": 5}},
     {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "concurrency": 5}}),
    ("podDisruptionBudget.maxUnavailable: 2 of 2", {"replicas": 2, "podDisruptionBudget": {"maxUnavailable": 2}},
     {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 2}}),
    ("image:", {"image": "registry.example:5000/shop"}, {"image": "registry.example:5000/shop:2"}),
    ("image:", {"image": "shop:latest"}, {"image": "shop@sha256:00"}),
    ("shutdown.gracePeriod: a pod that leaves has 35s", {"timeout": "71s"}, {"timeout": "70s"}),
    ("shutdown.gracePeriod: a pod that leaves has 5s",
     {"ports": [{"port": 80, "appPort": 8080, "protocol": "websocket"}], "shutdown": {"gracePeriod": "35s"}},
     {"ports": [{"port": 80, "appPort": 8080, "protocol": "websocket"}]}),
    ("retry.idempotentPaths:", {"retry": {"idempotentPaths": ["/*"]}}, {"retry": {"idempotentPaths": ["/carts/*"]}}),
    ("upstreams[auth].retry.idempotentPaths:", {"upstreams": [{**AUTH, "retry": {"idempotentPaths": ["/*"]}}]},
     {"upstreams": [{**AUTH, "retry": {"idempotentPaths": ["/login"]}}]}),
    ("autoscaling.cpu: ", {"autoscaling": {"maxReplicas": 4}},
     {"autoscaling": {"maxReplicas": 4}, "resources": {"requests": {"cpu": "1"}}}),
    ("autoscaling.memory: ", {"autoscaling": {"maxReplicas": 4, "memory": "80%"}},
     {"autoscaling": {"maxReplicas": 4, "memory": "80%"}, "resources": {"requests": {"memory": "1Gi"}}}),
    ("autoscaling.cpu: ", {"autoscaling": {"maxReplicas": 4}, "template": TEMPLATE},
     {"autoscaling": {"maxReplicas": 4, "concurrency": 9}, "template": TEMPLATE}),
    ("sessionAffinity.type: ClientIP", {"replicas": 2, "sessionAffinity": {"type": "ClientIP"}, "ingress": {}},
     {"replicas": 2, "sessionAffinity": {"type": "ClientIP"}}),
    ("sessionAffinity.cookie.secure:", {"sessionAffinity": {"type": "Cookie"}},
     {"sessionAffinity": {"type": "Cookie", "cookie": {"secure": True}}}),
    ("jwt.issuers[0].jwksUrl:", jwt("http://auth.example/keys"), jwt()),
    ("jwt.issuers[0].jwksUrl:", jwt("http://auth.example/keys"), jwt("http://auth.identity.svc/keys")),
    ("jwt.issuers[0].jwksUrl:", jwt("http://10.0.0.1/keys"), jwt("http://auth:8080/keys")),
    ("jwt.issuers[0].jwksUrl:", jwt("http://auth.example:80/keys"), jwt("http://127.0.0.1:80/keys")),
    ("jwt.issuers[0].audiences:", jwt(audience="*"), jwt()),
    ("jwt.openPaths:", jwt(openPaths=["/*"]), jwt(openPaths=["/a/*"])),
    ("rateLimit.limits: by Header", {"rateLimit": {"mode": "Enforce", "limits": [API_KEYS]}},
     {"rateLimit": {"mode": "Enforce", "limits": [API_KEYS, CLIENTS]}}),
    ("rateLimit.limits[subjects].claim: without jwt no request has claims, and each counts by its client's",
     {"rateLimit": {"mode": "Enforce", "limits": [SUBJECTS]}},
     {"rateLimit": {"mode": "Enforce", "limits": [SUBJECTS]}, **jwt()}),
    ("rateLimit.limits[subjects].claim: without jwt no request has claims, and each counts not at all",
     {"rateLimit": {"mode": "Shadow", "limits": [{**SUBJECTS, "missing": "Skip"}]}},
     {"rateLimit": {"mode": "Off", "limits": [{**SUBJECTS, "missing": "Skip"}]}}),
    ("tenancy.claim: without jwt no request has claims, and all share", {"tenancy": {"mode": "Enforce", "by": "Claim"}},
     {"tenancy": {"mode": "Enforce", "by": "Claim"}, **jwt()}),
    ("tenancy.claim: without jwt no request has claims, and all are refused",
     {"tenancy": {"mode": "Shadow", "by": "Claim", "missing": "Refuse"}},
     {"tenancy": {"mode": "Off", "by": "Claim", "missing": "Refuse"}}),
    ("rateLimit.client:", {"replicas": 2, "ingress": {}, "rateLimit": {"mode": "Shadow", "limits": [CLIENTS]}},
     {"replicas": 2, "ingress": {},
      "rateLimit": {"mode": "Shadow", "limits": [CLIENTS], "client": {"trustedProxies": 1}}}),
    ("tenancy.default:", {"tenancy": {"mode": "Enforce", "by": "Path", "default": {"rate": 5}}},
     {"tenancy": {"mode": "Enforce", "by": "Path", "default": {"rate": 5, "maxConcurrency": 5}}}),
    ("tenancy.unknown:", {"tenancy": {"mode": "Enforce"}}, {"tenancy": {"mode": "Enforce", "unknown": "Shared"}}),
    ("tenancy.tenants: weights", {"tenancy": {"mode": "Enforce", "tenants": [{"name": "acme", "weight": 2}]}},
     {"backpressure": {"threshold": 1},
      "tenancy": {"mode": "Enforce", "tenants": [{"name": "acme", "weight": 2}]}}),
    ("cache.tier:", {"cache": {"mode": "Shadow", "tier": "Redis"}},
     {"cache": {"mode": "Shadow", "tier": "Redis"}, "redis": {"url": "redis://redis"}}),
    ("idempotency.onStoreLoss:", {"idempotency": {"mode": "Enforce", "onStoreLoss": "Refuse"}},
     {"idempotency": {"mode": "Enforce"}}),
    ("idempotency: without redis a repetition", {"replicas": 2, "idempotency": {"mode": "Enforce"}},
     {"replicas": 1, "idempotency": {"mode": "Enforce"}}),
    ("idempotency: without redis a repetition",
     {"autoscaling": {"maxReplicas": 2, "concurrency": 5}, "idempotency": {"mode": "Shadow"}},
     {"autoscaling": {"maxReplicas": 2, "concurrency": 5}, "idempotency": {"mode": "Shadow"},
      "redis": {"url": "redis://redis"}}),
    ("backpressure.mode:", {"backpressure": {"mode": "Off"}}, {"backpressure": {"mode": "Shadow"}}),
    ("upstreams[auth].circuitBreaker: Off", {"upstreams": [AUTH], "circuitBreaker": {"mode": "Off"}},
     {"upstreams": [{**AUTH, "circuitBreaker": {"mode": "Enforce"}}], "circuitBreaker": {"mode": "Off"}}),
    ("upstreams[auth].circuitBreaker: Off", {"upstreams": [AUTH], "circuitBreaker": {"mode": "Off"}},
     {"upstreams": [AUTH], "circuitBreaker": {"mode": "Off"}, "retry": {"attempts": 1}}),
    ("database.outbox:", {"database": DATABASE, "networkPolicy": {"mode": "Enforce"}},
     {"database": DATABASE, "networkPolicy": {"mode": "Enforce", "allowTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}),
    ("database.outbox:", {"database": DATABASE, "networkPolicy": {"mode": "Enforce"}},
     {"database": DATABASE, "networkPolicy": {"mode": "Enforce"},
      "upstreams": [{"name": "db", "host": "db.data.svc", "port": 5432, "protocol": "tcp"}]}),
    ("upstreams[auth].circuitBreaker: ForcedOpen", {"upstreams": [{**AUTH, "circuitBreaker": {"mode": "ForcedOpen"}}]},
     {"upstreams": [AUTH]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("begins", "risky", "calm"), RISKY, ids=[f"{begins}{n}" for n, (begins, *_) in enumerate(RISKY)]
)
def test_a_risk_is_told_and_goes_with_its_cause(begins: str, risky: dict[str, Any], calm: dict[str, Any]) -> None:
    told = warnings(service(**risky))
    assert [warning for warning in told if warning.startswith(begins)]
    assert all(len(warning) <= LONGEST_WARNING for warning in told)
    assert not [warning for warning in warnings(service(**calm)) if warning.startswith(begins)]


def test_a_small_service_is_no_reason_to_warn() -> None:
    assert warnings(service()) == ()


def test_only_names_that_can_be_nothing_else_are_looked_up() -> None:
    hosts = ["auth", "auth.id", "auth.id.svc", "auth.id.svc.cluster.local", "api.example.com", "example.com"]
    called = services_called(
        service(upstreams=[{"name": f"u{n}", "host": host, "port": 80 + n} for n, host in enumerate(hosts)])
    )
    assert called == {
        "auth": ("market", "auth"),
        "auth.id.svc": ("id", "auth"),
        "auth.id.svc.cluster.local": ("id", "auth"),
    }


def test_an_upstream_that_is_known_not_to_exist_is_named() -> None:
    asked = service(upstreams=[AUTH])
    assert warnings(asked) == ()
    assert "no Service auth yet" in warnings(asked, missing={"auth"})[0]
