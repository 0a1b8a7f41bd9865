"""The operator killed between any two calls to the API server: the next one finishes what it began.

`Fuse` stands before the real cluster and burns out at the Nth call, before or after the call took effect. Then the
process is gone: everything it knew is lost, and a new one starts with nothing but the cluster.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nova_operator import access
from nova_operator.desired.defaults import Defaults
from nova_operator.handlers import WATCHED
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE, POD_DISRUPTION_BUDGET, Kind
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.mirror import ServiceKey
from nova_operator.pods import PodView
from nova_operator.sidecars import SidecarReport
from nova_operator.system import System
from tests.cluster.api import Api, until
from tests.cluster.scene import ALWAYS, Scene

T = TypeVar("T")
DEFAULTS = Defaults(sidecar_image="sidecar:test", sidecar_requests={"cpu": "50m"})
MOST_CALLS = 60


class KilledError(BaseException):
    """The end of the process, which no handler may catch."""


class Fuse:
    """A `Cluster` that lets so many calls through, and burns out at the next: before it or, with `after`, behind it."""

    def __init__(self, cluster: Kube, calls: int, *, after: bool) -> None:
        self._cluster = cluster
        self._left = calls
        self._after = after
        self.burnt = False

    async def _pass(self, call: Awaitable[T]) -> T:
        self._left -= 1
        if self._left >= 0:
            return await call
        self.burnt = True
        if self._after:
            await call
        else:
            asyncio.ensure_future(call).cancel()
        raise KilledError

    async def serves(self, kind: Kind) -> bool:
        return await self._pass(self._cluster.serves(kind))

    async def declares(self, kind: Kind, field: tuple[str, ...]) -> bool:
        return await self._pass(self._cluster.declares(kind, field))

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        return await self._pass(self._cluster.get(kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None, labels: str) -> Any:
        return await self._pass(self._cluster.list(kind, namespace, labels))

    async def collection(self, kind: Kind, namespace: str | None, labels: str) -> Any:
        return await self._pass(self._cluster.collection(kind, namespace, labels))

    async def apply(self, manifest: Any, **options: Any) -> Any:
        return await self._pass(self._cluster.apply(manifest, **options))

    async def create(self, kind: Kind, manifest: Any) -> Any:
        return await self._pass(self._cluster.create(kind, manifest))

    async def replace(self, kind: Kind, manifest: Any) -> Any:
        return await self._pass(self._cluster.replace(kind, manifest))

    async def merge(self, kind: Kind, manifest: Any, *, subresource: str = "") -> Any:
        return await self._pass(self._cluster.merge(kind, manifest, subresource=subresource))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        await self._pass(self._cluster.delete(kind, namespace, name, uid))


class NoSidecars:
    """There are no pods that run."""

    async def read(self, pods: tuple[PodView, ...]) -> dict[str, SidecarReport]:
        return {}


async def live(kubeconfig: Path, shop: Scene, calls: int, *, after: bool) -> bool:
    """One life of an operator that looks at the service once; whether it came to its end by itself."""
    configuration = await access.configuration(str(kubeconfig))
    async with access.client(configuration) as client:
        fuse = Fuse(Kube(client, Metrics()), calls, after=after)
        system = System(fuse, NoSidecars(), DEFAULTS, metrics=Metrics(), identity="test")
        with contextlib.suppress(KilledError):
            await system.prime([shop.namespace])
            await system.reconcile(ServiceKey(shop.namespace, shop.name))
        others = asyncio.all_tasks() - {asyncio.current_task()}  # calls made beside the last one: no connection may
        await asyncio.gather(*others, return_exceptions=True)  # be left half open
        return not fuse.burnt


def lives_until_done(kubeconfig: Path, shop: Scene, *, after: bool) -> int:
    """Kill it at its first call, then at its second, and so on, until one life was long enough; how many calls."""
    for calls in range(MOST_CALLS):
        if asyncio.run(live(kubeconfig, shop, calls, after=after)):
            return calls
    raise AssertionError(f"not done after {MOST_CALLS} calls")


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_it_may_be_killed_at_any_call_of_a_creation(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    shop = Scene(api, namespace)
    uid = shop.create(replicas=2)["metadata"]["uid"]
    assert lives_until_done(apiserver, shop, after=after) > 5
    for kind in ALWAYS:
        child = shop.find(kind)
        assert child is not None, kind
        assert child["metadata"]["ownerReferences"][0]["uid"] == uid
    assert shop.conditions()["Ready"] == ("False", "RollingOut")


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_it_may_be_killed_at_any_call_of_a_change(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    shop = Scene(api, namespace)
    shop.create(replicas=2)
    assert asyncio.run(live(apiserver, shop, MOST_CALLS, after=False))
    before = {kind: shop.find(kind) for kind in ALWAYS}
    shop.change(replicas=1, backpressure={"maxConcurrency": 7}, ports=[{"port": 80, "appPort": 8080}])
    assert lives_until_done(apiserver, shop, after=after) > 5
    assert shop.find(POD_DISRUPTION_BUDGET) is None
    deployment = shop.find(DEPLOYMENT)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1
    assert '"maxConcurrency":7' in str(shop.said()["ConfigMap"])
    assert shop.said()["Service"]["spec"]["ports"][0]["port"] == 80
    for kind, old in before.items():  # changed in place, never made anew
        new = shop.find(kind)
        assert old is not None
        assert new is None or new["metadata"]["uid"] == old["metadata"]["uid"]


def test_a_life_after_the_work_was_done_writes_nothing(apiserver: Path, api: Api, namespace: str) -> None:
    shop = Scene(api, namespace)
    shop.create(replicas=2)
    assert asyncio.run(live(apiserver, shop, MOST_CALLS, after=False))
    until(lambda: (api.deployment(namespace, shop.name).get("status") or {}).get("unavailableReplicas") == 2)
    assert asyncio.run(live(apiserver, shop, MOST_CALLS, after=False))  # it has seen the pods
    said = shop.said()
    version = api.get(NOVA_SERVICE, namespace, shop.name)["metadata"]["resourceVersion"]
    reads = len(WATCHED)  # one list for each kind
    assert asyncio.run(live(apiserver, shop, reads, after=False))  # not a call more
    assert shop.said() == said
    assert api.get(NOVA_SERVICE, namespace, shop.name)["metadata"]["resourceVersion"] == version
