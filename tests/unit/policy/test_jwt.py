"""Claims judged, and what of them the app is told."""

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.model import convert
from nova_api.request_policies.jwt import JwtPolicy
from nova_sidecar.policy.jws import Fault
from nova_sidecar.policy.jwt import OpenPaths, TokenRules, Verdict, bearer, challenge, cookie, spellings
from tests.unit.policy.tokens import CLAIMS, ISSUER, NOW


def policy(**fields: Any) -> JwtPolicy:
    issuer = {"issuer": ISSUER, "jwksUrl": "https://auth.example/keys", "audiences": ["shop", "shop-admin"]}
    return convert({"issuers": [issuer | fields.pop("issuer", {})]} | fields, JwtPolicy)


def judged(claims: dict[str, Any], *, now: float = NOW, algorithm: str = "RS256", **fields: Any) -> Verdict | Fault:
    return TokenRules(policy(**fields)).judge(claims, algorithm, now)


def verdict(claims: dict[str, Any], **fields: Any) -> Verdict:
    found = judged(claims, **fields)
    assert isinstance(found, Verdict)
    return found


def test_a_good_token() -> None:
    found = verdict(CLAIMS | {"jti": "t1"})
    assert found.subject == b"anna"
    assert found.lines == b"x-nova-subject: anna\r\n"
    assert (found.until, found.token_id, found.issuer) == (NOW + 600, "t1", ISSUER)


WITHOUT_END = {name: value for name, value in CLAIMS.items() if name != "exp"}


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": "https://evil.example"}, Fault.ISSUER),
        ({"iss": ISSUER + "/"}, Fault.ISSUER),
        ({"iss": ISSUER.upper()}, Fault.ISSUER),
        ({"iss": [ISSUER]}, Fault.ISSUER),
        ({"iss": None}, Fault.ISSUER),
        ({"exp": NOW - 30}, Fault.EXPIRED),
        ({"exp": 0}, Fault.EXPIRED),
        ({"exp": str(NOW + 600)}, Fault.MALFORMED),
        ({"exp": True}, Fault.MALFORMED),
        ({"exp": None}, Fault.MALFORMED),
        ({"exp": inf}, Fault.MALFORMED),
        ({"exp": nan}, Fault.MALFORMED),
        ({"exp": -1}, Fault.MALFORMED),
        ({"exp": 10**400}, Fault.MALFORMED),
        ({"exp": (NOW + 600) * 1000}, Fault.MALFORMED),
        ({"nbf": NOW + 31}, Fault.NOT_YET_VALID),
        ({"nbf": "soon"}, Fault.MALFORMED),
        ({"aud": "billing"}, Fault.AUDIENCE),
        ({"aud": ["billing", "blog"]}, Fault.AUDIENCE),
        ({"aud": []}, Fault.AUDIENCE),
        ({"aud": None}, Fault.AUDIENCE),
        ({"aud": {"shop": True}}, Fault.AUDIENCE),
        ({"aud": "shop billing"}, Fault.AUDIENCE),
        ({"sub": 7}, Fault.MALFORMED),
        ({"sub": ["anna"]}, Fault.MALFORMED),
        ({"jti": 7}, Fault.MALFORMED),
        ({"sub": "anna\r\nx-admin: 1"}, Fault.CLAIM),
        ({"sub": "anna\x00"}, Fault.CLAIM),
        ({"sub": " anna"}, Fault.CLAIM),
        ({"sub": "anna\t"}, Fault.CLAIM),
        ({"sub": "\ud800"}, Fault.CLAIM),
        ({"sub": "a" * 4097}, Fault.CLAIM),
    ],
)
def test_a_bad_one(claims: dict[str, Any], fault: Fault) -> None:
    assert judged(CLAIMS | claims) is fault


def test_a_token_without_an_end_is_none() -> None:
    assert judged(WITHOUT_END) is Fault.CLAIM


