"""Tokens taken apart: what is one, and everything that only looks like one."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.jws import ALGORITHMS, Fault, Token, read
from tests.unit.policy.tokens import CLAIMS, encoded, token


def test_a_token_is_taken_apart() -> None:
    text = token()
    found = read(text)
    assert isinstance(found, Token)
    assert (found.algorithm, found.kid, found.claims, found.signature) == ("RS256", "k1", CLAIMS, b"signature")
    assert found.signed == text.rpartition(b".")[0]
    assert "anna" not in repr(found)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_asymmetric_algorithm_is_read(algorithm: str) -> None:
    found = read(token(header={"alg": algorithm}))
    assert isinstance(found, Token)
    assert found.algorithm == algorithm


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "hs256",
        "rs256",
        "RS256 ",
        "RS1",
        "ES256K",
        "Ed448",
        "ESP256",
    ],
)
def test_no_other_algorithm_is(algorithm: str) -> None:
    assert read(token(header={"alg": algorithm})) is Fault.ALGORITHM


WHOLE = token()
HEAD, BODY, SIGNATURE = WHOLE.split(b".")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"..",
        b"...",
        b"Bearer",
        HEAD + b"." + BODY,
        HEAD + b"." + BODY + b".",
        WHOLE + b".",
        b"." + BODY + b"." + SIGNATURE,
        WHOLE + b"=",
        WHOLE + b"\n",
        b" " + WHOLE,
        HEAD + b"." + BODY + b"." + SIGNATURE + b"." + SIGNATURE + b"." + SIGNATURE,  # JWE has five parts
        HEAD.replace(b"e", b"+", 1) + b"." + BODY + b"." + SIGNATURE,
        HEAD + b"." + BODY + b"." + b"A",
        WHOLE + b", Bearer " + WHOLE,
        HEAD + b".%." + SIGNATURE,
    ],
)
def test_what_has_not_three_parts_in_base64url_is_none(text: bytes) -> None:
    assert read(text) is Fault.MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"[]",
        b'"RS256"',
        b"{",
        b'{"alg":"RS256"} {}',
        b'{"alg":"RS256","alg":"HS256"}',
        b'{"alg":"RS256","a":{"b":1,"b":2}}',
        b'{"kid":"k1"}',
        b'{"alg":["RS256"]}',
        b'{"alg":null}',
        b'{"alg":"RS256","kid":7}',
        b'{"alg":"RS256","kid":["k1"]}',
        b'{"alg":"RS256","kid":"' + b"k" * 257 + b'"}',
        b'{"alg":"RS256","crit":[]}',
        b'{"alg":"RS256","crit":["exp"],"exp":1}',
        b'{"alg":"RS256","crit":["b64"],"b64":false}',
        b'{"alg":"RS256","b64":false}',
        b'{"alg":"RS256","typ":"dpop+jwt"}',
        b'{"alg":"RS256","typ":"logout+jwt"}',
        b'{"alg":"RS256","typ":7}',
        b'\xef\xbb\xbf{"alg":"RS256"}',
        '{"alg":"RS256"}'.encode("utf-16"),
        b'{"alg":"RS256","x":"\xff"}',
        b'{"alg":"RS256","x":NaN}',
        b'{"alg":"RS256","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)
def test_a_header_that_could_be_read_in_two_ways_is_refused(header: bytes) -> None:
    assert read(token(header=header)) is Fault.MALFORMED


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"[]",
        b"null",
        b'{"sub":"anna","sub":"root"}',
        b'{"sub":"anna","\\u0073ub":"root"}',
        b'{"exp":Infinity}',
        b'{"exp":' + b"9" * 5000 + b"}",
        b"{'sub':'anna'}",
    ],
)
def test_claims_that_could_be_read_in_two_ways_are_refused(claims: bytes) -> None:
    assert read(token(claims)) is Fault.MALFORMED


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_what_says_to_be_an_access_token_is_one(typ: str) -> None:
    assert isinstance(read(token(header={"typ": typ})), Token)


@pytest.mark.parametrize(
    "said",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
        {"x5c": ["MIIB"]},
        {"kid": "../../../../dev/null"},
        {"kid": "k1' UNION SELECT 'key"},
        {"kid": "k1\u0000"},
    ],
)
def test_what_it_says_about_its_key_goes_nowhere(said: dict[str, Any]) -> None:
    found = read(token(header=said))
    assert isinstance(found, Token)
    assert found.kid == said.get("kid", "k1")
    assert set(Token.__slots__) == {"algorithm", "claims", "kid", "signature", "signed"}


@given(st.binary(max_size=200))
def test_one_token_has_one_spelling(signature: bytes) -> None:
    text = token(signature=signature or b"s")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = {text[:-1] + bytes([last]) for last in alphabet} - {text}
    assert isinstance(read(text), Token)
    for other in others:
        found = read(other)
        assert found is Fault.MALFORMED or (isinstance(found, Token) and found.signature != (signature or b"s"))


@given(st.binary(max_size=400))
def test_anything_is_a_token_or_a_fault(text: bytes) -> None:
    assert isinstance(read(text), Token | Fault)


PLAIN = st.none() | st.booleans() | st.text(max_size=20)


@given(st.dictionaries(st.text(max_size=10), st.recursive(PLAIN, st.lists, max_leaves=10)))
def test_what_json_says_arrives(claims: dict[str, Any]) -> None:
    body = json.dumps(claims).encode()
    found = read(token(body))
    assert isinstance(found, Token)
    assert found.claims == claims
    assert base64.urlsafe_b64decode(encoded(body) + b"==") == body
