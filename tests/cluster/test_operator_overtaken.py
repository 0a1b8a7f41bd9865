"""What happens in the cluster while the operator asks or writes, and is heard of before the answer: nothing is lost.

`Overtaken` is the real cluster, with an act of somebody else between the API server's answer and the operator.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kubernetes.aio.client import ApiClient

from nova_api import names
from nova_operator import access
from nova_operator.adoption import ANNOTATION
from nova_operator.cluster import StaleError
from nova_operator.deployments import deployment_condition, is_observed
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE, POD, SECRET, SERVICE, Kind
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics
from nova_operator.mirror import ServiceKey
from nova_operator.reconcile import HELD_UP_RETRY, UNWATCHED_RETRY
from nova_operator.session_secrets import FIRST_RETRY, LONGEST_RETRY
from nova_operator.system import System
from nova_operator.watch import GoneError
from tests.cluster.api import Api, Object, until
from tests.cluster.scene import Scene
from tests.cluster.test_operator_crash import DEFAULTS, NoSidecars
from tests.cluster.workload import adopt, has_sidecar, nova, said, web

Act = Callable[[], None]


class Overtaken(Kube):
    """Each act happens once: before the next status is written, or behind an answer."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(api, Metrics())
        self.before_status: Act | None = None
        self.before_give_back: Act | None = None
        self.after_status: Act | None = None
        self.after_config_map: Act | None = None
        self.after_get: Act | None = None
        self.after_pods: Act | None = None

    async def merge(self, kind: Kind, manifest: Any, *, subresource: str = "") -> Any:
        if subresource:
            self._once("before_status")
        if kind is DEPLOYMENT and "spec" in manifest:
            self._once("before_give_back")
        answer = await super().merge(kind, manifest, subresource=subresource)
        if subresource:
            self._once("after_status")
        return answer

    async def apply(self, manifest: Any, **options: Any) -> Any:
        answer = await super().apply(manifest, **options)
        if manifest["kind"] == CONFIG_MAP.kind and not options.get("dry_run"):
            self._once("after_config_map")
        return answer

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        answer = await super().get(kind, namespace, name)
        if kind is NOVA_SERVICE:
            self._once("after_get")
        return answer

    async def collection(self, kind: Kind, namespace: str | None, labels: str) -> Any:
        answer = await super().collection(kind, namespace, labels)
        if kind is POD:
            self._once("after_pods")
        return answer

    def _once(self, name: str) -> None:
        act = getattr(self, name)
        setattr(self, name, None)
        if act is not None:
            act()


@asynccontextmanager
async def operator(kubeconfig: Path, **options: Any) -> AsyncIterator[tuple[Overtaken, System]]:
    """The operator without watches: the test says what is heard, and when."""
    configuration = await access.configuration(str(kubeconfig))
    async with access.client(configuration) as client:
        cluster = Overtaken(client)
        yield cluster, System(cluster, NoSidecars(), DEFAULTS, metrics=Metrics(), identity="test", **options)


def key_of(shop: Scene) -> ServiceKey:
    return ServiceKey(shop.namespace, shop.name)


REFUSED = {"readinessProbe": {"httpGet": {"path": "/"}}}
"""A spec with which the API server refuses the Deployment. Nothing is made then, and the service is in doubt: the next
time, the API server is asked for all of it by name."""


@asynccontextmanager
async def at_work(system: System, shop: Scene) -> AsyncIterator[None]:
    """The system primed and running; it ends between two calls, so that no connection is left half open."""
    await system.prime([shop.namespace])
    running = asyncio.create_task(system.run())
    try:
        yield
        await soon(lambda: "running=0" in repr(system.services))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def soon(condition: Callable[[], Any]) -> None:
    """Wait for what somebody in the cluster sees."""
    await asyncio.to_thread(until, condition)


