"""Sets of public keys: what may verify, and what is left out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.jwk import MOST_KEYS, UnusableKeyError, read_key, read_set
from tests.unit.policy.tokens import encoded


def number(value: int, size: int) -> str:
    return encoded(value.to_bytes(size, "big")).decode()


def rsa(bits: int = 2048, e: str = "AQAB", **members: Any) -> dict[str, Any]:
    return {"kty": "RSA", "kid": "k1", "n": number((1 << bits) - 1, (bits + 7) // 8), "e": e} | members


EC = {"kty": "EC", "crv": "P-256", "x": number(5, 32), "y": number(7, 32)}
OKP = {"kty": "OKP", "crv": "Ed25519", "x": number(9, 32)}


def test_the_kinds_there_are() -> None:
    assert read_key(rsa()).algorithms == ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    assert read_key(rsa()).bits == 2048
    assert read_key(rsa(alg="PS256")).algorithms == ("PS256",)
    assert read_key(EC).algorithms == ("ES256",)
    assert read_key(OKP).algorithms == ("EdDSA", "Ed25519")
    assert read_key(OKP).numbers == (9,)


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 7638 section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
        "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8aw"
        "apJzKnqDKgw"
    )
    key = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert read_key(key).thumbprint == b"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_key_is_the_same_under_another_name() -> None:
    assert read_key(rsa(kid="a")).thumbprint == read_key(rsa(kid="b", use="sig")).thumbprint


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"},
        rsa(k="c2VjcmV0"),
        rsa(d="AQAB"),
        rsa(use="enc"),
        rsa(key_ops=["encrypt"]),
        rsa(key_ops="verify"),
        rsa(kid=7),
        rsa(1024),
        rsa(2047),
        rsa(8193),
        rsa(65536),
        rsa(e="AA"),
        rsa(e="AQ"),
        rsa(e="AAAAAAAAAAAB"),
        rsa(e=number(2**32 + 1, 5)),
        rsa(e="AQAA"),
        rsa(alg="HS256"),
        rsa(alg="ES256"),
        rsa(alg="none"),
        rsa(alg=["RS256"]),
        rsa(n="not base64"),
        rsa(n=""),
        rsa(n=None),
        {"kty": "RSA"},
        {"kty": "EC"},
        EC | {"crv": "secp256k1"},
        EC | {"crv": "P-384"},
        EC | {"x": number(5, 33)},
        EC | {"x": number(5, 31)},
        EC | {"alg": "EdDSA"},
        OKP | {"crv": "X25519"},
        OKP | {"crv": "Ed448"},
        OKP | {"x": "AQ"},
        {"kty": ["RSA"]},
        {},
    ],
)
def test_what_may_not_verify(member: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|padding|characters"):
        read_key(member)
    keys, left_out = read_set(json.dumps({"keys": [member, EC]}).encode())
    assert ([key.kind for key in keys], left_out) == (["EC"], 1)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}', b"<html>", b"\xff", b"[" * 100_000]
)
def test_what_is_no_set(text: bytes) -> None:
    with pytest.raises(UnusableKeyError, match="expected a JWK set"):
        read_set(text)


def test_a_set_that_is_too_long_is_cut() -> None:
    keys, left_out = read_set(json.dumps({"keys": [EC] * (MOST_KEYS + 3)}).encode())
    assert (len(keys), left_out) == (MOST_KEYS, 3)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_an_issuer_publishes_is_sorted(member: object) -> None:
    keys, left_out = read_set(json.dumps({"keys": [member]}).encode())
    assert len(keys) + left_out == 1
