"""Who may come in: tokens at ports of every protocol, what the app is told, and how that changes by a reload."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from nova_api.request_policies.idempotency import IdempotencyPolicy

from .conftest import StartApp, StartSidecar
from .support.grpcapp import GrpcApp, GrpcClient, request
from .support.http2 import request_fields
from .support.issuer import EDDSA, ES256, ES512, NAME, OTHER, PS256, RS256, Issuer, Key, token
from .support.message import response
from .support.peer import Listener
from .support.scene import Scene
from .support.sidecar import Sidecar, with_fields
from .support.tokens import ask, asking, bearer, changed, of, policy
from .support.waiting import eventually
from .support.websocket import SWITCHED, UPGRADE


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer(*(key.public() for key in (RS256, PS256, ES256, ES512, EDDSA)))
    yield found
    found.stop()


def lookups(sidecar: Sidecar) -> dict[str, int]:
    found: dict[str, int] = sidecar.stats()["policies"]["jwt"]["lookups"]
    return found


@pytest.mark.parametrize("key", [RS256, PS256, ES256, ES512, EDDSA], ids=lambda key: key.algorithm)
def test_a_good_token_comes_in_and_the_app_knows_whose_it_is(
    start: StartSidecar, app: StartApp, issuer: Issuer, key: Key
) -> None:
    service = app()
    sidecar = start(asking(service.address, policy(issuer)))
    text = token(key)
    for _ in range(3):
        assert ask(sidecar, bearer(text)).status == 200
    for seen in service.requests:
        assert seen.get("x-nova-subject") == "anna"
        assert seen.get("authorization") == f"Bearer {text}"
    assert lookups(sidecar) == {"remembered": 2, "refused": 0, "redis": 0, "direct": 1}
    assert sidecar.metric("nova_jwt_requests_total", result="valid") == 3
    assert sidecar.metric("nova_jwt_verification_seconds_count") == 1
    assert issuer.asked == 1


def test_keys_in_the_document(start: StartSidecar, app: StartApp) -> None:
    service = app()
    own = {name: value for name, value in RS256.public().items() if name in {"kty", "kid", "n", "e"}}
    curve = {name: value for name, value in EDDSA.public().items() if name in {"kty", "kid", "crv", "x"}}
    sidecar = start(asking(service.address, policy(issuers=[of(None, keys=[own, curve])])))
    for key in (RS256, EDDSA):
        assert ask(sidecar, bearer(token(key))).status == 200
        assert ask(sidecar, bearer(token(key, header={"kid": None}))).status == 200
    assert ask(sidecar, bearer(token(OTHER))).status == 401


def test_the_answer_to_each_kind_of_refusal(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    required = [{"claim": "scope", "values": ["cart:write"]}]
    sidecar = start(asking(app().address, policy(issuer, requiredClaims=required)))
    nobody = ask(sidecar)
    assert (nobody.status, nobody.get("www-authenticate")) == (401, 'Bearer realm="shop"')
    poor = ask(sidecar, bearer(token()))
    assert poor.status == 401
    other = ask(sidecar, bearer(token(scope="cart:read profile")))
    assert (other.status, other.get("x-nova-reject")) == (403, "forbidden")
    assert 'error="insufficient_scope"' in (other.get("www-authenticate") or "")
    assert ask(sidecar, bearer(token(scope="profile cart:write"))).status == 200
    for result in ("missing", "claim", "forbidden", "valid"):
        assert sidecar.metric("nova_jwt_requests_total", result=result) == 1
    assert sidecar.metric("nova_rejected_total", reason="unauthenticated") == 2


def test_a_cookie_and_a_header_of_ones_own(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service = app()
    source = {"header": "x-access-token", "cookie": "token"}
    sidecar = start(asking(service.address, policy(issuer, source=source)))
    assert ask(sidecar, f"Cookie: a=b; token={token()}; c=d").status == 200
    assert ask(sidecar, f"X-Access-Token: {token()}").status == 200
    assert ask(sidecar, f"X-Access-Token: Bearer {token()}").status == 200
    assert ask(sidecar, bearer(token())).status == 401
    assert [seen.get("x-nova-subject") for seen in service.requests] == ["anna"] * 3


def test_a_browsers_question_before_its_request(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    question = ("Origin: https://shop.example", "Access-Control-Request-Method: PUT")
    closed = start(asking(app().address, policy(issuer)))
    assert ask(closed, *question, method="OPTIONS").status == 401
    open_ = start(asking(app().address, policy(issuer, openPreflight=True)))
    assert ask(open_, *question, method="OPTIONS").status == 200
    assert ask(open_, *question).status == 401
    assert ask(open_, question[0], method="OPTIONS").status == 401


def test_in_shadow_nothing_is_seen_but_counted(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service = app()
    sidecar = start(asking(service.address, policy(issuer, mode="Shadow")))
    eventually(lambda: issuer.asked == 1)
    assert ask(sidecar, "x-nova-subject: root", "X_Nova_Subject: root").status == 200
    assert ask(sidecar, bearer(token(exp=1))).status == 200
    assert ask(sidecar, bearer(token())).status == 200
    assert all(seen.get("x-nova-subject") is None and "root" not in str(seen.lines) for seen in service.requests)
    assert sidecar.metric("nova_shadow_rejected_total", reason="unauthenticated") == 2
    assert sidecar.metric("nova_rejected_total", reason="unauthenticated") == 0
    assert sidecar.metric("nova_jwt_requests_total", result="valid") == 1


def test_in_shadow_a_request_with_a_key_takes_effect_once(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    """Whose it is must not hang on whether the token happens to be remembered."""
    service = app()
    once = IdempotencyPolicy(mode="Enforce")
    sidecar = start(asking(service.address, policy(issuer, mode="Shadow"), idempotency=once))
    eventually(lambda: issuer.asked == 1)
    issuer.publish(RS256.public(), OTHER.public())  # it must be fetched, and the first request goes on meanwhile
    lines = (bearer(token(OTHER)), "Idempotency-Key: k", "Content-Length: 0")
    assert ask(sidecar, *lines, method="POST").get("idempotent-replayed") is None
    eventually(lambda: sidecar.metric("nova_jwt_requests_total", result="valid") == 1)
    assert ask(sidecar, *lines, method="POST").get("idempotent-replayed") == "true"
    assert len(service.requests) == 1


def test_tokens_without_a_subject_are_not_one_caller(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service = app()
    found = policy(issuer, source={"header": "access-token"})
    sidecar = start(asking(service.address, found, idempotency=IdempotencyPolicy(mode="Enforce")))
    given = {role: token(sub=None, role=role) for role in ("reader", "writer")}  # each holds the second it was made in
    for role, replayed in (("reader", None), ("writer", None), ("reader", "true")):
        lines = (f"Access-Token: {given[role]}", "Idempotency-Key: k", "Content-Length: 0")
        answer = ask(sidecar, *lines, method="POST")
        assert (answer.status, answer.get("idempotent-replayed")) == (200, replayed)
    assert len(service.requests) == 2


def test_it_is_switched_off_and_on_by_a_reload(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service = app()
    config = asking(service.address, policy(issuer))
    sidecar = start(config)
    assert ask(sidecar).status == 401
    begun = time.monotonic()
    sidecar.reload(with_fields(config, jwt=None))
    eventually(lambda: ask(sidecar).status == 200)
    assert time.monotonic() - begun < 5
    assert sidecar.stats()["policies"].get("jwt") is None
    sidecar.reload(config)
    eventually(lambda: ask(sidecar).status == 401)
    assert ask(sidecar, bearer(token())).status == 200


def test_who_does_not_use_it_loads_none_of_it(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(with_fields(asking(app().address, policy(issuers=[of(None, jwksUrl="http://x")])), jwt=None))
    maps = Path(f"/proc/{sidecar.process.pid}/maps").read_text()
    assert ask(sidecar).status == 200
    assert "cryptography" not in maps


def test_a_revoked_token_is_refused_though_it_is_remembered(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    config = asking(app().address, policy(issuer))
    sidecar = start(config)
    stolen, own, other = token(jti="t1"), token(jti="t2"), token(sub="mallory")
    for text in (stolen, own, other):
        assert ask(sidecar, bearer(text)).status == 200
    assert config.jwt is not None
    revoked = {"ids": ["t1"], "subjects": ["mallory"]}
    sidecar.reload(with_fields(config, jwt=changed(config.jwt, revoked=revoked)))
    eventually(lambda: ask(sidecar, bearer(stolen)).status == 401)
    assert ask(sidecar, bearer(other)).status == 401
    assert ask(sidecar, bearer(own)).status == 200
    assert issuer.asked == 1  # the keys stay
    sidecar.reload(config)
    eventually(lambda: ask(sidecar, bearer(stolen)).status == 200)


def test_one_that_expires_while_it_is_remembered(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(asking(app().address, policy(issuer, leeway="0s")))
    text = token(exp=int(time.time()) + 3)
    assert ask(sidecar, bearer(text)).status == 200
    refused = eventually(lambda: next((one for one in [ask(sidecar, bearer(text))] if one.status == 401), None))
    assert "expired" in (refused.get("www-authenticate") or "")
    assert lookups(sidecar)["direct"] == 1


def test_a_flood_of_bad_tokens_pushes_out_no_good_one(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(asking(app().address, policy(issuer, cache={"entries": 2, "refusedEntries": 2})))
    good = token()
    assert ask(sidecar, bearer(good)).status == 200
    client = sidecar.connect()
    for number in range(20):
        client.send(b"GET / HTTP/1.1\r\nHost: app\r\n" + bearer(token(aud=f"x{number}")).encode() + b"\r\n\r\n")
        assert client.response().status == 401
    assert ask(sidecar, bearer(good)).status == 200
    assert lookups(sidecar)["direct"] == 1
    assert sidecar.stats()["policies"]["jwt"]["remembered"] == {"valid": 1, "refused": 2}


def test_an_upgrade_needs_a_token(start: StartSidecar, listener: Listener, issuer: Issuer) -> None:
    sidecar = start(asking(listener.address, policy(issuer), "websocket"))
    client = sidecar.connect()
    client.send(UPGRADE)
    assert client.response().status == 401
    client = sidecar.connect()
    client.send(UPGRADE.replace(b"\r\n\r\n", f"\r\n{bearer(token())}\r\nx-nova-subject: root\r\n\r\n".encode()))
    upstream = listener.accept()
    arrived = upstream.head()
    assert arrived.all("x-nova-subject") == ["anna"]
    upstream.send(SWITCHED)
    assert client.response(interim=True).status == 101
    client.close()


def test_grpc(start: StartSidecar, issuer: Issuer) -> None:
    server = GrpcApp()
    try:
        found = policy(issuer, openPaths=["/grpc.testing.TestService/EmptyCall"])
        sidecar = start(asking(server.address, found, "grpc"))
        with GrpcClient(sidecar.address()) as client:
            with pytest.raises(grpc.RpcError) as refused:
                client.unary(request(inspect=True), timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            trailing = {**dict(refused.value.trailing_metadata()), **dict(refused.value.initial_metadata())}
            assert trailing["www-authenticate"] == 'Bearer realm="shop"'
            wrong = [("authorization", f"Bearer {token(aud='billing')}")]
            with pytest.raises(grpc.RpcError) as refused:
                client.unary(request(inspect=True), timeout=10, metadata=wrong)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            given = [
                ("authorization", f"Bearer {token()}"), ("x-nova-subject", "root"), ("x_nova_subject", "root"),
            ]  # fmt: skip
            for _ in range(2):
                seen = client.inspect(metadata=given)
                named = [pair for pair in seen["metadata"] if "nova" in pair[0] and "subject" in pair[0]]
                assert named == [["x-nova-subject", "anna"]]
            client.empty(b"", timeout=10)
        assert sidecar.metric("nova_jwt_requests_total", result="open") == 1
        assert sidecar.metric("nova_jwt_requests_total", result="valid") == 2
    finally:
        server.stop()


def test_trailers_of_http2_bring_nothing_in_its_name(start: StartSidecar, issuer: Issuer) -> None:
    listener = Listener()
    scene = Scene(start(asking(listener.address, policy(issuer), "grpc")), listener)
    try:
        client = scene.client()
        extra = [("authorization", f"Bearer {token()}"), ("x-nova-subject", "root")]
        client.headers(1, request_fields("/a", "POST", extra))
        upstream = scene.upstream()
        _, arrived = upstream.head()
        assert arrived["x-nova-subject"] == "anna"
        client.headers(1, [("x-nova-subject", "root"), ("x_nova_subject", "root"), ("x-sum", "1")], end=True)
        _, trailers = upstream.head()
        assert trailers == {"x-sum": "1"}
    finally:
        scene.close()
        listener.close_all()


def test_two_issuers_each_with_its_own(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    service, second = app(), Issuer(OTHER.public())
    try:
        name = "https://other.example"
        other = {**of(second), "issuer": name, "audiences": ["*"]}
        sidecar = start(asking(service.address, policy(issuers=[of(issuer), other])))
        assert ask(sidecar, bearer(token())).status == 200
        assert ask(sidecar, bearer(token(OTHER, iss=name, aud=None))).status == 200
        assert ask(sidecar, bearer(token(RS256, iss=name))).status == 401  # signed by the first, said to be the other's
        assert ask(sidecar, bearer(token(OTHER, iss=NAME))).status == 401
    finally:
        second.stop()


def test_a_response_is_the_apps(start: StartSidecar, app: StartApp, issuer: Issuer) -> None:
    sidecar = start(
        asking(app(lambda _: response("201 Created", "x-nova-subject: app", body=b"x")).address, policy(issuer))
    )
    found = ask(sidecar, bearer(token()))
    assert (found.status, found.get("x-nova-subject"), found.body) == (201, "app", b"x")