def test_a_change_made_while_the_status_is_written_is_put_into_force(apiserver: Path, api: Api, namespace: str) -> None:
    """The answer to the write already shows the change, so its event, which comes later, is no news."""
    shop = Scene(api, namespace)
    shop.create(replicas=1)

    async def scenario() -> None:
        heard: list[Object] = []
        async with operator(apiserver) as (cluster, system):
            cluster.before_status = lambda: heard.append(shop.change(replicas=2))
            async with at_work(system, shop):
                await soon(lambda: "status" in api.get(NOVA_SERVICE, *key_of(shop)))
                for event in (*heard, api.get(NOVA_SERVICE, *key_of(shop))):
                    system.feed.take(NOVA_SERVICE, "MODIFIED", event)
                await soon(lambda: api.deployment(*key_of(shop))["spec"]["replicas"] == 2)

    asyncio.run(scenario())


def test_a_child_deleted_before_its_write_is_answered_is_made_again(apiserver: Path, api: Api, namespace: str) -> None:
    shop = Scene(api, namespace)

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):

            def deleted() -> None:
                made = shop.find(CONFIG_MAP)
                assert made is not None
                api.delete(CONFIG_MAP, namespace, made["metadata"]["name"])
                for change in ("ADDED", "DELETED"):
                    system.feed.take(CONFIG_MAP, change, made)

            cluster.after_config_map = deleted
            system.feed.take(NOVA_SERVICE, "ADDED", shop.create())
            for _ in range(2):
                await system.reconcile(key_of(shop))
            assert cluster.after_config_map is None

    asyncio.run(scenario())
    assert shop.find(CONFIG_MAP) is not None


def test_a_service_deleted_before_the_write_of_its_status_is_answered_is_gone(
    apiserver: Path, api: Api, namespace: str
) -> None:
    shop = Scene(api, namespace)

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):

            def deleted() -> None:
                gone = api.get(NOVA_SERVICE, *key_of(shop))
                api.delete(NOVA_SERVICE, *key_of(shop))
                system.feed.take(NOVA_SERVICE, "DELETED", gone)

            cluster.after_status = deleted
            system.feed.take(NOVA_SERVICE, "ADDED", shop.create())
            await system.reconcile(key_of(shop))
            assert cluster.after_status is None
            assert await system.reconcile(key_of(shop)) is None

    asyncio.run(scenario())


def test_a_service_made_anew_while_it_is_looked_for_is_served(apiserver: Path, api: Api, namespace: str) -> None:
    shop = Scene(api, namespace)

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):
            system.feed.take(NOVA_SERVICE, "ADDED", shop.create(**REFUSED))
            await system.reconcile(key_of(shop))
            assert shop.find(DEPLOYMENT) is None
            api.delete(NOVA_SERVICE, *key_of(shop))
            cluster.after_get = lambda: system.feed.take(NOVA_SERVICE, "ADDED", shop.create())
            await system.reconcile(key_of(shop))
            assert cluster.after_get is None

    asyncio.run(scenario())
    assert shop.find(DEPLOYMENT) is not None


@pytest.mark.parametrize("in_doubt", [True, False], ids=["the service's", "all"])
def test_a_pod_that_goes_while_the_pods_are_listed_stays_gone(
    apiserver: Path, api: Api, namespace: str, in_doubt: bool
) -> None:
    shop = Scene(api, namespace)
    document = shop.create()

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):

            async def look() -> None:
                if in_doubt:
                    await system.reconcile(key_of(shop))
                else:
                    await system.list_anew(POD, namespace)

            system.feed.take(NOVA_SERVICE, "ADDED", document)
            await system.reconcile(key_of(shop))
            await soon(shop.pods)
            if in_doubt:
                system.feed.take(NOVA_SERVICE, "MODIFIED", shop.change(**REFUSED))
                await system.reconcile(key_of(shop))
            await look()
            (pod,) = shop.pods()
            assert [one.name for one in system.mirror.pods(key_of(shop))] == [pod["metadata"]["name"]]
            cluster.after_pods = lambda: system.feed.take(POD, "DELETED", pod)
            await look()
            assert system.mirror.pods(key_of(shop)) == ()

    asyncio.run(scenario())