@pytest.mark.parametrize(
    "claims",
    [{"exp": NOW - 29}, {"nbf": NOW + 30}, {"aud": ["billing", "shop"]}, {"aud": "shop-admin"}, {"exp": NOW + 0.5}],
)
def test_one_that_is_just_good(claims: dict[str, Any]) -> None:
    assert isinstance(judged(CLAIMS | claims), Verdict)


def test_any_audience_is_any_or_none() -> None:
    without = {name: value for name, value in CLAIMS.items() if name != "aud"}
    assert isinstance(judged(without, issuer={"audiences": ["*"]}), Verdict)
    assert judged(without) is Fault.AUDIENCE


def test_an_issuer_says_what_its_tokens_are_signed_with() -> None:
    assert judged(CLAIMS, algorithm="RS512") is Fault.ALGORITHM
    assert isinstance(judged(CLAIMS, algorithm="RS512", issuer={"algorithms": ["RS512"]}), Verdict)


@pytest.mark.parametrize(
    ("required", "claims", "expected"),
    [
        ({"claim": "scope"}, {}, Fault.CLAIM),
        ({"claim": "scope"}, {"scope": None}, Fault.CLAIM),
        ({"claim": "scope"}, {"scope": ""}, None),
        ({"claim": "scope", "values": ["read"]}, {"scope": "write read"}, None),
        ({"claim": "scope", "values": ["read"]}, {"scope": "readall"}, Fault.FORBIDDEN),
        ({"claim": "scp", "values": ["read"]}, {"scp": ["read"]}, None),
        ({"claim": "role", "values": ["admin"]}, {"role": "user admin"}, Fault.FORBIDDEN),
        ({"claim": "role", "values": ["admin"]}, {"role": {"admin": True}}, Fault.FORBIDDEN),
        ({"claim": "role", "values": ["admin"]}, {"role": [["admin"]]}, Fault.FORBIDDEN),
        ({"claim": "email_verified", "values": ["true"]}, {"email_verified": True}, None),
        ({"claim": "email_verified", "values": ["true"]}, {"email_verified": False}, Fault.FORBIDDEN),
        ({"claim": "level", "values": ["3"]}, {"level": 3}, None),
        ({"claim": "level", "values": ["1"]}, {"level": True}, Fault.FORBIDDEN),
    ],
)
def test_what_a_token_must_say(required: dict[str, Any], claims: dict[str, Any], expected: Fault | None) -> None:
    found = judged(CLAIMS | claims, requiredClaims=[required])
    assert isinstance(found, Verdict) if expected is None else found is expected


def test_revoked_by_id_and_by_subject() -> None:
    revoked = {"ids": ["t1"], "subjects": ["mallory"]}
    assert judged(CLAIMS | {"jti": "t1"}, revoked=revoked) is Fault.REVOKED
    assert judged(CLAIMS | {"sub": "mallory"}, revoked=revoked) is Fault.REVOKED
    assert isinstance(judged(CLAIMS | {"jti": "t2"}, revoked=revoked), Verdict)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("Jürgen", "Jürgen".encode()),
        (7, b"7"),
        (1.5, b"1.5"),
        (True, b"true"),
        (["a", "b c"], b"a,b c"),
        ("a, b", b"a, b"),
    ],
)
def test_a_claim_arrives_as_it_is(claim: object, value: bytes) -> None:
    mapping = [{"claim": "x", "header": "x-claim"}]
    assert verdict(CLAIMS | {"x": claim}, claimHeaders=mapping).lines == b"x-claim: " + value + b"\r\n"


@pytest.mark.parametrize("claim", [None, "", []])
def test_an_empty_claim_is_no_header(claim: object) -> None:
    assert verdict(CLAIMS | {"x": claim}, claimHeaders=[{"claim": "x", "header": "x-claim"}]).lines == b""


@pytest.mark.parametrize("claim", [{"a": 1}, ["a,b"], ["a", 1], ["a", ["b"]], ["\r\n"], inf, ["a" * 3000, "b" * 3000]])
def test_a_claim_that_would_arrive_as_another_is_refused(claim: object) -> None:
    assert judged(CLAIMS | {"x": claim}, claimHeaders=[{"claim": "x", "header": "x-claim"}]) is Fault.CLAIM


