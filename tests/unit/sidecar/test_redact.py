from typing import Any

import pytest

from nova_sidecar.telemetry.redact import REDACTED, redact, redact_text

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "password", "db_passwd", "passphrase", "token",
        "access_token", "client-secret", "api_key", "apiKey", "x-api-key", "private_key", "credentials", "sessionId",
    ],
)  # fmt: skip
def test_the_value_under_a_telling_key(key: str) -> None:
    assert redact({key: "hunter2"}) == {key: REDACTED}


def test_inside_of_containers() -> None:
    event: dict[str, Any] = {"a": [{"token": 5}, ("Bearer abc123", 7)], "b": {"c": {"cookie": "x"}, 3: None}}
    assert redact(event) == {
        "a": [{"token": REDACTED}, [f"Bearer {REDACTED}", 7]],
        "b": {"c": {"cookie": REDACTED}, "3": None},
    }


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("sent basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        (f"bad token {TOKEN} given", TOKEN),
        (f"/oauth/{TOKEN}/x", TOKEN),
        ("postgres://nova:s3cr%40et@db:5432/shop", "s3cr%40et"),
        ("https://user@example.org/", "user@"),
        ("GET /login?user=ann&code=4711 HTTP/1.1", "4711"),
        ("http://shop/items?q=shoes", "shoes"),
        ("password=hunter2 rejected", "hunter2"),
        ("'client_secret': 'hunter2'", "hunter2"),
        ("API-Key: hunter2", "hunter2"),
    ],
)
def test_secrets_inside_of_texts(text: str, secret: str) -> None:
    found = redact_text(text)
    assert secret not in found
    assert REDACTED in found


@pytest.mark.parametrize(
    "text",
    [
        "", "serving", "is it there?", "why? because", "basic authentication is off", "/v1/orders/123",
        "http://auth-service:8080/login", "connection to 10.0.0.1:5432 refused", "expected int, got str - at `$.a`",
        "digest mismatch", "a?b", "$.outbound[0].retry: attempts=3",
    ],
)  # fmt: skip
def test_ordinary_texts_stay(text: str) -> None:
    assert redact_text(text) == text