def test_a_deployment_that_another_service_takes_before_it_is_given_back_stays_with_it(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """Somebody removes the finalizer while it is given back, and the next service is quicker."""
    name = f"d-{uuid4().hex[:6]}"
    api.create(DEPLOYMENT, namespace, web(name))
    adopt(api, namespace, name)
    first, second = (ServiceKey(namespace, one) for one in (nova(name), f"{name}-next"))
    body = {"workloadRef": {"name": name}, "ports": [{"port": 80, "appPort": 8080}]}

    async def scenario() -> None:
        async with operator(apiserver) as (cluster, system):
            for _ in range(2):  # the finalizer is written first
                hear(api, system, first)
                await has_its_turn(system, first)
            assert has_sidecar(api.deployment(namespace, name))
            api.delete(NOVA_SERVICE, *first)
            hear(api, system, first)

            def take() -> None:
                """As another replica would: `second` has it."""
                api.create(NOVA_SERVICE, namespace, {"metadata": {"name": second.name}, "spec": body})
                live = api.deployment(namespace, name)
                text = live["metadata"]["annotations"][ANNOTATION].replace(f'"{first.name}"', f'"{second.name}"')
                metadata = {"annotations": {ANNOTATION: text}, "labels": {names.LABEL_SERVICE: second.name}}
                api.patch(DEPLOYMENT, namespace, name, {"metadata": metadata})

            cluster.before_give_back = take
            await has_its_turn(system, first)
            assert cluster.before_give_back is None
            assert api.find(NOVA_SERVICE, *first) is None

    asyncio.run(scenario())
    live = api.deployment(namespace, name)
    assert has_sidecar(live)
    assert live["metadata"]["labels"] == {names.LABEL_SERVICE: second.name}


def test_a_deployment_that_a_service_lets_go_of_right_after_is_given_back(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """The spec changes before the service that has just adopted it has had a second turn."""
    name = f"d-{uuid4().hex[:6]}"
    before = api.create(DEPLOYMENT, namespace, web(name))
    adopt(api, namespace, name)
    service = ServiceKey(namespace, nova(name))

    async def scenario() -> None:
        async with operator(apiserver) as (_, system):
            hear(api, system, service)
            await has_its_turn(system, service)
            assert has_sidecar(api.deployment(namespace, name))
            api.change(namespace, service.name, workloadRef=None, image="registry.example/web:1")
            hear(api, system, service)
            await has_its_turn(system, service)

    asyncio.run(scenario())
    assert said(api.deployment(namespace, name)) == said(before)


def test_who_waits_for_a_deployment_has_its_turn_once_that_is_free(apiserver: Path, api: Api, namespace: str) -> None:
    name = f"d-{uuid4().hex[:6]}"
    api.create(DEPLOYMENT, namespace, web(name))
    adopt(api, namespace, name)
    body = {"workloadRef": {"name": name}, "ports": [{"port": 80, "appPort": 8080}]}
    first, second = (ServiceKey(namespace, one) for one in (nova(name), f"{name}-next"))

    async def scenario() -> None:
        async with operator(apiserver) as (_, system):
            hear(api, system, first)
            await has_its_turn(system, first)
            api.create(NOVA_SERVICE, namespace, {"metadata": {"name": second.name}, "spec": body})
            hear(api, system, first)
            system.mirror.put(NOVA_SERVICE, api.get(NOVA_SERVICE, *second))  # of itself it has no turn
            await has_its_turn(system, second)
            assert api.conditions(namespace, second.name)["Ready"] == ("False", "Conflict")
            api.delete(NOVA_SERVICE, *first)
            hear(api, system, first)
            before = system.services.overdue()
            await has_its_turn(system, first)
            assert system.services.overdue() == before + 1
            await has_its_turn(system, second)

    asyncio.run(scenario())
    assert api.deployment(namespace, name)["metadata"]["labels"] == {names.LABEL_SERVICE: second.name}


def test_a_deployment_with_injected_pods_is_read_again_until_it_is_rolled_out(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """No watch tells of it, and its controller counts a pod after that has said it is ready."""
    name = f"d-{uuid4().hex[:6]}"
    api.create(DEPLOYMENT, namespace, web(name))
    assert turn_of_injected(apiserver, api, namespace, name) <= UNWATCHED_RETRY


def test_an_injected_deployment_that_is_stuck_is_read_again_before_long(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """Its owner may mend it without a pod that tells."""
    name = f"d-{uuid4().hex[:6]}"
    paused = web(name)
    paused["spec"]["paused"] = True
    api.create(DEPLOYMENT, namespace, paused)
    until(lambda: is_observed(api.deployment(namespace, name)))
    until(lambda: deployment_condition(api.deployment(namespace, name), "Progressing"))
    assert UNWATCHED_RETRY < turn_of_injected(apiserver, api, namespace, name) <= HELD_UP_RETRY


def turn_of_injected(apiserver: Path, api: Api, namespace: str, name: str) -> float:
    """Seconds until a service that injects its sidecar into this Deployment's pods wants its next turn."""
    body = {"workloadRef": {"name": name, "mode": "Inject"}, "ports": [{"port": 80, "appPort": 8080}]}
    api.create(NOVA_SERVICE, namespace, {"metadata": {"name": name}, "spec": body})

    async def scenario() -> float:
        async with operator(apiserver) as (_, system):
            service = ServiceKey(namespace, name)
            hear(api, system, service)
            wait = await system.reconcile(service)
            assert wait is not None
            return wait

    return asyncio.run(scenario())


def test_a_session_secret_is_tried_again_while_a_deployment_is_new(apiserver: Path, api: Api, namespace: str) -> None:
    """One that is there may be a predecessor's and go with it, of which nothing tells; the pods would wait for it."""
    shop = Scene(api, namespace)
    api.create(SECRET, namespace, {"metadata": {"name": names.session_secret(shop.name)}})
    document = shop.create(replicas=0, sessionAffinity={"type": "Cookie"})

    async def scenario() -> None:
        async with operator(apiserver) as (_, system):
            system.feed.take(NOVA_SERVICE, "ADDED", document)
            wait = await system.reconcile(key_of(shop))
            assert wait is not None
            assert 0 < wait <= FIRST_RETRY
            await soon(lambda: api.deployment(*key_of(shop)).get("status", {}).get("observedGeneration"))
            system.feed.take(DEPLOYMENT, "MODIFIED", api.deployment(*key_of(shop)))
            wait = await system.reconcile(key_of(shop))
            assert wait is not None
            assert wait > LONGEST_RETRY

    asyncio.run(scenario())


async def has_its_turn(system: System, key: ServiceKey) -> None:
    """And another one, as long as a Deployment's controller writes what the operator was about to."""
    while True:
        try:
            await system.reconcile(key)
        except StaleError:
            continue
        return


def hear(api: Api, system: System, key: ServiceKey) -> None:
    """The watch tells of the service as it is."""
    system.feed.take(NOVA_SERVICE, "MODIFIED", api.get(NOVA_SERVICE, *key))


class Expired:
    """A wire on which nothing comes: the API server no longer knows how far the watches have come."""

    def __init__(self) -> None:
        self._told = False

    async def follow(self, *_: Any) -> None:
        if self._told:
            await asyncio.Event().wait()
        self._told = True
        raise GoneError("410")


def test_a_child_deleted_while_its_watch_had_expired_comes_back(apiserver: Path, api: Api, namespace: str) -> None:
    """Its deletion is told by nobody; it is missing in the list that the watch then goes on from."""
    shop = Scene(api, namespace)
    shop.create()

    async def scenario() -> None:
        async with operator(apiserver) as (_, system), at_work(system, shop):
            await soon(lambda: all(shop.find(kind) for kind in (SERVICE, CONFIG_MAP)))
            await soon(lambda: system.services.overdue() == 0)
            api.delete(SERVICE, *key_of(shop))
            (watch,) = (one for one in system.watches(Expired()) if "services in" in repr(one))
            watching = asyncio.create_task(watch.run())
            await soon(lambda: shop.find(SERVICE))
            watching.cancel()

    asyncio.run(scenario())
