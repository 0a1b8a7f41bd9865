"""Rate limits over real sockets: what is admitted, what callers are told, and every way round them that is known."""

import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from nova_api.policies import Mode
from nova_api.request_policies.rate_limit import ClientAddress, RateLimit, RateLimitPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.grpcapp import GrpcApp, GrpcClient
from .support.grpcapp import request as grpc_request
from .support.issuer import OTHER, RS256, token
from .support.message import Message, request
from .support.sidecar import Sidecar, document, inbound, with_fields
from .support.tokens import asking, bearer, of
from .support.tokens import policy as jwt
from .support.waiting import eventually
from .support.websocket import UPGRADE

HOUR = Duration(3600)
"""No permit comes back while a test runs."""


def limit(name: str = "clients", rate: int = 3, **fields: Any) -> RateLimit:
    return RateLimit(**({"name": name, "rate": rate, "period": HOUR} | fields))


def policy(*limits: RateLimit, mode: Mode = "Enforce", **fields: Any) -> RateLimitPolicy:
    return RateLimitPolicy(mode=mode, limits=limits, **fields)


Limited = Callable[..., Sidecar]


@pytest.fixture
def limited(start: StartSidecar, app: StartApp) -> Limited:
    """Start a sidecar with these limits in front of an app that says ok."""

    def make(*limits: RateLimit, mode: Mode = "Enforce", **fields: Any) -> Sidecar:
        web = inbound(app().address)
        return start(document(web, rate_limit=policy(*limits, mode=mode, **fields)))

    return make


def ask(sidecar: Sidecar, target: str = "/", *lines: str, method: str = "GET") -> Message:
    """One request on a connection of its own."""
    with sidecar.connect() as client:
        client.send(request(method, target, *lines))
        return client.response(method)


def statuses(sidecar: Sidecar, count: int, target: str = "/", *lines: str) -> list[int]:
    return [ask(sidecar, target, *lines).status for _ in range(count)]


def counted(sidecar: Sidecar, result: str, name: str = "clients") -> float:
    return sidecar.metric("nova_rate_limit_requests_total", limit=name, result=result)


# --- what it does


def test_beyond_the_rate_is_refused_and_the_caller_is_told_everything(limited: Limited) -> None:
    sidecar = limited(limit(rate=2, burst=3))
    answers = [ask(sidecar) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.get("ratelimit-policy") for answer in answers] == ['"clients";q=3;w=5400'] * 3
    assert [re.sub("t=[0-9]+", "t", str(answer.get("ratelimit"))) for answer in answers] == [
        f'"clients";r={left};t' for left in (2, 1, 0)
    ]

    refusal = ask(sidecar)

    assert (refusal.status, refusal.get("x-nova-reject")) == (429, "rate_limited")
    assert 1790 <= int(refusal.get("retry-after") or 0) <= 1800
    assert re.fullmatch(r'"clients";r=0;t=1[78][0-9][0-9]', refusal.get("ratelimit") or "")
    assert (counted(sidecar, "admitted"), counted(sidecar, "refused")) == (3, 1)
    assert sidecar.metric("nova_rejected_total", reason="rate_limited") == 1


def test_permits_come_back_at_the_rate(limited: Limited) -> None:
    sidecar = limited(limit(rate=5, period=Duration(1), burst=1))
    assert ask(sidecar).status == 200
    refusal = ask(sidecar)
    assert (refusal.status, refusal.get("retry-after")) == (429, "1")
    eventually(lambda: ask(sidecar).status == 200)


def test_a_refusal_leaves_the_connection_and_the_other_limits_alone(limited: Limited) -> None:
    sidecar = limited(limit("login", 1, paths=("/login",)), limit("all", 4, by="All"))
    with sidecar.connect() as client:
        targets = ["/login", "/login", "/", "/login", "/", "/", "/"]
        answers = [client.exchange(request("GET", target)) for target in targets]
    assert [answer.status for answer in answers] == [200, 429, 200, 429, 200, 200, 429]
    assert answers[0].get("ratelimit-policy") == '"login";q=1;w=3600, "all";q=4;w=3600'
    assert (answers[1].get("ratelimit") or "").startswith('"login";r=0;')
    assert (answers[6].get("ratelimit") or "").startswith('"all";r=0;')


def test_shadow_counts_and_shows_nothing(limited: Limited) -> None:
    sidecar = limited(limit(rate=1), mode="Shadow")
    answers = [ask(sidecar) for _ in range(3)]
    assert [(answer.status, answer.get("ratelimit")) for answer in answers] == [(200, None)] * 3
    assert sidecar.metric("nova_shadow_rejected_total", reason="rate_limited") == 2
    assert (counted(sidecar, "admitted"), counted(sidecar, "refused")) == (1, 2)


