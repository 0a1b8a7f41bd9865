"""The Secrets of session affinity in the pod: mounted into the sidecar alone, where its document says they are."""

from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.pod import pod_template
from nova_operator.desired.session_secret import needs_session_secret
from tests.documents import Document, with_jwt, with_spec

REDIS = {"url": "redis://redis:6379/0", "secret": "redis-login"}


def template(document: Document) -> dict[str, Any]:
    return pod_template(convert(document, NovaService), Defaults(sidecar_image="sidecar", sidecar_requests={}))["spec"]


def mounts(pod: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Container → path → Secret."""
    volumes = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in pod["volumes"]}
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    return {
        one["name"]: {
            mount["mountPath"]: volumes[mount["name"]]
            for mount in one.get("volumeMounts", ())
            if volumes[mount["name"]] is not None
        }
        for one in containers
    }


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        ({"type": "None"}, {}),
        ({"type": "ClientIP"}, {}),
        ({"type": "Cookie"}, {"/etc/nova-session": "shop-session"}),
        ({"type": "Cookie", "cookie": {"secret": "ours"}}, {"/etc/nova-session": "ours"}),
        (
            {"type": "Redis", "redis": REDIS},
            {"/etc/nova-session": "shop-session", "/etc/nova-store/redis-login": "redis-login"},
        ),
        ({"type": "Redis", "redis": {"url": REDIS["url"]}}, {"/etc/nova-session": "shop-session"}),
        ({"type": "Cookie", "redis": REDIS}, {"/etc/nova-session": "shop-session"}),
    ],
)
def test_the_sidecar_alone_has_them(affinity: dict[str, Any], expected: dict[str, str]) -> None:
    document = with_spec(sessionAffinity=affinity)
    assert mounts(template(document)) == {"nova-sidecar": expected, "app": {}}
    resolved = resolve(convert(document, NovaService)).affinity
    read = set() if resolved is None else {resolved.cookie.directory}
    if resolved is not None and resolved.store is not None:
        read |= {resolved.store.directory} - {""}
    assert read == set(expected)


def test_of_the_signing_secret_the_key_alone_is_there_and_readable() -> None:
    (volume,) = [one for one in template(with_spec(sessionAffinity={"type": "Cookie"}))["volumes"] if "secret" in one]
    assert volume["secret"]["items"] == [{"key": "key", "path": "key"}]
    assert volume["secret"]["defaultMode"] == 0o444


@pytest.mark.parametrize("name", ["nova-session", "nova-store"])
def test_their_volumes_names_are_taken(name: str) -> None:
    own = {"containers": [{"name": "app", "image": "app"}], "volumes": [{"name": name, "emptyDir": {}}]}
    document = with_spec(template={"spec": own})
    del document["spec"]["image"]
    with pytest.raises(ConfigError, match=rf"\$\.spec\.template\.spec\.volumes\[0\]\.name: expected another .* {name}"):
        template(document)


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        (None, {"/etc/nova-store/policies": "policies"}),
        ("policies", {"/etc/nova-session": "shop-session", "/etc/nova-store/policies": "policies"}),
        (
            "redis-login",
            {
                "/etc/nova-session": "shop-session",
                "/etc/nova-store/redis-login": "redis-login",
                "/etc/nova-store/policies": "policies",
            },
        ),
    ],
)
def test_the_store_of_request_policies_is_mounted_once(sessions: str | None, expected: dict[str, str]) -> None:
    affinity = {"type": "Redis", "redis": {**REDIS, "secret": sessions}} if sessions else {"type": "None"}
    document = with_spec(sessionAffinity=affinity, redis={**REDIS, "secret": "policies"})
    assert mounts(template(document)) == {"nova-sidecar": expected, "app": {}}
    volumes = template(document)["volumes"]
    assert len({volume["name"] for volume in volumes}) == len(volumes)
    store = resolve(convert(document, NovaService)).store
    assert store is not None
    assert store.directory == "/etc/nova-store/policies"


def test_an_unreadable_url_of_the_policies_store_names_its_field() -> None:
    document = with_spec(redis={"url": "redis+sentinel://one:1,two:2"})
    with pytest.raises(ConfigError, match=r"\$\.spec\.redis\.url"):
        resolve(convert(document, NovaService))


@pytest.mark.parametrize(
    ("jwt", "redis", "signs"),
    [
        ({}, REDIS, True),
        ({}, None, False),
        ({"mode": "Off"}, REDIS, False),
        ({"mode": "Shadow"}, REDIS, True),
        ({"cache": {"redis": "Off"}}, REDIS, False),
    ],
)
def test_who_tells_of_tokens_by_redis_signs_what_it_says(jwt: Any, redis: Any, signs: bool) -> None:
    document = with_jwt(**jwt)
    document["spec"]["ports"] = [{"port": 80, "appPort": 8080}]
    if redis is not None:
        document["spec"]["redis"] = redis
    service = convert(document, NovaService)
    assert ("/etc/nova-session" in mounts(template(document))["nova-sidecar"]) is signs
    assert needs_session_secret(service) is signs
    resolved = resolve(service).jwt
    assert (resolved is not None and resolved.key_directory == "/etc/nova-session") is signs
    local = resolve(service, "local").jwt
    assert local is None or local.key_directory == ""


def test_the_host_of_an_issuers_keys_is_known_by_a_secret() -> None:
    document = with_jwt({"issuer": "a", "audiences": ["b"], "jwksUrl": "https://auth/keys", "secret": "auth-ca"})
    assert mounts(template(document)) == {"nova-sidecar": {"/etc/nova-tls/auth-ca": "auth-ca"}, "app": {}}
    resolved = resolve(convert(document, NovaService)).jwt
    assert resolved is not None
    assert resolved.directories == ("/etc/nova-tls/auth-ca",)


@pytest.mark.parametrize("url", ["https://:443/keys", "https://u:p@auth/keys", "http://auth:0/", "http://auth:99999/"])
def test_an_address_of_keys_that_leads_nowhere_names_its_field(url: str) -> None:
    document = with_jwt({"issuer": "a", "audiences": ["b"], "jwksUrl": url})
    with pytest.raises(ConfigError, match=r"\$\.spec\.jwt\.issuers\[0\]\.jwksUrl: expected a host"):
        resolve(convert(document, NovaService))
