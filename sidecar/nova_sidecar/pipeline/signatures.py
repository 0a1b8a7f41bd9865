"""The signatures of tokens, by the library `cryptography`: OpenSSL behind it, and nothing of JOSE in it.

It is imported where `jwt` is on, and costs 8 MB there. A library for JWT would cost 5 MB more, to read tokens more
leniently than `policy.jws` does and to import keys that `policy.jwk` has read already; PyJWT and joserfc are what the
tests make tokens with.

What a verification takes, on one core, for a token of 700 bytes (µs):

    RSA 2048    41 (PSS 51)     P-256    120        Ed25519  120 to 190
    RSA 3072    68 (82)         P-384    940
    RSA 4096   107 (122)        P-521    920
    RSA 8192   340 (400)

A thread takes the slow ones (`slow`), since OpenSSL works without the interpreter's lock; handing work over costs 60 to
80 µs of CPU, so the quick ones are done where they stand.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from nova_sidecar.policy.jwk import PublicKey, UnusableKeyError

_HASHES: Final[dict[str, Any]] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Final[dict[str, Any]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_SIZES: Final = {"P-256": 32, "P-384": 48, "P-521": 66}
"""Bytes of one of the two numbers of a signature (RFC 7518 section 3.4)."""
_SLOW_BITS: Final = 4096

Check = Callable[[bytes, bytes], None]
"""Takes the signature and what it is over. Raises InvalidSignature, or ValueError for what is no signature."""


class Verifier:
    """One public key, ready to verify."""

    __slots__ = ("_checks", "key", "slow")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.slow = key.curve in ("P-384", "P-521") or key.bits > _SLOW_BITS
        """Whether it takes so long that the event loop had better do something else meanwhile."""
        try:
            self._checks: dict[str, Check] = {name: _check(key, name) for name in key.algorithms}
        except ValueError as error:  # no point of the curve, and the like
            raise UnusableKeyError("expected numbers that make a key") from error

    def fits(self, algorithm: str, kid: str | None) -> bool:
        """Whether a token with this header may be signed with it."""
        return algorithm in self._checks and (kid is None or kid == self.key.kid)

    def holds(self, algorithm: str, signature: bytes, signed: bytes) -> bool:
        """Whether the signature is this key's."""
        try:
            self._checks[algorithm](signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __repr__(self) -> str:
        return f"<Verifier {self.key!r}>"


def _check(key: PublicKey, algorithm: str) -> Check:
    """What verifies one algorithm with a key."""
    if key.kind == "RSA":
        return _rsa(key, algorithm)
    if key.kind == "EC":
        return _ec(key, algorithm)
    return ed25519.Ed25519PublicKey.from_public_bytes(key.numbers[0].to_bytes(32, "big")).verify


def _rsa(key: PublicKey, algorithm: str) -> Check:
    exponent, modulus = key.numbers
    public, digest = rsa.RSAPublicNumbers(exponent, modulus).public_key(), _HASHES[algorithm[2:]]
    scheme: Any = padding.PKCS1v15()
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return lambda signature, signed: public.verify(signature, signed, scheme, digest)


def _ec(key: PublicKey, algorithm: str) -> Check:
    x, y = key.numbers
    public = ec.EllipticCurvePublicNumbers(x, y, _CURVES[key.curve]).public_key()
    size, digest = _SIZES[key.curve], ec.ECDSA(_HASHES[algorithm[2:]])

    def check(signature: bytes, signed: bytes) -> None:
        if len(signature) != 2 * size:
            raise ValueError("expected the two numbers of the signature")
        first, second = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        public.verify(encode_dss_signature(first, second), signed, digest)

    return check
