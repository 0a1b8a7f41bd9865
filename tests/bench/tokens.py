"""The tokens of the bench: signed with one key (RS256, 2048 bits), and what each proxy has to know to accept them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_ISSUER = "https://auth.example"
_AUDIENCE = "shop"
_LIFETIME = 4 * 3600


class Tokens:
    """One issuer. Making its key takes a tenth of a second, each token about a millisecond."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        public: dict[str, Any] = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._jwk = {"kid": "k1", **{name: public[name] for name in ("kty", "n", "e")}}

    def header(self, number: int = 0) -> str:
        """A header with a token; another one for each number."""
        said = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": f"user-{number}", "exp": int(time.time()) + _LIFETIME}
        token = pyjwt.encode({**said, "roles": ["reader"] * 8}, self._key, "RS256", {"kid": "k1"})
        return f"Authorization: Bearer {token}"

    def write(self, path: Path, count: int) -> Path:
        """So many headers, all different, one on each line."""
        path.write_text("".join(f"{self.header(number)}\n" for number in range(1, count + 1)))
        return path

    def nova(self, entries: int) -> Mapping[str, Any]:
        """Of a NovaService, with a memory for so many tokens."""
        issuer = {"issuer": _ISSUER, "audiences": [_AUDIENCE], "keys": [self._jwk]}
        return {"jwt": {"mode": "Enforce", "issuers": [issuer], "cache": {"entries": entries}}}

    def envoy(self, entries: int) -> dict[str, Any]:
        """Envoy's filter, which gives the app the same claim."""
        memory = {"jwt_cache_config": {"jwt_cache_size": entries}} if entries else {}
        provider = {
            "issuer": _ISSUER,
            "audiences": [_AUDIENCE],
            "local_jwks": {"inline_string": json.dumps({"keys": [self._jwk]})},
            "forward": True,
            "claim_to_headers": [{"header_name": "x-nova-subject", "claim_name": "sub"}],
            **memory,
        }
        return {
            "name": "jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"auth": provider},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "auth"}}],
            },
        }