def test_of_several_issuers_each_has_its_own_anna() -> None:
    other = {"issuer": "https://other.example", "jwksUrl": "https://other.example/keys", "audiences": ["*"]}
    first = {"issuer": ISSUER, "jwksUrl": "https://auth.example/keys", "audiences": ["*"]}
    rules = TokenRules(convert({"issuers": [first, other]}, JwtPolicy))
    subjects = set()
    for issuer in (first, other):
        found = rules.judge(CLAIMS | {"iss": issuer["issuer"]}, "RS256", NOW)
        assert isinstance(found, Verdict)
        assert found.lines == b"x-nova-subject: anna\r\n"
        subjects.add(found.subject)
    assert subjects == {b"https://auth.example anna", b"https://other.example anna"}


@given(st.text(max_size=60))
def test_a_header_has_one_line_whatever_a_claim_says(text: str) -> None:
    found = judged(CLAIMS | {"sub": text})
    if isinstance(found, Verdict) and text:
        assert found.lines == b"x-nova-subject: " + text.encode() + b"\r\n"
        assert found.lines.count(b"\r") == found.lines.count(b"\n") == 1
    elif text:
        assert found is Fault.CLAIM


OPEN = OpenPaths(("/healthz", "/public/*", "/shop.v1.Catalog/List"))


@pytest.mark.parametrize("path", ["/healthz", "/public/", "/public/a/b.css", "/public/a..b", "/shop.v1.Catalog/List"])
def test_an_open_path(path: str) -> None:
    assert OPEN.has(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/healthz/", "/healthz/x", "/HEALTHZ", "/public", "/publicity", "/public/../admin", "/public/..",
        "/public/.", "/public/./a", "/public//admin", "//public/a", "/public/%2e%2e/admin", "/public/..%2fadmin",
        "/public/%2F..%2Fadmin", "/public/..\\admin", "/public/..;/admin", "/public/a;x=/../b", "/x/public/a",
        "/shop.v1.Catalog/ListAll", "/shop.v1.catalog/List",
    ],
)  # fmt: skip
def test_what_an_app_could_take_for_another_path_is_not_open(path: str) -> None:
    assert not OPEN.has(path)


def test_bearer() -> None:
    assert bearer(b"Bearer abc") == bearer(b"bearer  abc") == bearer(b"BEARER abc") == b"abc"
    assert bearer(b"Bearer") == b""
    assert bearer(b"Basic abc") is None
    assert bearer(b"Bearerabc") is None
    assert bearer(b"Basic abc, Bearer abc") is None


def test_a_cookie_is_found_and_two_of_a_name_are_none() -> None:
    assert cookie(b"a=1; token=abc; b=2", b"token") == b"abc"
    assert cookie(b'token="abc"', b"token") == b"abc"
    assert cookie(b"mytoken=abc; token2=x", b"token") is None
    assert cookie(b"token=abc; token=def", b"token") is Fault.MALFORMED
    assert cookie(b"token=abc, token=def", b"token") is Fault.MALFORMED


def test_the_challenge_says_what_is_wrong_and_nothing_of_the_token() -> None:
    assert challenge(Fault.MISSING, "shop") == b'www-authenticate: Bearer realm="shop"\r\n'
    assert b'error="invalid_token"' in challenge(Fault.EXPIRED, "shop")
    assert b'error="insufficient_scope"' in challenge(Fault.FORBIDDEN, "shop")
    for fault in Fault:
        line = challenge(fault, "shop")
        assert line.endswith(b"\r\n")
        assert line.count(b"\n") == 1


def test_all_spellings_of_a_header_are_one() -> None:
    names = (b"x-nova-subject", b"X-Nova-Subject", b"x_nova_subject", b"X_NOVA-subject")
    assert {spellings(name) for name in names} == {b"x-nova-subject"}
