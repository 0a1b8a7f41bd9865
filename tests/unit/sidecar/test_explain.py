"""`nova-sidecar --explain`: which listener a request takes, which policies touch it, and what each would do."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.policies import (
    AccessLogPolicy,
    AdaptivePolicy,
    BackpressurePolicy,
    BreakerPolicy,
    FallbackPolicy,
    PriorityPolicy,
    RetryPolicy,
    SlowCallPolicy,
    TracingPolicy,
    WindowPolicy,
)
from nova_api.proxy import Address, Affinity, Inbound, Jwt, Outbound, ProxyConfig, SessionCookie, Store, Tls, encode
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.graphql import GraphqlPolicy
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimit, RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy, Tenant
from nova_api.units import Duration, Share
from nova_sidecar.explain import Explanation, explain, parse, render
from nova_sidecar.main import main
from nova_sidecar.pipeline.chain import STAGES, build_chain
from nova_sidecar.pipeline.refusals import REFUSALS
from nova_sidecar.policy.reasons import Reason


def inbound(name: str, protocol: Any = "http") -> Inbound:
    here = Address(host="127.0.0.1", port=0)
    return Inbound(name=name, protocol=protocol, listen=here, app=Address(host="127.0.0.1", port=8080))


def outbound(host: str, port: int = 8080, **fields: Any) -> Outbound:
    here = Address(host="127.0.0.2", port=port)
    return Outbound(name=host.partition(".")[0], listen=here, upstream=Address(host=host, port=port), **fields)


def config(*ports: Inbound | Outbound, **fields: Any) -> ProxyConfig:
    return ProxyConfig(
        service="shop",
        inbound=tuple(port for port in ports if isinstance(port, Inbound)),
        outbound=tuple(port for port in ports if isinstance(port, Outbound)),
        **fields,
    )


def said(explanation: Explanation, policy: str) -> str:
    (step,) = [step for step in explanation.steps if step.policy == policy]
    return " ".join(step.does)


FULL = config(
    inbound("web"), inbound("live", "websocket"), inbound("rpc", "grpc"), inbound("raw", "tcp"),
    outbound("auth-service"), outbound("stock.shop.svc.cluster.local", 9000, protocol="grpc"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("request_text", "shown", "name"),
    [
        ("GET http://auth-service:8080/users?x=1", "GET http://auth-service:8080/users", "auth-service"),
        ("http://AUTH-SERVICE.shop.svc:8080", "GET http://auth-service.shop.svc:8080/", "auth-service"),
        ("POST /orders", "POST /orders", "web"),
        ("/orders", "GET /orders", "web"),
        ("grpc:/shop.Cart/Add", "gRPC /shop.Cart/Add", "rpc"),
        ("grpc://stock:9000/shop.Stock/Take", "gRPC stock:9000/shop.Stock/Take", "stock"),
    ],
)
def test_a_request_takes_its_listener(request_text: str, shown: str, name: str) -> None:
    explanation = explain(FULL, request_text)

    assert str(explanation.request) == shown
    assert explanation.port.name == name


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "expected 'GET /path', .*'grpc:/package.Service/Method' or 'tcp://host:port', got ''"),
        ("GET", "expected 'GET /path'"),
        ("GET  /a", "expected 'GET /path'"),
        ("GET /a b", "expected 'GET /path'"),
        ("G,T /", "expected 'GET /path'"),
        ("GET ftp://auth-service/", "expected 'GET /path'"),
        ("GET http://auth-service:99999/", "expected a host and a port from 0 to 65535"),
        ("GET http://[::1/", "expected a host and a port from 0 to 65535"),
        (
            "GET http://other:8080/",
            "expected an upstream of the document, got other:8080, which the app would call past",
        ),
        ("GET http://auth-service/", r"got auth-service:80, .* there is auth-service:8080, stock\.shop"),
        ("GET http://auth:8080/", "expected an upstream of the document"),
    ],
)
def test_what_is_no_request_or_has_no_way(text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^--explain: .*{rule}"):
        explain(FULL, text)


def test_a_service_without_such_a_port() -> None:
    with pytest.raises(ConfigError, match=r"expected a port of protocol grpc; there is web \(http\)"):
        explain(config(inbound("web")), "grpc:/a.B/C")
    with pytest.raises(ConfigError, match="expected a port of protocol http or websocket; there is none"):
        explain(config(), "GET /")


def test_a_connection_to_a_tcp_upstream_meets_what_acts_on_connections_alone() -> None:
    full = config(outbound("redis", 6379, protocol="tcp", tls=Tls(server_name="redis.example")))
    explanation = explain(full, "tcp://redis:6379")

    assert str(explanation.request) == "TCP redis:6379"
    shown = [step.policy for step in explanation.steps]
    assert shown == ["selfProtection", "tcp", "circuitBreaker", "timeout", "tls", "accessLog"]
    assert "a failure is a connection that could not be made" in said(explanation, "circuitBreaker")
    assert "Reset beyond 10000 connections" in said(explanation, "tcp")
    assert "503" not in render(explanation, as_json=False)
    assert [step.policy for step in explain(full, "GET http://redis:6379/").steps] == shown
    forced = config(outbound("redis", 6379, protocol="tcp", circuit_breaker=BreakerPolicy(mode="ForcedOpen")))
    assert said(explain(forced, "tcp://redis:6379"), "circuitBreaker") == "Resets every connection."


def test_the_order_is_that_of_the_chain() -> None:
    fields = {
        "correlation": "correlation", "tracing": "tracing", "protection": "selfProtection", "upgrades": "webSocket",
        "deadline": "timeout", "affinity": "affinity", "jwt": "jwt", "idempotency": "idempotency", "cache": "cache",
        "coalescing": "coalescing",
        "pool_guard": "poolGuard", "limiter": "backpressure",
    }  # fmt: skip
    policies: Any = {
        stage: SimpleNamespace(on_request=stage, on_complete=stage, on_upgrade=stage)
        for stage in STAGES
        if stage in fields and stage != "affinity"
    }
    filters: Any = {
        name: SimpleNamespace(on_request=name, on_complete=name)
        for name in (*fields, "retry", "metrics", "access_log")
        if name not in policies
    }
    chain: Any = build_chain(**filters, policies=policies)
    order = [fields[name] for name in chain.overloaded if name in fields]

    shown = [step.policy for step in explain(config(inbound("live", "websocket")), "GET /").steps]

    assert [policy for policy in shown if policy in fields.values()] == order
    assert set(chain.overloaded) - set(fields) == {"retry"}


def test_what_becomes_of_a_key() -> None:
    policy = IdempotencyPolicy(mode="Enforce", required_paths=("/payments*",), on_store_loss="Refuse")
    alone = config(inbound("web"), inbound("rpc", "grpc"), idempotency=policy)
    shared = msgspec.structs.replace(alone, store=Store(url="redis://redis:6379", timeout=Duration(0.1)))
    assert "Without an Idempotency-Key it passes." in said(explain(alone, "POST /orders"), "idempotency")
    assert "refused (400, idempotency_key_invalid)" in said(explain(alone, "POST /payments/7"), "idempotency")
    assert "that this sidecar has seen from the same caller within 24h" in said(explain(alone, "POST /"), "idempotency")
    assert "that the sidecars of the service have seen" in said(explain(shared, "POST /"), "idempotency")
    assert "(503, store_lost)" in said(explain(shared, "POST /"), "idempotency")
    assert "store_lost" not in said(explain(alone, "POST /"), "idempotency")
    assert said(explain(alone, "PUT /"), "idempotency") == "Passes: PUT is none of methods."
    assert "idempotency" not in [step.policy for step in explain(alone, "grpc:/a.B/C").steps]


def test_the_cache_says_what_it_would_do() -> None:
    full = config(inbound("web"), cache=CachePolicy(mode="Enforce", paths=("/a/*", "/b")))
    assert "while that is fresh" in said(explain(full, "GET /a/1"), "cache")
    assert said(explain(full, "GET /c"), "cache") == "Passes: no path of the policy covers /c."
    assert "what is stored about /b is forgotten" in said(explain(full, "POST /b"), "cache")
    asked = config(inbound("web"), cache=CachePolicy(mode="Enforce", graphql=GraphqlPolicy(mode="Enforce")))
    assert "by the class of their operation: PUBLIC 30s" in said(explain(asked, "POST /graphql"), "cache")


def test_coalescing_says_what_is_the_same() -> None:
    policy = CoalescingPolicy(mode="Enforce", ignored_headers=("user-agent",))
    full = config(inbound("web"), inbound("rpc", "grpc"), coalescing=policy)
    assert "same target and headers but for user-agent is under way" in said(explain(full, "GET /"), "coalescing")
    assert said(explain(full, "POST /"), "coalescing") == "Not shared: POST is not safe."
    assert "coalescing" not in [step.policy for step in explain(full, "grpc:/a.B/C").steps]


@pytest.mark.parametrize(
    ("policy", "text", "does"),
    [
        ({"mode": "Off"}, "GET /", "Does nothing."),
        ({}, "GET /", "Refused (503, database_saturated) while the app reports that more than 85% of a database pool"),
        ({}, "grpc:/shop.Stock/Take", "Refused (gRPC status 8, database_saturated)"),
        ({"mode": "Shadow"}, "GET /", "Counts what it would do, and lets everything pass: Refused"),
        ({"threshold": 1.0}, "GET /", "Lets everything pass: a threshold of 1 switches early rejection off."),
        ({"paths": ("/orders*",)}, "GET /static", "Passes: the path is none of paths."),
        ({"paths": ("/orders*",)}, "GET /orders/1", "Refused (503, database_saturated)"),
    ],
)
def test_what_a_full_database_pool_does(policy: dict[str, Any], text: str, does: str) -> None:
    full = config(inbound("web"), inbound("rpc", "grpc"), pool_guard=PoolGuardPolicy(**{"mode": "Enforce"} | policy))
    assert said(explain(full, text), "poolGuard").startswith(does)


@pytest.mark.parametrize(
    ("text", "policy", "repeated"),
    [
        (
            "GET http://up:8080/",
            RetryPolicy(),
            "Repeated on connect-failure, reset, 503, unavailable: GET is idempotent",
        ),
        ("POST http://up:8080/a", RetryPolicy(), "Repeated on connect-failure alone: POST may act twice"),
        ("POST http://up:8080/a/b", RetryPolicy(idempotent_paths=("/a/*",)), "idempotentPaths lists /a/b"),
        ("POST http://up:8080/b", RetryPolicy(idempotent_paths=("/a/*",)), "POST may act twice"),
        ("GET http://up:8080/", RetryPolicy(mode="Off"), "Not repeated: retries are off."),
        ("GET http://up:8080/", RetryPolicy(attempts=1), "Not repeated: retries are off."),
        ("GET http://up:8080/", RetryPolicy(mode="Shadow"), "Counts what it would do, and lets everything pass:"),
    ],
)
def test_whether_it_is_repeated_and_why(text: str, policy: RetryPolicy, repeated: str) -> None:
    assert repeated in said(explain(config(outbound("up", retry=policy)), text), "retry")


def test_a_grpc_call_is_answered_and_judged_as_one() -> None:
    explanation = explain(FULL, "grpc://stock:9000/shop.Stock/Take")

    assert "Refused (gRPC status 14, circuit_open)" in said(explanation, "circuitBreaker")
    assert "DATA_LOSS" in said(explanation, "circuitBreaker")
    assert "a gRPC call may act twice" in said(explanation, "retry")
    assert "at most 4 connections" in said(explanation, "pool")


def test_every_sentence_follows_the_values() -> None:
    ports = (
        inbound("web"),
        outbound(
            "up",
            tls=Tls(server_name="up.example"),
            circuit_breaker=BreakerPolicy(
                failure_threshold=0,
                window=WindowPolicy(type="Count", calls=30, minimum_calls=10, failure_rate=Share(0.25)),
                slow_call=SlowCallPolicy(duration=Duration(2), rate=Share(0.8)),
            ),
            fallback=FallbackPolicy(mode="Enforce", stale_for=Duration(60), body="{}", status=203),
        ),
    )
    backpressure = BackpressurePolicy(
        threshold=1.0,
        max_concurrency=9,
        adaptive=AdaptivePolicy(mode="Enforce"),
        priority=PriorityPolicy(mode="Enforce"),
    )
    full = config(
        *ports,
        backpressure=backpressure,
        access_log=AccessLogPolicy(sample=Share(0.1)),
        tracing=TracingPolicy(mode="Enforce"),
    )
    app, up = explain(full, "GET /"), explain(full, "GET http://up:8080/")

    assert "With 9 requests in flight it waits up to 2s (503, acquire_timeout)" in said(app, "backpressure")
    assert "sheddable is refused above 60% (Enforce)" in said(app, "backpressure")
    assert "from 8 up (Enforce)" in said(app, "backpressure")
    assert "from 25% failures in 30 calls on" in said(up, "circuitBreaker")
    assert "80% calls slower than 2s" in said(up, "circuitBreaker")
    assert "in a row, or" not in said(up, "circuitBreaker").partition("Single")[0]
    assert "the last good answer, up to 1m old, else a fixed one (203" in said(up, "fallback")
    assert "must prove that it is up.example" in said(up, "tls")
    assert "A line for 10% of them, and for every error." in said(up, "accessLog")
    assert "without one 1% of the requests are sampled" in said(up, "tracing")
    forced = config(outbound("up", circuit_breaker=BreakerPolicy(mode="ForcedOpen")))
    status = REFUSALS[Reason.CIRCUIT_OPEN].status
    assert said(explain(forced, "GET http://up:8080/"), "circuitBreaker") == (
        f"Refuses every request ({status}, circuit_open)."
    )


def test_which_limits_a_request_counts_for_and_whose_it_is() -> None:
    limits = (
        RateLimit(name="clients", rate=50, burst=80),
        RateLimit(name="login", by="Header", header="x-api-key", rate=5, period=Duration(60), paths=("/login",)),
        RateLimit(name="subjects", by="Claim", claim="sub", rate=9, scope="Global", paths=("/s.S/*",)),
    )
    tenants = tuple(Tenant(name=f"t{number}", rate=1) for number in range(10))
    full = config(
        inbound("web"),
        inbound("rpc", "grpc"),
        rate_limit=RateLimitPolicy(mode="Enforce", limits=limits),
        tenancy=TenancyPolicy(mode="Shadow", by="Path", tenants=tenants, unknown="Refuse"),
    )
    home, login, call = explain(full, "GET /"), explain(full, "POST /LOGIN/"), explain(full, "grpc:/s.S/M")
    assert said(home, "rateLimit") == "clients: 50 in 1s for each client, 80 at once (429, rate_limited)."
    assert "login: 5 in 1m for each value of x-api-key, 5 at once" in said(login, "rateLimit")
    assert "subjects: 9 in 1s for each value of the claim sub in all pods together, 9 at once (gRPC status 8" in said(
        call, "rateLimit"
    )
    assert "segment 1 of the path; known by name: t0, t1, t2, t3, t4, t5, t6, t7 and 2 more." in said(home, "tenancy")
    assert "Another one is refused (400, tenant_unknown)." in said(home, "tenancy")
    assert "50% of the places; beyond it 429, tenant_limit" in said(home, "tenancy")
    off = explain(config(inbound("web")), "GET /")
    assert (said(off, "rateLimit"), said(off, "tenancy")) == ("Does nothing.", "Does nothing.")


def test_as_json_every_value_is_there() -> None:
    shown = json.loads(render(explain(FULL, "GET http://auth-service:8080/"), as_json=True))

    assert (shown["direction"], shown["name"], shown["request"]) == (
        "outbound", "auth-service", "GET http://auth-service:8080/",
    )  # fmt: skip
    retry = next(step for step in shown["policies"] if step["policy"] == "retry")
    assert retry["values"]["budget"] == "20%"
    assert retry["mode"] == "Enforce"


@pytest.fixture
def signals() -> Iterator[None]:
    """The command handles signals, as it may in a process of its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(encode(FULL))

    assert main(["--config", str(file), "--explain", "POST /orders"]) == 0
    assert capsys.readouterr().out.startswith(
        "POST /orders\nweb (http), to the app: 127.0.0.1:0 -> 127.0.0.1:8080\n\n 1."
    )
    assert main(["--config", str(file), "--explain", "POST /orders", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "web"
    assert main(["--config", str(file), "--explain", "GET http://other/"]) == 2
    assert "nova-sidecar: --explain: expected an upstream" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--config", str(file), "--explain", "GET /", "--check"])
    file.write_bytes(b"{}")
    assert main(["--config", str(file), "--explain", "GET /"]) == 2


def test_a_path_may_be_anything_a_target_may() -> None:
    assert parse("GET /a/%20?b=c#d").path == "/a/%20"


def test_whose_pod_a_request_belongs_to_is_told() -> None:
    cookie = SessionCookie(name="cart", path="/", same_site="Lax", secure=False)
    alone = Affinity(timeout=Duration(3600), cookie=cookie)
    siblings = msgspec.structs.replace(alone, siblings="cart-endpoints.shop.svc")
    stored = msgspec.structs.replace(siblings, store=Store(url="redis://redis", timeout=Duration(0.1)))
    for affinity, mode, words in (
        (None, "Off", "Does nothing."),
        (alone, "Cookie", "Always served here: this sidecar knows no siblings."),
        (siblings, "Cookie", "Handed over where a valid cookie cart names another pod"),
        (stored, "Redis", "Handed over where the session that a valid cookie cart names is bound to another pod"),
    ):
        explanation = explain(config(inbound("web"), affinity=affinity), "GET /")
        (step,) = [step for step in explanation.steps if step.policy == "affinity"]
        assert (step.mode, words in " ".join(step.does)) == (mode, True)
    assert not [
        step for step in explain(config(inbound("rpc", "grpc")), "grpc:/a.B/C").steps if step.policy == "affinity"
    ]


def test_tokens_are_told_by_path_and_mode() -> None:
    found = convert(
        {
            "issuers": [
                {"issuer": "https://auth.example", "jwksUrl": "https://auth.example/keys", "audiences": ["shop"]}
            ],
            "directories": [""],
            "openPaths": ["/public/*"],
        },
        Jwt,
    )
    asked = config(inbound("web"), inbound("rpc", "grpc"), jwt=found)
    assert "Refused (401, unauthenticated) without a valid token of https://auth.example" in said(
        explain(asked, "GET /"), "jwt"
    )
    assert "gRPC status 16" in said(explain(asked, "grpc:/a.B/C"), "jwt")
    assert "The path is open" in said(explain(asked, "GET /public/a"), "jwt")
    assert "is removed" in said(explain(asked, "GET /public/a"), "jwt")
    rehearsed = config(inbound("web"), jwt=msgspec.structs.replace(found, mode="Shadow"))
    assert said(explain(rehearsed, "GET /"), "jwt").startswith("Counts what it would do")
    assert said(explain(config(inbound("web")), "GET /"), "jwt") == "Does nothing."
