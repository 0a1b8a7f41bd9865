"""auth over HTTP.

    POST /register   {"email", "password"}              201 {"userId"}; 409 where the address has an account
    POST /login      {"email", "password"}              200 tokens; 401
    POST /refresh    {"refreshToken"}                   200 tokens, the old one is spent; 401
    POST /logout     {"refreshToken", "everywhere"}     204, whether or not it was a token (RFC 7009 section 2.2)
    DELETE /account  {"password"}                       200 {"reference"}: all of it is removed, everywhere; 401
    GET  /.well-known/jwks.json                         the keys, for sidecars
    GET  /healthz                                       200 while the process serves

What is wrong in a request is answered 400 with field and rule, and never with what was sent. While the database is not
there, or its pool is full, 503 with Retry-After.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from nova_services.auth.accounts import Accounts
from nova_services.auth.keys import KeyFolder, published
from nova_services.auth.metrics import AuthMetrics
from nova_services.auth.passwords import LONGEST, SHORTEST, Passwords
from nova_services.auth.tokens import ACCESS_SECONDS, Issuer, refresh_token
from nova_services.backing import unavailable
from nova_services.bodies import answer, read
from nova_services.identity import viewer
from nova_services.logs import get_logger
from nova_services.web import application

_PUBLIC: Final = {"cache-control": "public, max-age=60"}
_PRIVATE: Final = {"cache-control": "no-store"}
"""Of answers with tokens (RFC 6749 section 5.1)."""


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Of somebody who registers or logs in."""

    email: Annotated[str, Meta(pattern=r"^[^@\s\x00]{1,64}@[^@\s\x00]{1,189}$(?!\n)")]
    password: Annotated[str, Meta(min_length=SHORTEST, max_length=LONGEST)]

    @property
    def address(self) -> str:
        """The address as it is kept: capitals make no other one."""
        return self.email.lower()


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A refresh token, and for /logout how far it goes."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=128)]
    everywhere: bool = False


class Password(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Asked for once more, since a token may be somebody else's by now."""

    password: Annotated[str, Meta(min_length=1, max_length=LONGEST)]


class Erased(msgspec.Struct, frozen=True, rename="camel"):
    """By which it is found that, and when, everything was removed: it says of whom to nobody."""

    reference: UUID


class Auth:
    """The service; `clock` gives seconds since the epoch. Raises ValueError where the keys cannot be read."""

    def __init__(
        self,
        accounts: Accounts,
        keys: KeyFolder,
        issuer: Issuer,
        metrics: AuthMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._issuer = issuer
        self._metrics = metrics
        self._passwords = Passwords()
        self._clock = clock

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.post("/register", self._register),
            web.post("/login", self._login),
            web.post("/refresh", self._refresh),
            web.post("/logout", self._logout),
            web.delete("/account", self._erase),
            web.get("/.well-known/jwks.json", self._jwks),
        )
        made.middlewares.append(unavailable)
        return made

    async def _register(self, request: web.Request) -> web.Response:
        given = await read(request, Credentials)
        user = await self._accounts.register(given.address, await self._passwords.hash(given.password))
        self._metrics.count("registrations", "taken" if user is None else "created")
        if user is None:
            return web.json_response({"error": "the address has an account"}, status=409)
        return web.json_response({"userId": str(user)}, status=201)

    async def _login(self, request: web.Request) -> web.Response:
        given = await read(request, Credentials)
        account = await self._accounts.find(given.address)
        right = await self._passwords.matches(given.password, account and account.password_hash)
        token = refresh_token()
        session = await self._accounts.open_session(account.user, token) if account and right else None
        self._metrics.count("logins", "refused" if session is None else "ok")
        if account is None or session is None:
            return _refused("address or password is wrong")
        return self._tokens(account.user, session, token)

    async def _refresh(self, request: web.Request) -> web.Response:
        given, token = await read(request, Refresh), refresh_token()
        result, user, session = await self._accounts.refresh(given.refresh_token, token)
        self._metrics.count("refreshes", result)
        if result == "reused":
            get_logger().warning("refresh token came twice")
        if user is None or session is None:
            return _refused("the refresh token does not hold")
        return self._tokens(user, session, token)

    async def _logout(self, request: web.Request) -> web.Response:
        given = await read(request, Refresh)
        self._metrics.revoked(await self._accounts.revoke(given.refresh_token, everywhere=given.everywhere))
        return web.Response(status=204)

    async def _erase(self, request: web.Request) -> web.Response:
        user, given = viewer(request), await read(request, Password)
        right = await self._passwords.matches(given.password, await self._accounts.password_hash(user))
        reference = await self._accounts.erase(user) if right else None
        self._metrics.count("erasures", "refused" if reference is None else "erased")
        if reference is None:
            return _refused("the password is wrong")
        return answer(Erased(reference), headers=_PRIVATE)

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(published(self._keys.keys()), headers=_PUBLIC)

    def _tokens(self, user: UUID, session: UUID, token: str) -> web.Response:
        access = self._issuer.access_token(self._keys.keys(), user=user, session=session, now=self._clock())
        body: dict[str, Any] = {"accessToken": access, "tokenType": "Bearer", "expiresIn": ACCESS_SECONDS}
        return web.json_response(body | {"refreshToken": token}, headers=_PRIVATE)


def _refused(error: str) -> web.Response:
    return web.json_response({"error": error}, status=401, headers={"www-authenticate": "Bearer", **_PRIVATE})
