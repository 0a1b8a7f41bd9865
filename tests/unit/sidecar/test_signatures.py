"""Signatures, beside the two libraries that others use: what they sign is verified here, and nothing else is."""

import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws
from jwt.algorithms import get_default_algorithms

from nova_sidecar.pipeline.signatures import Verifier
from nova_sidecar.policy.jwk import UnusableKeyError, read_key
from nova_sidecar.policy.jws import Token, read
from tests.unit.policy.tokens import CLAIMS, encoded

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def public(algorithm: str) -> dict[str, Any]:
    found = get_default_algorithms()[algorithm].to_jwk(KEYS[algorithm].public_key())
    return json.loads(found) if isinstance(found, str) else dict(found)


def verifier(algorithm: str) -> Verifier:
    return Verifier(read_key({name: value for name, value in public(algorithm).items() if name != "key_ops"}))


def taken_apart(text: str) -> Token:
    found = read(text.encode())
    assert isinstance(found, Token)
    return found


def by_pyjwt(algorithm: str) -> str:
    return pyjwt.encode(CLAIMS, KEYS[algorithm], algorithm)


def by_joserfc(algorithm: str) -> str:
    kind: Any = {"R": joserfc_jwk.RSAKey, "P": joserfc_jwk.RSAKey, "E": joserfc_jwk.ECKey}[algorithm[0]]
    key = (joserfc_jwk.OKPKey if algorithm == "EdDSA" else kind).import_key(KEYS[algorithm].private_bytes(*_PEM))
    name = algorithm if algorithm != "EdDSA" else "Ed25519"  # what RFC 9864 calls it, as joserfc has it
    return joserfc_jws.serialize_compact({"alg": name}, json.dumps(CLAIMS), key, algorithms=[name])


def _pem() -> tuple[Any, ...]:
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415 - three names for one use

    return s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()


_PEM = _pem()


@pytest.mark.parametrize("sign", [by_pyjwt, by_joserfc])
@pytest.mark.parametrize("algorithm", KEYS)
def test_what_others_sign_holds(algorithm: str, sign: Any) -> None:
    key, token = verifier(algorithm), taken_apart(sign(algorithm))
    assert key.fits(token.algorithm, None)
    assert key.holds(token.algorithm, token.signature, token.signed)


@pytest.mark.parametrize("algorithm", KEYS)
def test_nothing_else_does(algorithm: str) -> None:
    key, token = verifier(algorithm), taken_apart(by_pyjwt(algorithm))
    signature, signed = token.signature, token.signed
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for other in (flipped, signature[:-1], signature + b"\x00", b"", bytes(len(signature)), b"\xff" * len(signature)):
        assert not key.holds(algorithm, other, signed)
    assert not key.holds(algorithm, signature, signed + b"x")


def test_a_signature_of_the_psychic_kind() -> None:
    """CVE-2022-21449: two zeros are no signature, nor are numbers as large as the order of the curve."""
    key, token = verifier("ES256"), taken_apart(by_pyjwt("ES256"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for number in (0, 1, order, order + 1):
        assert not key.holds("ES256", number.to_bytes(32, "big") * 2, token.signed)


def test_a_signature_in_der_is_none() -> None:
    """What OpenSSL makes is not what a token has (RFC 7518 section 3.4): one token, one spelling."""
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - for one use

    token = taken_apart(by_pyjwt("ES256"))
    der = KEYS["ES256"].sign(token.signed, ec.ECDSA(SHA256()))
    assert not verifier("ES256").holds("ES256", der, token.signed)


def test_a_key_is_for_algorithms_of_its_kind() -> None:
    key = verifier("RS256")
    assert [name for name in KEYS if key.fits(name, None)] == [name for name in KEYS if name[0] in "RP"]
    assert not key.fits("HS256", None)
    assert not key.fits("none", None)


def test_a_key_is_found_by_its_name_alone() -> None:
    key = Verifier(read_key(public("ES256") | {"kid": "k1", "key_ops": ["verify"]}))
    assert key.fits("ES256", "k1")
    assert key.fits("ES256", None)
    assert not key.fits("ES256", "K1")
    assert not key.fits("ES256", "")


def test_numbers_that_are_no_key() -> None:
    x = encoded(b"\x01" * 32).decode()
    with pytest.raises(UnusableKeyError, match="expected numbers that make a key"):
        Verifier(read_key({"kty": "EC", "crv": "P-256", "x": x, "y": x}))


def test_which_are_slow() -> None:
    assert [name for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA") if verifier(name).slow] == ["ES384", "ES512"]
