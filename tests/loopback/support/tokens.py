"""A service that asks for tokens: its document, its sidecar, and requests to it."""

from typing import Any

from nova_api.model import builtins, convert
from nova_api.proxy import Jwt, ProxyConfig

from .issuer import NAME, Issuer
from .message import Message, request
from .sidecar import Sidecar, document, inbound


def policy(issuer: Issuer | None = None, **fields: Any) -> Jwt:
    """The policy as the sidecar has it; `issuers` in place of the one that this issuer is."""
    issuers = fields.pop("issuers", None) or [of(issuer)]
    directories = fields.pop("directories", [""] * len(issuers))
    return convert({"issuers": issuers, "directories": directories} | fields, Jwt)


def of(issuer: Issuer | None, **fields: Any) -> dict[str, Any]:
    """An issuer of the policy."""
    where = {"jwksUrl": issuer.url} if issuer is not None else {}
    every = ["RS256", "PS256", "ES256", "ES512", "EdDSA"]
    return {"issuer": NAME, "audiences": ["shop"], "algorithms": every} | where | fields


def changed(found: Jwt, **fields: Any) -> Jwt:
    """The same with other values."""
    return convert(builtins(found) | fields, Jwt)


def asking(app: tuple[str, int], found: Jwt, protocol: Any = "http", **fields: Any) -> ProxyConfig:
    """The document of a service in front of this app."""
    return document(inbound(app, protocol=protocol), jwt=found, **fields)


def bearer(token: str) -> str:
    """The field line with a token."""
    return f"Authorization: Bearer {token}"


def ask(sidecar: Sidecar, *lines: str, path: str = "/", method: str = "GET") -> Message:
    """The answer to a request with these field lines."""
    client = sidecar.connect()
    try:
        client.send(request(method, path, *lines))
        return client.response(method)
    finally:
        client.close()
