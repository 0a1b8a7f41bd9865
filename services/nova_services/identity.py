"""Who a request is from: what the sidecar has read in the caller's token.

The sidecar verifies the token and removes headers of these names that came from outside (docs/jwt.md), so what is there
is true as long as the service is reached through the sidecar alone. Of a name that its `claimHeaders` do not list it
knows nothing: who asks for more than the subject needs them there.

    claimHeaders:
      - {claim: sub, header: x-nova-subject}
      - {claim: sid, header: x-nova-session}
      - {claim: exp, header: x-nova-expires}
"""

from math import isfinite
from typing import Final, NamedTuple
from uuid import UUID

from aiohttp import web

HEADER: Final = "x-nova-subject"
SESSION: Final = "x-nova-session"
EXPIRES: Final = "x-nova-expires"


class Login(NamedTuple):
    """The login that a token is of, and when the token expires, in seconds since 1970; None where nobody says it."""

    session: UUID | None
    expires: float | None


def viewer(request: web.Request) -> UUID:
    """The user's id. Raises 401 where nobody is named, or somebody who is no user."""
    try:
        return UUID(request.headers.get(HEADER, ""))
    except ValueError:
        raise unauthorized() from None


def login(request: web.Request) -> Login:
    """What is said of the login. Raises 401 for what auth has in no token."""
    session, expires = request.headers.get(SESSION), request.headers.get(EXPIRES)
    try:
        found = Login(UUID(session) if session else None, float(expires) if expires else None)
    except ValueError:
        raise unauthorized() from None
    if found.expires is not None and not isfinite(found.expires):
        raise unauthorized()
    return found


def unauthorized() -> web.HTTPUnauthorized:
    """The answer to who needs another token."""
    return web.HTTPUnauthorized(
        text='{"error": "expected an access token"}',
        content_type="application/json",
        headers={"www-authenticate": "Bearer"},
    )


def known(request: web.Request) -> UUID | None:
    """The same where nobody need be named: None then. Raises 401 for somebody who is no user."""
    return viewer(request) if HEADER in request.headers else None
