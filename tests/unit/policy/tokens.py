"""Tokens as text, whole ones and broken ones, without a library that would refuse to make them."""

import json
from base64 import urlsafe_b64encode
from typing import Any

NOW = 1_900_000_000.0
ISSUER = "https://auth.example"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "anna", "aud": "shop", "exp": NOW + 600}


def encoded(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")


def token(
    claims: dict[str, Any] | bytes = CLAIMS,
    header: dict[str, Any] | bytes | None = None,
    signature: bytes = b"signature",
) -> bytes:
    """A token with these parts; its signature is whatever is given."""
    head = header if isinstance(header, bytes) else json.dumps({"alg": "RS256", "kid": "k1"} | (header or {})).encode()
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return b".".join(map(encoded, (head, body, signature)))