def test_a_reload_keeps_the_buckets_and_switches_off_at_once(limited: Limited) -> None:
    sidecar = limited(limit(rate=2))
    assert statuses(sidecar, 3) == [200, 200, 429]
    sidecar.reload(with_fields(sidecar.config, rate_limit=policy(limit(rate=2), headers=False)))
    eventually(lambda: ask(sidecar).get("ratelimit") is None)
    assert ask(sidecar).status == 429
    sidecar.reload(with_fields(sidecar.config, rate_limit=RateLimitPolicy()))
    eventually(lambda: ask(sidecar).status == 200)
    assert "nova_rate_limit_requests_total{" not in sidecar.status("/metrics")[1].decode()


def test_keys_appear_nowhere(limited: Limited) -> None:
    sidecar = limited(limit("keys", by="Header", header="x-api-key"))
    assert ask(sidecar, "/", "X-Api-Key: top-secret").status == 200
    shown = sidecar.status("/metrics")[1].decode() + str(sidecar.stats()) + sidecar.text
    assert "top-secret" not in shown


# --- every way round it


PROXIED = ClientAddress(trusted_proxies=1)


def test_bypass_by_a_forwarded_header_that_nobody_asked_for(limited: Limited) -> None:
    sidecar = limited(limit(rate=3))
    names = ("X-Forwarded-For: ", "Forwarded: for=", "X-Real-IP: ")
    found = [ask(sidecar, "/", *[f"{name}203.0.113.{n}" for name in names]) for n in range(5)]
    assert [answer.status for answer in found] == [200, 200, 200, 429, 429]


@pytest.mark.parametrize(
    "written",
    [
        "X-Forwarded-For: {n}.1.1.1, 203.0.113.9",
        "X-Forwarded-For: {n}.1.1.1\r\nX-Forwarded-For: 203.0.113.9",
        "x-forwarded-for: 203.0.113.9:{n}4711",
        "X-Forwarded-For: ::ffff:203.0.113.9",
        "X-Forwarded-For: unknown, {n}.1.1.1,  203.0.113.9",
    ],
)
def test_bypass_by_writing_before_the_trusted_proxy(limited: Limited, written: str) -> None:
    sidecar = limited(limit(rate=3), client=PROXIED)
    found = [ask(sidecar, "/", *written.format(n=n).split("\r\n")).status for n in range(1, 6)]
    assert found == [200, 200, 200, 429, 429]
    assert ask(sidecar, "/", "X-Forwarded-For: 203.0.113.10").status == 200  # another client


def test_bypass_by_the_mark_of_a_sibling(limited: Limited) -> None:
    sidecar = limited(limit(rate=3))
    found = [ask(sidecar, "/", "X-Nova-Handed-Over: 1", f"X-Forwarded-For: 203.0.113.{n}").status for n in range(5)]
    assert found == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("value", ["2001:db8::{n}", "[2001:db8::{n}]:80", "2001:db8:0:0:{n}::"])
def test_bypass_by_rotating_addresses_within_a_network(limited: Limited, value: str) -> None:
    sidecar = limited(limit(rate=3), client=PROXIED)
    found = [ask(sidecar, "/", f"X-Forwarded-For: {value.format(n=n)}").status for n in range(1, 6)]
    assert found == [200, 200, 200, 429, 429]


def test_bypass_by_case_space_and_duplicates_of_the_key(limited: Limited) -> None:
    sidecar = limited(limit("keys", 3, by="Header", header="x-api-key"))
    assert statuses(sidecar, 3, "/", "X-Api-Key: abc") == [200] * 3
    spellings = [
        ("x-api-key: abc",), ("X-API-KEY: abc",), ("X-Api-Key: ABC",), ("X-Api-Key:   abc  ",), ("X-Api-Key:\tabc",),
        ("X-Api-Key: abc", "X-Api-Key: abc"), ("X-Api-Key: abc", "X-Api-Key: other"),
        ("X-Api-Key: other", "X-Api-Key: abc"), ("X-Api-Key: abc, other",), ("X-Api-Key: other,abc",),
    ]  # fmt: skip
    assert {lines: ask(sidecar, "/", *lines).status for lines in spellings} == dict.fromkeys(spellings, 429)
    assert ask(sidecar, "/", "X-Api-Key: other").status == 200  # what was refused cost it nothing


def test_bypass_by_leaving_the_key_out(limited: Limited) -> None:
    sidecar = limited(limit("keys", 3, by="Header", header="x-api-key"))
    found = [ask(sidecar, "/", *lines).status for lines in ((), ("X-Api-Key:",), ("X-Api-Key: ,",), (), ())]
    assert found == [200, 200, 200, 429, 429]


def test_bypass_by_many_keys_meets_the_clients_own_limit(limited: Limited) -> None:
    sidecar = limited(limit("keys", 3, by="Header", header="authorization"), limit("clients", 6))
    found = [ask(sidecar, "/", f"Authorization: Bearer invented-{n}").status for n in range(8)]
    assert found == [200] * 6 + [429] * 2


def test_bypass_by_another_spelling_of_the_path(limited: Limited) -> None:
    sidecar = limited(limit("login", 3, paths=("/login",)))
    assert statuses(sidecar, 3, "/login") == [200] * 3
    spellings = [
        "/LOGIN", "/login/", "//login", "/./login", "/a/../login", "/%6cogin", "/%256cogin", "/%2e/login", "/login;a=b",
        "/login?x=1", "/login%2f", "/login%00", "/a/%2e%2e/login", "/a/..;/login", "http://app/login",
    ]  # fmt: skip
    assert {target: ask(sidecar, target).status for target in spellings} == dict.fromkeys(spellings, 429)
    assert ask(sidecar, "/logout").status == 200


