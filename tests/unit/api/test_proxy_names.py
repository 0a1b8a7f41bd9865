"""Names and addresses in the document of a sidecar: what the CRD refuses is refused there, too, with field and rule."""

from typing import Any

import msgspec
import pytest

from nova_api.errors import ConfigError
from nova_api.proxy import decode

LISTEN = {"host": "127.0.0.1", "port": 1}


def with_value(path: str, value: str) -> bytes:
    """A document that differs from a right one in this field."""
    document: dict[str, Any] = {
        "service": "shop",
        "inbound": [{"name": "web", "listen": {**LISTEN}, "app": {**LISTEN}}],
        "outbound": [{"name": "db", "listen": {**LISTEN}, "upstream": {**LISTEN}, "tls": {"serverName": "db"}}],
        "tracing": {"mode": "Enforce", "endpoint": "http://collector:4318"},
    }
    at: Any = document
    *way, last = path.split(".")
    for step in way:
        at = at[int(step)] if step.isdecimal() else at[step]
    at[last] = value
    return msgspec.json.encode(document)


PLACES = {
    "inbound.0.listen.host": "$.inbound[0].listen.host",
    "inbound.0.app.host": "$.inbound[0].app.host",
    "outbound.0.upstream.host": "$.outbound[0].upstream.host",
    "outbound.0.tls.serverName": "$.outbound[0].tls.serverName",
}


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "a\n", "\na", "a\r\nb", "alice@host", "a/b", "-a", "a:b c", "ä", "a\x00"]
)
@pytest.mark.parametrize("path", PLACES)
def test_what_is_no_host(path: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(with_value(path, value))
    assert caught.value.path == PLACES[path]
    assert caught.value.rule == "expected an IP address or a host name"


@pytest.mark.parametrize(
    "value", ["db", "db.shop.svc", "db.shop.svc.cluster.local.", "10.0.0.1", "::", "::1", "fe80::1%eth0", "a_b", "DB"]
)
@pytest.mark.parametrize("path", PLACES)
def test_what_is_one(path: str, value: str) -> None:
    decode(with_value(path, value))


@pytest.mark.parametrize("value", ["http://a b", "http://a\n", "collector:4318", "http://", ""])
def test_what_is_no_collector(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(with_value("tracing.endpoint", value))
    assert caught.value.path == "$.tracing.endpoint"


@pytest.mark.parametrize("value", ["", "a b", "a\n", "Web", "-a"])
@pytest.mark.parametrize(
    ("path", "field"), [("inbound.0.name", "$.inbound[0].name"), ("outbound.0.name", "$.outbound[0].name")]
)
def test_what_is_no_name(path: str, field: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(with_value(path, value))
    assert caught.value.path == field
