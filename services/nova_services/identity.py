"""Who a request is from: what the sidecar has read in the caller's token.

The sidecar verifies the token and removes a header of this name that came from outside (docs/jwt.md), so what is there
is true as long as the service is reached through the sidecar alone.
"""

from typing import Final
from uuid import UUID

from aiohttp import web

HEADER: Final = "x-nova-subject"


def viewer(request: web.Request) -> UUID:
    """The user's id. Raises 401 where nobody is named, or somebody who is no user."""
    try:
        return UUID(request.headers.get(HEADER, ""))
    except ValueError:
        raise web.HTTPUnauthorized(
            text='{"error": "expected an access token"}',
            content_type="application/json",
            headers={"www-authenticate": "Bearer"},
        ) from None


def known(request: web.Request) -> UUID | None:
    """The same where nobody need be named: None then. Raises 401 for somebody who is no user."""
    return viewer(request) if HEADER in request.headers else None
