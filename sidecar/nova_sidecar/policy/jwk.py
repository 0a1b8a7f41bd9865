"""A set of public keys (RFC 7517 section 5), sorted into what may verify a token and what may not.

What an issuer publishes is data from elsewhere. A key is left out, and the others go on, where it

* is no public key that verifies: a shared secret (`oct`), a private key, one for encryption;
* is of a kind or a size that nobody should trust (RSA below 2048 bits), or that makes a signature dear to check: RSA
  above 8192 bits, or with an exponent of more than 32 bits;
* says an algorithm that is none of its kind.

A key verifies algorithms of its own kind alone (RFC 8725 section 3.1): that a token says HS256 or ES256 makes no RSA
key something else.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

MOST_KEYS: Final = 64
"""Keys of a set that are looked at; issuers have two or three."""
LEAST_BITS: Final = 2048
MOST_BITS: Final = 8192
"""Of an RSA modulus (RFC 7518 section 3.3 asks for the least)."""
_MOST_EXPONENT: Final = 2**32

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {
    ("EC", "P-256"): (("ES256",), 32),
    ("EC", "P-384"): (("ES384",), 48),
    ("EC", "P-521"): (("ES512",), 66),
    ("OKP", "Ed25519"): (("EdDSA", "Ed25519"), 32),
}
"""Algorithms and bytes of a coordinate, by kind and curve (RFC 7518 sections 3.4 and 6.2.1, RFC 8037, and RFC 9864
for the newer name of the last)."""
_NUMBER: Final = re.compile(r"[A-Za-z0-9_-]++={0,2}")
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "k")


class UnusableKeyError(ValueError):
    """A key or a set that cannot be used; the message says why and has nothing of it."""


class PublicKey:
    """One key that may verify: its kind, its numbers, and what it may be used with."""

    __slots__ = ("algorithms", "bits", "curve", "kid", "kind", "numbers", "thumbprint")

    def __init__(
        self, kind: str, curve: str, numbers: tuple[int, ...], *, kid: str | None, algorithms: tuple[str, ...],
        thumbprint: bytes,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.curve = curve
        self.numbers = numbers
        """RSA: exponent and modulus. EC: x and y. OKP: the key as a big-endian number."""
        self.bits = numbers[1].bit_length() if kind == "RSA" else 0
        self.kid = kid
        self.algorithms = algorithms
        self.thumbprint = thumbprint
        """Of RFC 7638: the same key is the same whatever it is called."""

    def __repr__(self) -> str:
        return f"<PublicKey {self.kind} {self.curve or self.bits}>"


def read_set(text: bytes) -> tuple[list[PublicKey], int]:
    """The usable keys of a published set, and how many were left out. Raises ValueError where it is no set."""
    try:
        document = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnusableKeyError("expected a JWK set, got something else than JSON") from error
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise UnusableKeyError("expected a JWK set: an object with a list of keys")
    return read_keys(members)


def read_keys(members: Iterable[Any]) -> tuple[list[PublicKey], int]:
    """The usable ones among these, and how many were left out."""
    keys: list[PublicKey] = []
    left_out = 0
    for number, member in enumerate(members):
        try:
            if number >= MOST_KEYS or not isinstance(member, dict):
                raise UnusableKeyError("expected an object, and not so many")
            keys.append(read_key(member))
        except ValueError:
            left_out += 1
    return keys, left_out


def read_key(member: Mapping[str, Any]) -> PublicKey:
    """One key. Raises ValueError, saying why it cannot be used."""
    kind, kid, use, operations = (member.get(name) for name in ("kty", "kid", "use", "key_ops"))
    if any(name in member for name in _PRIVATE):
        raise UnusableKeyError("expected a public key")
    if use not in (None, "sig") or (operations is not None and "verify" not in _texts(operations)):
        raise UnusableKeyError("expected a key that verifies signatures (use, key_ops)")
    if kid is not None and not isinstance(kid, str):
        raise UnusableKeyError("expected kid to be a text")
    if kind == "RSA":
        return _rsa(member, kid)
    return _on_a_curve(member, kind, kid)


def _rsa(member: Mapping[str, Any], kid: str | None) -> PublicKey:
    n, e = _number(member, "n", MOST_BITS // 8), _number(member, "e", 8)
    if not LEAST_BITS <= n.bit_length() <= MOST_BITS:
        raise UnusableKeyError(f"expected an RSA key of {LEAST_BITS} to {MOST_BITS} bits")
    if not (3 <= e < _MOST_EXPONENT and e & 1 and n & 1):
        raise UnusableKeyError("expected an odd modulus and an odd exponent of at most 32 bits")
    parts = {"e": _text(e, (e.bit_length() + 7) // 8), "kty": "RSA", "n": _text(n, (n.bit_length() + 7) // 8)}
    return PublicKey("RSA", "", (e, n), kid=kid, algorithms=_used_with(member, _RSA), thumbprint=_thumbprint(parts))


def _on_a_curve(member: Mapping[str, Any], kind: object, kid: str | None) -> PublicKey:
    curve = member.get("crv")
    found = _CURVES.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    if found is None or not isinstance(kind, str) or not isinstance(curve, str):
        raise UnusableKeyError("expected an RSA key, or one on P-256, P-384, P-521 or Ed25519")
    algorithms, size = found
    names = ("x",) if kind == "OKP" else ("x", "y")
    numbers = tuple(_number(member, name, size, exactly=True) for name in names)
    parts = {name: _text(number, size) for name, number in zip(names, numbers, strict=True)}
    return PublicKey(
        kind,
        curve,
        numbers,
        kid=kid,
        algorithms=_used_with(member, algorithms),
        thumbprint=_thumbprint({"crv": curve, "kty": kind, **parts}),
    )


def _used_with(member: Mapping[str, Any], possible: tuple[str, ...]) -> tuple[str, ...]:
    said = member.get("alg")
    if said is None:
        return possible
    if said not in possible:
        raise UnusableKeyError("expected an algorithm (alg) of the key's kind")
    return (said,)


def _number(member: Mapping[str, Any], name: str, most: int, *, exactly: bool = False) -> int:
    """A big-endian number of at most so many bytes. What follows a leading zero is the same key, so it is taken."""
    text = member.get(name)
    if not isinstance(text, str) or not _NUMBER.fullmatch(text) or len(text) > most * 2:
        raise UnusableKeyError(f"expected {name} in base64url")
    found = urlsafe_b64decode(text.rstrip("=") + "==")
    if len(found) > most + 1 or (exactly and len(found) != most):
        raise UnusableKeyError(f"expected {name} of at most {most} bytes")
    return int.from_bytes(found, "big")


def _texts(said: object) -> list[str]:
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _text(number: int, size: int) -> str:
    return urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode("ascii")


def _thumbprint(parts: dict[str, str]) -> bytes:
    """RFC 7638 section 3: the members that make the key, by name, without space."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return urlsafe_b64encode(sha256(text).digest()).rstrip(b"=")
