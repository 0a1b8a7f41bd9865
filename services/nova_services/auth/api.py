"""What auth says of itself, and the types of its answers."""

from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from nova_services.auth.service import Credentials, Erased, Password, Refresh
from nova_services.openapi import Api, Operation, Problem


class Registered(msgspec.Struct, frozen=True, rename="camel"):
    """An account that was made."""

    user_id: UUID


class Tokens(msgspec.Struct, frozen=True, rename="camel"):
    """The access token holds for `expires_in` seconds; the other one gives the next two, once."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str


class Keys(msgspec.Struct, frozen=True):
    """A JWK set (RFC 7517 section 5)."""

    keys: list[dict[str, Any]]


API: Final = Api(
    "auth",
    "Accounts, logins and tokens.",
    (
        Operation("POST", "/register", "Make an account.", {201: Registered, 409: Problem}, body=Credentials),
        Operation("POST", "/login", "Get tokens for a password.", {200: Tokens, 401: Problem}, body=Credentials),
        Operation(
            "POST", "/refresh", "Get tokens for a refresh token, once.", {200: Tokens, 401: Problem}, body=Refresh
        ),
        Operation("POST", "/logout", "End the session of a refresh token, or all.", {204: None}, body=Refresh),
        Operation(
            "DELETE",
            "/account",
            "Remove an account with all that services hold of its user.",
            {200: Erased},
            body=Password,
            viewer=True,
        ),
        Operation("GET", "/.well-known/jwks.json", "Read the keys that tokens are signed with.", {200: Keys}),
    ),
)
