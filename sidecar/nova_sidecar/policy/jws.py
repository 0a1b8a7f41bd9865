"""A signed token in its compact form (RFC 7515 section 3.1), read as strictly as the RFCs let a recipient be.

    base64url(header) "." base64url(claims) "." base64url(signature)

Attacks on tokens live off parsers that forgive. So what two parsers could read differently is refused before anybody
looks at the signature:

* base64url without padding and without spare bits, so that one token has one spelling;
* JSON in UTF-8, objects, no name twice (RFC 7519 section 4), no NaN or Infinity;
* `crit` (no extension is understood here, RFC 7515 section 4.1.11) and `b64`;
* a `typ` that says it is something else than an access token (RFC 8725 section 3.11).

`jku`, `jwk`, `x5u` and `x5c` are what a token says about the key it wants to be judged by. They are not read at all:
keys come from the configuration alone. `kid` only chooses among those, by equality.
"""

import json
import re
from base64 import urlsafe_b64decode
from enum import StrEnum
from typing import Any, Final, NoReturn

ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
)
"""Asymmetric ones: who can verify cannot sign, and no public key passes for a shared secret."""
LONGEST_KID: Final = 256

_PART: Final = re.compile(rb"[A-Za-z0-9_-]*+")
_LAST_OF_TWO: Final = b"AQgw"
_LAST_OF_THREE: Final = b"AEIMQUYcgkosw048"
"""Last characters whose spare bits are zero, by how many characters stand behind the last four."""
_TYPES: Final = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))


class Fault(StrEnum):
    """What is wrong with a token; the value is what people see in metrics and log."""

    MISSING = "missing"  # no token at all
    OVERSIZED = "oversized"
    MALFORMED = "malformed"  # no signed token, or one that could be read in two ways
    ALGORITHM = "algorithm"  # none, HS*, or one the issuer is not configured with
    ISSUER = "issuer"  # nobody whose tokens are accepted
    KEY = "key"  # the issuer has no such key
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUDIENCE = "audience"
    CLAIM = "claim"  # a claim that must be there is not, or cannot be passed on
    FORBIDDEN = "forbidden"  # a claim is there, but has none of the values it must have
    REVOKED = "revoked"
    KEYS_UNAVAILABLE = "keys_unavailable"  # the issuer's keys could not be fetched
    BUSY = "busy"  # as many tokens are being verified as may be


class Token:
    """A token that has been taken apart; nothing of it is verified."""

    __slots__ = ("algorithm", "claims", "kid", "signature", "signed")

    def __init__(
        self, algorithm: str, kid: str | None, claims: dict[str, Any], signed: bytes, signature: bytes
    ) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.claims = claims
        self.signed = signed
        """What the signature is over (RFC 7515 section 5.2)."""
        self.signature = signature

    def __repr__(self) -> str:
        return f"<Token {self.algorithm}>"


class _Refused(Exception):  # noqa: N818 - it names what the token is
    """JSON that is valid and yet not taken."""


def read(text: bytes) -> Token | Fault:
    """Take a token apart. What was sent is in no error: a token belongs nowhere but in its request."""
    parts = text.split(b".")
    if len(parts) != 3:
        return Fault.MALFORMED
    header, body, signature = (_decode(part) for part in parts)
    said = _object(header) if header is not None else None
    claims = _object(body) if body is not None else None
    if said is None or claims is None or not signature:
        return Fault.MALFORMED
    fault = _fault_of(said)
    if fault is not None:
        return fault
    return Token(said["alg"], said.get("kid"), claims, text[: text.rindex(b".")], signature)


def _fault_of(header: dict[str, Any]) -> Fault | None:
    """What is wrong with a header."""
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
        return Fault.MALFORMED
    if algorithm not in ALGORITHMS:
        return Fault.ALGORITHM
    named = kid is None or (isinstance(kid, str) and len(kid) <= LONGEST_KID)
    return None if named and _is_type(header.get("typ", "JWT")) else Fault.MALFORMED


def _is_type(said: object) -> bool:
    return isinstance(said, str) and said.lower() in _TYPES


def _decode(part: bytes) -> bytes | None:
    """The bytes that a part stands for; None where another spelling would stand for them too."""
    spare = len(part) % 4
    if spare == 1 or not _PART.fullmatch(part):
        return None
    if (spare == 2 and part[-1] not in _LAST_OF_TWO) or (spare == 3 and part[-1] not in _LAST_OF_THREE):
        return None
    return urlsafe_b64decode(part + b"==")


def _object(text: bytes) -> dict[str, Any] | None:
    """A JSON object in which every name stands once, at any depth."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError, _Refused):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused
    return found


def _no_constant(_name: str) -> NoReturn:
    raise _Refused
