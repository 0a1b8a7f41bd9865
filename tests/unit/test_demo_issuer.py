"""The demo's tokens, as another library reads them."""

import jwt as pyjwt
import pytest

from nova_api.model import convert
from nova_api.request_policies.jwt import JwtPolicy
from nova_cli.demo.issuer import Issuer, bearer


def read(issuer: Issuer, token: str, audience: str = "catalog") -> dict[str, object]:
    policy = convert(issuer.policy(audience), JwtPolicy)
    (key,) = policy.issuers[0].keys
    public = pyjwt.PyJWK({"kty": key.kty, "crv": key.crv, "x": key.x, "kid": key.kid})
    assert pyjwt.get_unverified_header(token)["kid"] == key.kid
    said: dict[str, object] = pyjwt.decode(
        token, public, algorithms=["EdDSA"], audience=audience, issuer=policy.issuers[0].issuer
    )
    return said


def test_a_token_is_good_for_who_has_the_policy() -> None:
    issuer = Issuer()
    said = read(issuer, issuer.token("jane", "catalog", tenant="acme"))
    assert (said["sub"], said["tenant"]) == ("jane", "acme")
    assert bearer("a.b.c") == {"authorization": "Bearer a.b.c"}


def test_one_of_another_key_or_for_another_service_is_not() -> None:
    issuer = Issuer()
    with pytest.raises(pyjwt.InvalidSignatureError):
        read(issuer, Issuer().token("jane", "catalog"))
    with pytest.raises(pyjwt.InvalidAudienceError):
        read(issuer, issuer.token("jane", "orders"))
