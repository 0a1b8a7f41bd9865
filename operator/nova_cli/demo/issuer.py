"""Issues tokens: the demo's stand-in for whoever a backend has its users log in with."""

import base64
import json
import time
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_NAME: Final = "https://issuer.example"
_KEY_NAME: Final = "demo"
_LIFETIME: Final = 600
"""Seconds; longer than any claim takes."""


class Issuer:
    """Signs with a key of its own (Ed25519, RFC 8037) that is made here and kept nowhere."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    def policy(self, audience: str) -> dict[str, Any]:
        """A NovaService's `jwt` that accepts this issuer's tokens for `audience`, with the key in it."""
        public = _base64(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        key = {"kty": "OKP", "crv": "Ed25519", "kid": _KEY_NAME, "x": public}
        return {"mode": "Enforce", "issuers": [{"issuer": _NAME, "audiences": [audience], "keys": [key]}]}

    def token(self, subject: str, audience: str, **claims: str) -> str:
        """A token for `subject` that is good for ten minutes (RFC 7519)."""
        said = {"iss": _NAME, "aud": audience, "sub": subject, "exp": int(time.time()) + _LIFETIME, **claims}
        header = {"alg": "EdDSA", "typ": "JWT", "kid": _KEY_NAME}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, said))
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


def bearer(token: str) -> dict[str, str]:
    """The header that a token comes in (RFC 6750 section 2.1)."""
    return {"authorization": f"Bearer {token}"}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
