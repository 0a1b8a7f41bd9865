"""The Secrets of session affinity in the pod: mounted into the sidecar alone, where its document says they are."""

from typing import Any

import pytest

from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.pod import pod_template
from tests.documents import Document, with_spec

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
