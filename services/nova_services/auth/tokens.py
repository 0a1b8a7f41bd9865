"""Two kinds of tokens.

An access token is a JWT (RFC 7519) that everybody checks by the published keys, and nobody asks auth about; what cannot
be asked about cannot be taken back, so it holds for minutes. A refresh token is 256 random bits that say nothing; auth
keeps their SHA-256 alone, so who reads the database cannot use them.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from nova_services.auth.keys import ALGORITHM, SigningKey, signer

ACCESS_SECONDS: Final = 300
"""How long an access token holds, and so for how long one goes on that was stolen or belongs to an ended session."""
SESSION_SECONDS: Final = 30 * 86400
"""How long a login can be refreshed."""


class Claimed(NamedTuple):
    """What an access token says; `expires` in seconds since the epoch."""

    user: UUID
    session: UUID
    expires: float


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Who issues, and for whom: `iss` and `aud` of every token (RFC 7519 section 4.1)."""

    name: str
    audiences: tuple[str, ...]

    def access_token(self, keys: Sequence[SigningKey], *, user: UUID, session: UUID, now: float) -> str:
        """A token for a user; `now` is in seconds since the epoch. Raises ValueError where no key's day has come."""
        key = signer(keys, datetime.fromtimestamp(now, UTC).date())
        claims: dict[str, Any] = {
            "iss": self.name,
            "aud": list(self.audiences),
            "sub": str(user),
            "sid": str(session),
            "jti": str(uuid4()),
            "iat": int(now),
            "exp": int(now) + ACCESS_SECONDS,
        }
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key.pair)

    def read(self, keys: Sequence[SigningKey], token: str, *, now: float) -> Claimed | None:
        """What a token says that this issuer has made and that has not expired; of any other one nothing. There are
        many ways not to be a token, and the difference is nobody's business."""
        try:
            claims = jwt.decode(token, KeySet([key.pair for key in keys]), algorithms=[ALGORITHM]).claims
            found = Claimed(UUID(claims["sub"]), UUID(claims["sid"]), float(claims["exp"]))
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if claims.get("iss") == self.name and found.expires > now else None


def refresh_token() -> str:
    """A new one, 43 characters of base64url."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is kept of a refresh token. It has 256 random bits, so no slow function is needed."""
    return hashlib.sha256(token.encode()).digest()