def test_bypass_by_head_in_place_of_get(limited: Limited) -> None:
    sidecar = limited(limit("reads", 3, methods=("GET",)))
    found = [ask(sidecar, method=method).status for method in ("GET", "HEAD", "GET", "HEAD", "GET", "POST")]
    assert found == [200, 200, 200, 429, 429, 200]


def test_bypass_by_another_connection_port_and_protocol(start: StartSidecar, app: StartApp) -> None:
    """Buckets are the service's, not a port's: a client has one through HTTP/1.1, HTTP/2 and WebSocket ports."""
    one, server = app(), GrpcApp()
    try:
        ports = (
            inbound(one.address),
            inbound(one.address, name="live", protocol="websocket"),
            inbound(server.address, name="rpc", protocol="grpc"),
        )
        sidecar = start(document(*ports, rate_limit=policy(limit(rate=3))))
        assert statuses(sidecar, 2) == [200, 200]
        with GrpcClient(sidecar.address("rpc")) as client:
            client.unary(grpc_request(size=1), timeout=10)
            with pytest.raises(grpc.RpcError) as failure:
                client.unary(grpc_request(size=1), timeout=10)
            error: Any = failure.value
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            told = dict(error.trailing_metadata())
            assert told["x-nova-reject"] == "rate_limited"
        with sidecar.connect("live") as client:
            client.send(UPGRADE)
            assert client.response(interim=True).status == 429
        assert ask(sidecar).status == 429
    finally:
        server.stop()


def test_bypass_by_inventing_keys_until_the_own_one_is_forgotten(limited: Limited) -> None:
    sidecar = limited(limit("keys", 3, by="Header", header="x-api-key"), max_keys=64)
    assert statuses(sidecar, 4, "/", "X-Api-Key: mine") == [200, 200, 200, 429]
    with sidecar.connect() as client:
        for number in range(500):
            client.exchange(request("GET", "/", f"X-Api-Key: invented-{number}"))
    assert ask(sidecar, "/", "X-Api-Key: mine").status == 429
    assert sidecar.metric("nova_rate_limit_keys") <= 64
    assert sidecar.metric("nova_rate_limit_overflows_total") > 0


def test_bypass_by_pipelining(limited: Limited) -> None:
    sidecar = limited(limit(rate=3))
    with sidecar.connect() as client:
        client.send(request() * 6)
        assert [client.response().status for _ in range(6)] == [200, 200, 200, 429, 429, 429]


def test_bypass_by_dates_that_a_client_writes(limited: Limited) -> None:
    sidecar = limited(limit(rate=3))
    found = [ask(sidecar, "/", f"Date: Tue, {n} Nov 2094 08:12:31 GMT", f"Age: {n}99999").status for n in range(10, 15)]
    assert found == [200, 200, 200, 429, 429]


# --- by a claim of a verified token


def test_all_tokens_of_a_subject_are_one_bucket_and_nobody_gets_into_another_ones(
    start: StartSidecar, app: StartApp
) -> None:
    by_subject = limit("subjects", 2, by="Claim", claim="sub")
    keys = jwt(issuers=[of(None, keys=[{key: RS256.public()[key] for key in ("kty", "kid", "n", "e")}])])
    sidecar = start(asking(app().address, keys, rate_limit=policy(by_subject)))
    anna = [bearer(token(jti=name)) for name in ("a", "b", "c")]

    assert [ask(sidecar, "/", one).status for one in anna] == [200, 200, 429]
    assert statuses(sidecar, 3, "/", bearer(token(sub="bert"))) == [200, 200, 429]
    # a claim counts only behind its signature, and a header that looks like one says nothing
    assert ask(sidecar, "/", bearer(token(OTHER, sub="carl", header={"kid": "k1"}))).status == 401
    assert ask(sidecar, "/", anna[0], "x-nova-subject: dora").status == 429
    assert (counted(sidecar, "admitted", "subjects"), counted(sidecar, "refused", "subjects")) == (4, 3)


def test_who_has_no_such_claim_counts_by_address(start: StartSidecar, app: StartApp) -> None:
    by_team = limit("teams", 1, by="Claim", claim="team")
    keys = jwt(
        issuers=[of(None, keys=[{key: RS256.public()[key] for key in ("kty", "kid", "n", "e")}])], openPaths=["/open"]
    )
    sidecar = start(asking(app().address, keys, rate_limit=policy(by_team)))

    assert ask(sidecar, "/open").status == 200
    assert ask(sidecar, "/", bearer(token(team=["a", "b"]))).status == 429  # a list is none that can be counted by
    assert ask(sidecar, "/", bearer(token(team="a"))).status == 200
    assert ask(sidecar, "/", bearer(token(team="a", sub="bert"))).status == 429
