"""What is deleted while the operator is at it: a service amid a reconcile, a namespace with its services."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from nova_operator.cluster import ClusterError, StaleError
from nova_operator.kinds import CHILDREN, DEPLOYMENT, NOVA_SERVICE
from tests.cluster.api import NAMESPACE, Api, until
from tests.cluster.operator_process import running
from tests.cluster.scene import Scene
from tests.cluster.test_operator_overtaken import key_of, operator


def test_a_service_deleted_before_its_status_is_written(apiserver: Path, api: Api, namespace: str) -> None:
    """The write fails, the next look finds nothing, and the children are left to the garbage collector."""
    shop = Scene(api, namespace)
    document = shop.create(replicas=2)

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):
            system.feed.take(NOVA_SERVICE, "ADDED", document)
            cluster.before_status = lambda: api.delete(NOVA_SERVICE, *key_of(shop))
            with pytest.raises(ClusterError):
                await system.reconcile(key_of(shop))
            assert await system.reconcile(key_of(shop)) is None

    asyncio.run(scenario())
    left = [child for kind in CHILDREN if (child := shop.find(kind)) is not None]
    assert {child["metadata"]["ownerReferences"][0]["uid"] for child in left} <= {document["metadata"]["uid"]}


def test_a_service_made_anew_before_its_status_is_written_has_its_own_in_the_end(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """The API server pays no heed to the uid in a status."""
    shop = Scene(api, namespace)
    document = shop.create(replicas=2)

    def renew() -> None:
        api.delete(NOVA_SERVICE, *key_of(shop))
        shop.create(replicas=0)

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):
            system.feed.take(NOVA_SERVICE, "ADDED", document)
            cluster.before_status = renew
            with pytest.raises(StaleError, match="made anew"):
                await system.reconcile(key_of(shop))
            with contextlib.suppress(StaleError):  # children of the one before are still on their way out
                await system.reconcile(key_of(shop))
            known = system.mirror.get(NOVA_SERVICE, *key_of(shop))
            assert known is not None
            assert known["metadata"]["uid"] == api.get(NOVA_SERVICE, *key_of(shop))["metadata"]["uid"]

    asyncio.run(scenario())


def test_a_namespace_that_ends_takes_its_services_along(apiserver: Path, api: Api, tmp_path: Path) -> None:
    """Nothing new can be made in it; that is no fault, and other namespaces do not suffer."""
    with api.namespace() as staying:
        ending = f"{staying}-ending"
        api.create(NAMESPACE, None, {"metadata": {"name": ending}})
        options = (f"--namespace={ending}", f"--namespace={staying}")
        with running(apiserver, tmp_path / "log", *options) as operator:
            shops = [Scene(api, ending) for _ in range(3)]
            for shop in shops:
                shop.create()
            until(lambda: all(shop.find(DEPLOYMENT) for shop in shops))
            api.delete(NAMESPACE, None, ending)
            other = Scene(api, staying)
            other.create()
            until(lambda: other.find(DEPLOYMENT))
            until(lambda: not api.list(NOVA_SERVICE, ending), 30)
            until(lambda: operator.metric("nova_operator_services") == 1)
            until(lambda: operator.metric("nova_operator_services_failing") == 0)
            assert not operator.said("work failed")
