"""The operator killed between any two calls while it adopts a Deployment, gives it back, or goes over to another."""

import asyncio
from pathlib import Path

import pytest

from nova_api import names
from nova_operator.cluster import StaleError
from nova_operator.kinds import DEPLOYMENT, NOVA_SERVICE
from tests.cluster.api import Api
from tests.cluster.scene import Scene
from tests.cluster.test_operator_crash import MOST_CALLS, live
from tests.cluster.workload import UPSTREAMS, adopt, has_sidecar, is_adopted, nova, said, web

AFTER = pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])


def scene(api: Api, namespace: str, name: str) -> Scene:
    """The service of a Deployment, looked at by nobody yet."""
    one = Scene(api, namespace)
    one.name = nova(name)
    return one


def lives_until_done(kubeconfig: Path, shop: Scene, *, after: bool) -> int:
    """Kill it at its first call, then at its second, and so on; a life that the Deployment's controller was faster
    than is lived once more."""
    calls = 0
    while calls < MOST_CALLS:
        try:
            if asyncio.run(live(kubeconfig, shop, calls, after=after)):
                return calls
        except StaleError:
            continue
        calls += 1
    raise AssertionError(f"not done after {MOST_CALLS} calls")


@AFTER
def test_adoption_and_giving_back(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    name = f"web-{after}".lower()
    before = api.create(DEPLOYMENT, namespace, web(name))
    adopt(api, namespace, name, upstreams=UPSTREAMS)
    shop = scene(api, namespace, name)
    assert lives_until_done(apiserver, shop, after=after) > 10
    assert is_adopted(api.deployment(namespace, name))
    assert shop.conditions()["Ready"] == ("False", "RollingOut")
    api.delete(NOVA_SERVICE, namespace, shop.name)
    assert lives_until_done(apiserver, shop, after=after) > 10
    assert api.find(NOVA_SERVICE, namespace, shop.name) is None
    given_back = api.deployment(namespace, name)
    assert said(given_back) == said(before)
    assert not is_adopted(given_back)


@AFTER
def test_going_over_to_another(apiserver: Path, api: Api, namespace: str, after: bool) -> None:
    one, other = f"one-{after}".lower(), f"other-{after}".lower()
    before = {name: api.create(DEPLOYMENT, namespace, web(name)) for name in (one, other)}
    adopt(api, namespace, one, upstreams=UPSTREAMS)
    shop = scene(api, namespace, one)
    assert lives_until_done(apiserver, shop, after=after) > 10
    shop.change(workloadRef={"name": other})
    assert lives_until_done(apiserver, shop, after=after) > 10
    assert said(api.deployment(namespace, one)) == said(before[one])
    assert is_adopted(api.deployment(namespace, other))
    shop.change(workloadRef=None, image="registry.example/app:1")
    assert lives_until_done(apiserver, shop, after=after) > 10
    assert said(api.deployment(namespace, other)) == said(before[other])
    assert has_sidecar(api.deployment(namespace, shop.name))
    assert "finalizers" not in api.get(NOVA_SERVICE, namespace, shop.name)["metadata"]


def test_what_lost_its_label_while_no_operator_looked_is_given_back_too(
    apiserver: Path, api: Api, namespace: str
) -> None:
    """Its pods could not start any more: what they mount goes with the service."""
    before = api.create(DEPLOYMENT, namespace, web("bare"))
    adopt(api, namespace, "bare", upstreams=UPSTREAMS)
    shop = scene(api, namespace, "bare")
    lives_until_done(apiserver, shop, after=False)
    assert is_adopted(api.deployment(namespace, "bare"))
    api.patch(DEPLOYMENT, namespace, "bare", {"metadata": {"labels": {names.LABEL_SERVICE: None}}})
    api.delete(NOVA_SERVICE, namespace, shop.name)
    lives_until_done(apiserver, shop, after=False)
    assert api.find(NOVA_SERVICE, namespace, shop.name) is None
    assert said(api.deployment(namespace, "bare")) == said(before)


def test_a_life_after_the_work_was_done_writes_nothing(apiserver: Path, api: Api, namespace: str) -> None:
    api.create(DEPLOYMENT, namespace, web("rest"))
    adopt(api, namespace, "rest", upstreams=UPSTREAMS)
    shop = scene(api, namespace, "rest")
    lives_until_done(apiserver, shop, after=False)
    lives_until_done(apiserver, shop, after=False)  # it has seen the pods
    version = api.deployment(namespace, "rest")["metadata"]["generation"]
    service = api.get(NOVA_SERVICE, namespace, shop.name)["metadata"]["resourceVersion"]
    lives_until_done(apiserver, shop, after=False)
    assert api.deployment(namespace, "rest")["metadata"]["generation"] == version
    assert api.get(NOVA_SERVICE, namespace, shop.name)["metadata"]["resourceVersion"] == service
