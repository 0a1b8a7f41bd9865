"""An issuer of tokens: keys, the server that publishes them, and tokens of every kind, wrong ones too."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from .app import App, Call
from .message import response

_DEFAULTS = get_default_algorithms()
_RSA = rsa.generate_private_key(65537, 2048)
_OTHER_RSA = rsa.generate_private_key(65537, 2048)
NAME = "https://auth.example"


class Key:
    """A key pair with a name."""

    def __init__(self, private: Any, algorithm: str, kid: str) -> None:
        self.private = private
        self.algorithm = algorithm
        self.kid = kid

    def public(self, **members: Any) -> dict[str, Any]:
        """As the issuer publishes it."""
        found = _DEFAULTS[self.algorithm].to_jwk(self.private.public_key())
        document = json.loads(found) if isinstance(found, str) else dict(found)
        document.pop("key_ops", None)
        return document | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | members

    def sign(self, signed: bytes) -> bytes:
        """The signature over these bytes."""
        found: bytes = _DEFAULTS[self.algorithm].sign(signed, self.private)
        return found


RS256 = Key(_RSA, "RS256", "k1")
PS256 = Key(_RSA, "PS256", "k1-pss")
OTHER = Key(_OTHER_RSA, "RS256", "k2")
ES256 = Key(ec.generate_private_key(ec.SECP256R1()), "ES256", "e1")
ES512 = Key(ec.generate_private_key(ec.SECP521R1()), "ES512", "e5")
EDDSA = Key(ed25519.Ed25519PrivateKey.generate(), "EdDSA", "d1")


def encoded(part: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def claims(**more: Any) -> dict[str, Any]:
    """What a good token says; None leaves a claim out."""
    now = int(time.time())
    found = {"iss": NAME, "aud": "shop", "sub": "anna", "iat": now, "exp": now + 600} | more
    return {name: value for name, value in found.items() if value is not None}


def token(key: Key = RS256, /, header: dict[str, Any] | None = None, **more: Any) -> str:
    """A token with these claims, signed by the key; `header` replaces members of its header, None leaves one out."""
    said = {"alg": key.algorithm, "kid": key.kid, "typ": "JWT"} | (header or {})
    return raw(
        json.dumps({name: value for name, value in said.items() if value is not None}).encode(),
        json.dumps(claims(**more)).encode(),
        key.sign,
    )


def raw(header: bytes, body: bytes, sign: Callable[[bytes], bytes]) -> str:
    """A token of these bytes."""
    signed = encoded(header) + b"." + encoded(body)
    return (signed + b"." + encoded(sign(signed))).decode()


def with_secret(secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    """A token signed with a shared secret."""
    said = json.dumps({"alg": algorithm, "kid": RS256.kid, "typ": "JWT"} | header).encode()
    return raw(said, json.dumps(claims()).encode(), lambda signed: hmac.digest(secret, signed, "sha256"))


class Issuer:
    """Publishes keys; what it answers may be replaced while it runs, and it counts who asks."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": list(keys or (RS256.public(),))}).encode()
        self.status = "200 OK"
        self.fields: tuple[str, ...] = ("content-type: application/json",)
        self.gate = threading.Event()
        self.gate.set()
        self._app = App(self._answer)

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self._app.address[1]}/keys"

    @property
    def asked(self) -> int:
        """How often somebody has asked."""
        return len(self._app.calls)

    def publish(self, *keys: dict[str, Any]) -> None:
        """These are the keys from now on."""
        self.body = json.dumps({"keys": list(keys)}).encode()

    def stop(self) -> None:
        """Answer nobody any more."""
        self.gate.set()
        self._app.stop()

    def restart(self) -> None:
        """Answer again."""
        self._app.restart()

    def _answer(self, _: Call) -> bytes:
        self.gate.wait(30)
        return response(self.status, "connection: close", *self.fields, body=self.body)
