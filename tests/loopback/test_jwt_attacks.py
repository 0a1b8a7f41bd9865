"""Tokens that must not come in, one by one, over real sockets.

The cases are those of the public lists: RFC 8725 (JSON Web Token best current practices), the OWASP cheat sheet on JWT,
PortSwigger's JWT labs, jwt_tool's playbook, and the advisories named at the cases.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .support.app import App
from .support.issuer import EDDSA, ES256, OTHER, RS256, Issuer, Key, claims, encoded, raw, token, with_secret
from .support.message import request
from .support.sidecar import Sidecar
from .support.tokens import ask, asking, bearer, policy

_SMALL = Key(rsa.generate_private_key(65537, 1024), "RS256", "small")
_PEM = RS256.private.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
_JWK = RS256.public()


class Place:
    """A sidecar that asks for tokens, and the app behind it."""

    def __init__(self, sidecar: Sidecar, app: App, issuer: Issuer) -> None:
        self.sidecar = sidecar
        self.app = app
        self.issuer = issuer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory: Path = tmp_path_factory.mktemp("jwt")
    app, issuer = App(), Issuer(RS256.public(), ES256.public(), EDDSA.public(), _SMALL.public())
    found = policy(
        issuer,
        openPaths=["/public/*", "/healthz"],
        source={"cookie": "token"},
        claimHeaders=[{"claim": "sub", "header": "x-nova-subject"}, {"claim": "roles", "header": "x-user-roles"}],
        revoked={"ids": ["stolen"], "subjects": ["mallory"]},
        requiredClaims=[{"claim": "sub"}],
    )
    sidecar = Sidecar.start(asking(app.address, found), directory)
    try:
        assert ask(sidecar, bearer(token())).status == 200
        yield Place(sidecar, app, issuer)
        assert sidecar.complaints() == []
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        app.stop()
        issuer.stop()


def signed(header: bytes, body: bytes | None = None) -> str:
    return raw(header, json.dumps(claims()).encode() if body is None else body, RS256.sign)


def spliced() -> str:
    """The claims of one token with the signature of another."""
    head, _, signature = token().split(".")
    return f"{head}.{token(sub='root').split('.')[1]}.{signature}"


def unsigned(algorithm: str) -> str:
    head = encoded(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    return (head + b"." + encoded(json.dumps(claims()).encode()) + b".").decode()


def stripped(text: str) -> str:
    return text.rpartition(".")[0] + "."


def evil_key() -> dict[str, Any]:
    return OTHER.public(kid=RS256.kid)


ATTACKS: dict[str, Callable[[], str]] = {
    # no signature at all
    "alg none": lambda: unsigned("none"),
    "alg None, as some comparisons let pass (CVE-2020-28042)": lambda: unsigned("None"),
    "alg NONE": lambda: unsigned("NONE"),
    "alg none with a signature": lambda: token(header={"alg": "none"}),
    "no alg": lambda: token(header={"alg": None}),
    "empty alg": lambda: token(header={"alg": ""}),
    "signature cut off": lambda: stripped(token()),
    "signature and its dot cut off": lambda: token().rpartition(".")[0],
    # the public key as a shared secret (CVE-2015-9235, CVE-2016-10555)
    "HS256 with the public key in PEM": lambda: with_secret(_PEM),
    "HS256 with the public key in PEM, without its last line feed": lambda: with_secret(_PEM.strip()),
    "HS256 with the public key as a JWK": lambda: with_secret(json.dumps(_JWK).encode()),
    "HS256 with the modulus": lambda: with_secret(_JWK["n"].encode()),
    "HS512": lambda: with_secret(_PEM, "HS512"),
    "HS256 with an empty secret": lambda: with_secret(b""),
    "HS256 with a guessed secret": lambda: with_secret(b"secret"),
    # another algorithm for a key
    "RS512 with a key for RS256": lambda: token(Key(RS256.private, "RS512", "k1")),
    "PS256 with a key for RS256": lambda: token(Key(RS256.private, "PS256", "k1")),
    "ES256 said, signed with RSA": lambda: token(header={"alg": "ES256"}),
    "RS256 said, signed with ES256": lambda: token(ES256, header={"alg": "RS256"}),
    "EdDSA said of an EC key": lambda: token(ES256, header={"alg": "EdDSA"}),
    "an algorithm nobody knows": lambda: token(header={"alg": "RS257"}),
    "an array of algorithms": lambda: token(header={"alg": ["RS256", "none"]}),
    # the token says which key it is to be judged by (CVE-2018-0114)
    "its own key in the header": lambda: token(OTHER, header={"jwk": OTHER.public(), "kid": None}),
    "its own key in the header under a known name": lambda: token(OTHER, header={"jwk": evil_key(), "kid": "k1"}),
    "jku to another server": lambda: token(OTHER, header={"jku": "https://evil.example/keys", "kid": "k1"}),
    "x5u to another server": lambda: token(OTHER, header={"x5u": "https://evil.example/cert", "kid": "k1"}),
    "its own certificate": lambda: token(OTHER, header={"x5c": ["MIIBszCCARwC"], "kid": "k1"}),
    "kid out of a folder": lambda: with_secret(b"", kid="../../../../../../dev/null"),
    "kid into a database": lambda: with_secret(b"key", kid="x' UNION SELECT 'key"),
    "kid into a shell": lambda: token(OTHER, header={"kid": "k1|whoami"}),
    "kid of another issuer's": lambda: token(OTHER),
    "kid in upper case": lambda: token(header={"kid": "K1"}),
    "kid that is a number": lambda: token(header={"kid": 1}),
    "a known kid, another key": lambda: token(Key(OTHER.private, "RS256", "k1")),
    "no kid, another key": lambda: token(OTHER, header={"kid": None}),
    "a key of 1024 bits that the issuer publishes": lambda: token(_SMALL),
    # what parsers forgive
    "crit": lambda: token(header={"crit": ["x"], "x": 1}),
    "b64 false": lambda: token(header={"crit": ["b64"], "b64": False}),
    "two alg": lambda: signed(b'{"alg":"RS256","kid":"k1","alg":"none"}'),
    "two kid": lambda: signed(b'{"alg":"RS256","kid":"k1","kid":"k1"}'),
    "two sub": lambda: signed(b'{"alg":"RS256","kid":"k1"}', json.dumps(claims()).encode()[:-1] + b', "sub": "root"}'),
    "two sub, one escaped": lambda: signed(
        b'{"alg":"RS256","kid":"k1"}', json.dumps(claims()).encode()[:-1] + b', "\\u0073ub": "root"}'
    ),
    "padding": lambda: token() + "==",
    "base64 instead of base64url": lambda: token().replace("-", "+").replace("_", "/") + "/",
    "a dot more": lambda: token() + ".",
    "four parts": lambda: token() + "." + token().split(".")[2],
    "five parts, as encrypted ones have": lambda: token() + ".a.b",
    "in JSON": lambda: json.dumps({"payload": token().split(".")[1]}).replace(" ", ""),
    "claims that are no object": lambda: signed(b'{"alg":"RS256","kid":"k1"}', b'["anna"]'),
    "claims that are no JSON": lambda: signed(b'{"alg":"RS256","kid":"k1"}', b"anna"),
    "claims in UTF-16": lambda: signed(b'{"alg":"RS256","kid":"k1"}', json.dumps(claims()).encode("utf-16")),
    "claims nested deeply": lambda: signed(b'{"alg":"RS256","kid":"k1"}', b'{"a":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    "another typ": lambda: token(header={"typ": "logout+jwt"}),
    # the signature
    "a changed claim": spliced,
    "a flipped bit": lambda: raw(
        b'{"alg":"RS256","kid":"k1"}',
        json.dumps(claims()).encode(),
        lambda s: bytes([RS256.sign(s)[0] ^ 1]) + RS256.sign(s)[1:],
    ),
    "zeros, the psychic signature (CVE-2022-21449)": lambda: raw(
        b'{"alg":"ES256","kid":"e1"}', json.dumps(claims()).encode(), lambda _: bytes(64)
    ),
    "a signature in DER": lambda: raw(
        b'{"alg":"ES256","kid":"e1"}', json.dumps(claims()).encode(), lambda _: bytes.fromhex("3006020101020101")
    ),
    "a signature of EdDSA by nobody": lambda: raw(
        b'{"alg":"EdDSA","kid":"d1"}', json.dumps(claims()).encode(), lambda _: bytes(64)
    ),
    # the claims
    "expired": lambda: token(exp=1_500_000_000),
    "expired just now": lambda: token(exp=claims()["iat"] - 31),
    "no end": lambda: token(exp=None),
    "an end that is text": lambda: token(exp="9999999999"),
    "an end in milliseconds": lambda: token(exp=claims()["exp"] * 1000),
    "an end at infinity": lambda: signed(
        b'{"alg":"RS256","kid":"k1"}', json.dumps(claims() | {"exp": 0}).encode().replace(b'"exp": 0', b'"exp": 1e999')
    ),
    "not valid yet": lambda: token(nbf=claims()["iat"] + 120),
    "nbf that is text": lambda: token(nbf="0"),
    "another issuer": lambda: token(iss="https://evil.example"),
    "an issuer that begins alike": lambda: token(iss="https://auth.example.evil.example"),
    "no issuer": lambda: token(iss=None),
    "several issuers": lambda: token(iss=["https://auth.example"]),
    "another audience": lambda: token(aud="billing"),
    "no audience": lambda: token(aud=None),
    "audiences of others": lambda: token(aud=["billing", "blog"]),
    "an audience that begins alike": lambda: token(aud="shopping"),
    "a required claim missing": lambda: token(sub=None),
    "a subject that is a number": lambda: token(sub=7),
    "a line break in the subject": lambda: token(sub="anna\r\nx-user-roles: admin"),
    "white space around the subject": lambda: token(sub=" anna"),
    "a comma in a role": lambda: token(roles=["user,admin"]),
    "revoked by its id": lambda: token(jti="stolen"),
    "revoked by its subject": lambda: token(sub="mallory"),
    # size
    "too long": lambda: token(padding="x" * 9000),
    "nothing": str,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_does_not_come_in(place: Place, attack: str) -> None:
    before = len(place.app.calls)
    for _ in range(2):  # the second time it is remembered
        refusal = ask(place.sidecar, bearer(ATTACKS[attack]()))
        assert refusal.status == 401, refusal
        assert refusal.get("x-nova-reject") == "unauthenticated"
        assert (refusal.get("www-authenticate") or "").startswith('Bearer realm="shop", error="invalid_token"')
        assert refusal.get("x-correlation-id")
    assert len(place.app.calls) == before


def test_there_are_as_many_as_there_should_be() -> None:
    assert len(ATTACKS) >= 25


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Authorization: Basic YW5uYTpzZWNyZXQ=",),
        ("Authorization: Bearer",),
        ("X-Authorization: Bearer {}",),
        ("Authorization: Basic YW5uYTpzZWNyZXQ=", "Authorization: Bearer {}"),
        ("Authorization: Bearer {}", "Authorization: Bearer {}"),
        ("Authorization: Bearer {}", "authorization: Bearer {}"),
        ("Authorization: Bearer {}, Bearer {}",),
        ("Authorization: Bearer{}",),
        ("Authorization: {}",),
        ("Proxy-Authorization: Bearer {}",),
        ("Cookie: token={}; token={}",),
        ("Cookie: Token={}",),
        ("Cookie: mytoken={}",),
        ("Cookie: x=token={}",),
    ],
)
def test_a_good_token_in_a_wrong_place_is_none(place: Place, lines: tuple[str, ...]) -> None:
    refusal = ask(place.sidecar, *(line.replace("{}", token()) for line in lines))
    assert refusal.status == 401
    assert (refusal.get("www-authenticate") or "").startswith('Bearer realm="shop"')


def test_a_token_in_the_query_is_none(place: Place) -> None:
    text = token()
    assert ask(place.sidecar, path=f"/?access_token={text}").status == 401
    assert text not in place.sidecar.text


@pytest.mark.parametrize("path", ["/public/a", "/public/", "/healthz", "/healthz?x=/admin"])
def test_open_paths_need_none(place: Place, path: str) -> None:
    assert ask(place.sidecar, path=path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin", "/public/..%2fadmin", "/public/%2e%2e/admin", "/public//../admin", "/public/..;/admin",
        "/public/..\\admin", "/PUBLIC/a", "/public", "//public/a", "/healthz/", "/healthz/../admin", "/healthz%2f",
        "http://public/admin", "/public/.", "/public/a/..",
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_needs_one(place: Place, path: str) -> None:
    assert ask(place.sidecar, path=path).status == 401


SPOOFED = (
    "x-nova-subject", "X-Nova-Subject", "X-NOVA-SUBJECT", "x_nova_subject", "X_Nova-Subject", "x-nova_subject",
    "x-user-roles", "x_user_roles", "X-USER_ROLES",
)  # fmt: skip


@pytest.mark.parametrize("name", SPOOFED)
@pytest.mark.parametrize("path", ["/", "/public/a"])
def test_what_somebody_else_says_in_its_name_never_arrives(place: Place, name: str, path: str) -> None:
    assert ask(place.sidecar, bearer(token()), f"{name}: root", f"{name}:root2", path=path).status == 200
    arrived = place.app.calls[-1].request
    assert "root" not in str(arrived.lines)
    named = [(key, value) for key, value in arrived.lines if key.lower().replace("_", "-") == "x-nova-subject"]
    assert named == ([("x-nova-subject", "anna")] if path == "/" else [])


def test_nor_as_a_hop_by_hop_field(place: Place) -> None:
    ask(place.sidecar, bearer(token()), "Connection: x-nova-subject, x-user-roles", "x-nova-subject: root")
    assert place.app.calls[-1].request.all("x-nova-subject") == ["anna"]


def test_nor_as_a_trailer(place: Place) -> None:
    head = request("POST", "/", bearer(token()), "Transfer-Encoding: chunked", "TE: trailers")
    client = place.sidecar.connect()
    client.send(head + b"1\r\na\r\n0\r\nx-nova-subject: root\r\nX_User_Roles: admin\r\nx-sum: 1\r\n\r\n")
    assert client.response().status == 200
    client.close()
    arrived = place.app.calls[-1].request
    assert arrived.trailers == [("x-sum", "1")]
    assert arrived.all("x-nova-subject") == ["anna"]


def test_nothing_of_a_token_is_in_log_metrics_or_state(place: Place) -> None:
    text = token(sub="b.bunny@example.org", roles=["secret-role"], jti="id-0815")
    assert ask(place.sidecar, bearer(text)).status == 200
    assert ask(place.sidecar, bearer(text + "x")).status == 401
    shown = place.sidecar.text + place.sidecar.status("/metrics")[1].decode() + json.dumps(place.sidecar.stats())
    for secret in (*text.split("."), "b.bunny", "secret-role", "id-0815"):
        assert secret not in shown
