"""A canary is taken back as far as the API server takes writes at all."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from nova_api import names
from nova_operator.children import Children
from nova_operator.cluster import UnavailableError
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, resealed
from nova_operator.kinds import DEPLOYMENT, Kind, kind_of
from nova_operator.mirror import Mirror
from nova_operator.plan import key_of
from tests.unit.test_operator_plan import DEFAULTS, as_stored, service

SHOP = service(gateway={"parentRefs": [{"name": "public"}]})
DESIRED = desired_state(SHOP, replace(DEFAULTS, platform=Platform(http_routes=True)))


class Webhooks:
    """A cluster in which the webhook of one kind is down. `answers`: the API server says so, and waits no longer."""

    def __init__(self, down: str) -> None:
        self.down = down
        self.done: list[str] = []
        self.answers = asyncio.Event()
        self.grown = asyncio.Event()
        """Set when the stable version has its pods again."""

    async def apply(self, manifest: Manifest, **_: Any) -> Manifest:
        if manifest["kind"] == self.down:
            await self.answers.wait()
            raise UnavailableError("500 failed calling webhook: no endpoints available")
        if manifest["kind"] == "Deployment":
            self.grown.set()
        self.done.append(str(key_of(manifest)))
        return as_stored(manifest)

    async def delete(self, kind: Kind, _namespace: str, name: str, _uid: str) -> None:
        self.done.append(f"no {kind.kind}/{name}")


def with_canary() -> Mirror:
    """The children as they were with a canary: each has to be written."""
    mirror = Mirror()
    for manifest in DESIRED:
        old = as_stored(resealed(manifest | {"spec": {**manifest.get("spec", {}), "was": "other"}}))
        mirror.put(kind_of(manifest), old)
        if manifest["kind"] == "Deployment":
            metadata = old["metadata"] | {"name": names.canary("shop"), "uid": "canary"}
            mirror.put(DEPLOYMENT, old | {"metadata": metadata})
    return mirror


async def taken_back(cluster: Webhooks) -> None:
    children = Children(cluster, with_canary(), lambda: None)  # type: ignore[arg-type]  # no other call is made
    await children.take_back(SHOP, DESIRED, {})


SERVICES = ["Service/shop", "Service/shop-endpoints"]


@pytest.mark.parametrize(
    ("down", "done"),
    [
        ("Deployment", SERVICES),
        ("HTTPRoute", [*SERVICES, "Deployment/shop", "no Deployment/shop-canary"]),
        ("Service", ["Deployment/shop"]),
    ],
)
def test_a_webhook_that_is_down_holds_up_its_own_kind_alone(down: str, done: list[str]) -> None:
    """No request is led to a canary that serves badly, and its pods stay while one may be."""
    cluster = Webhooks(down)
    cluster.answers.set()
    asyncio.run(taken_back(cluster))
    assert [one for one in cluster.done if "HTTPRoute" not in one] == done


def test_nothing_waits_for_a_webhook_that_never_answers() -> None:
    async def scenario() -> None:
        cluster = Webhooks("Service")
        taking = asyncio.create_task(taken_back(cluster))
        await asyncio.wait_for(cluster.grown.wait(), 10)
        cluster.answers.set()
        await taking

    asyncio.run(scenario())
