"""What is read out of the API server's own documents, and when it is asked again."""

import asyncio
from typing import Any

import pytest

from nova_operator import discovery
from nova_operator.cluster import UnavailableError
from nova_operator.desired.defaults import Platform
from nova_operator.discovery import Discovery
from nova_operator.kinds import CONFIG_MAP, HTTP_ROUTE, Kind
from nova_operator.openapi import declares, document_path

INDEX = {"paths": {"apis/gateway.networking.k8s.io/v1": {"serverRelativeURL": "/openapi/v3/apis/gateway?hash=ABC"}}}
RULE = {"properties": {"matches": {"type": "array"}}}
DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "io.k8s.networking.gateway.v1.HTTPRoute": {
                "x-kubernetes-group-version-kind": [
                    {"group": "gateway.networking.k8s.io", "version": "v1", "kind": "HTTPRoute"}
                ],
                "properties": {"spec": {"properties": {"rules": {"type": "array", "items": RULE}}}},
            }
        }
    }
}


def test_a_kinds_document_is_found_by_its_group_and_version() -> None:
    assert document_path(INDEX, HTTP_ROUTE) == ("/openapi/v3/apis/gateway", "ABC")
    assert document_path(INDEX, CONFIG_MAP) is None


@pytest.mark.parametrize(
    ("field", "there"),
    [
        (("spec", "rules", "matches"), True),
        (("spec", "rules", "sessionPersistence"), False),
        (("spec", "nothing", "at", "all"), False),
    ],
)
def test_a_field_is_found_below_lists(field: tuple[str, ...], there: bool) -> None:
    assert declares(DOCUMENT, HTTP_ROUTE, field) is there
    assert declares({}, HTTP_ROUTE, field) is False


class Server:
    """A `Cluster` of which only the kinds matter."""

    def __init__(self) -> None:
        self.served: set[Kind] = set()
        self.fails = 0
        self.asked = asyncio.Event()

    async def serves(self, kind: Kind) -> bool:
        self.asked.set()
        if self.fails:
            self.fails -= 1
            raise UnavailableError("not now")
        return kind in self.served

    async def declares(self, kind: Kind, field: tuple[str, ...]) -> bool:
        return True


def test_a_doubt_is_looked_into_at_once_and_an_unreachable_server_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "LEAST_PAUSE", 0.0)

    async def run() -> None:
        server = Server()
        watch = Discovery(server, every=3600)  # type: ignore[arg-type]  # it asks for nothing else
        changed = asyncio.create_task(watch.changed(Platform()))
        server.fails = 3  # all kinds of the first question
        watch.doubt()
        await server.asked.wait()
        server.served = {HTTP_ROUTE}
        while not changed.done():
            watch.doubt()
            await asyncio.sleep(0)
        assert await watch.platform(Platform()) == Platform(http_routes=True, session_persistence=True)

    asyncio.run(asyncio.wait_for(run(), 10))
