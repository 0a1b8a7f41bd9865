"""Kinds of other projects that come while the operator runs, change, and go again. It is never restarted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_operator.kinds import CONFIG_MAP, HTTP_ROUTE, POD_MONITOR
from tests.cluster.api import CRDS, Api, Object, eventually, until
from tests.cluster.definitions import POD_MONITOR_SPEC, http_route_spec, install, installed, remove
from tests.cluster.operator_process import OperatorProcess, running

DEFINITION = "httproutes.gateway.networking.k8s.io"
GATEWAY: Object = {"gateway": {"parentRefs": [{"name": "public"}]}, "sessionAffinity": {"type": "Cookie"}}


@pytest.fixture
def operator(apiserver: Path, api: Api, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    with running(apiserver, tmp_path / "log", f"--namespace={namespace}", "--discovery=0.5") as process:
        yield process


def test_definitions_come_change_and_go(api: Api, namespace: str, operator: OperatorProcess) -> None:
    api.service(namespace, "shop", **GATEWAY)
    until(lambda: api.conditions(namespace, "shop"))
    assert api.conditions(namespace, "shop")["Ready"] == ("False", "RollingOut")  # nothing is in the way
    assert api.conditions(namespace, "shop")["FieldsIgnored"] == ("True", "NoEffect")
    assert "gateway: the cluster has no HTTPRoutes" in api.message(namespace, "shop", "FieldsIgnored")

    with installed(api, POD_MONITOR, POD_MONITOR_SPEC):
        until(lambda: api.find(POD_MONITOR, namespace, "shop"), 30)
        with installed(api, HTTP_ROUTE, http_route_spec(persistence=False)):
            route = until(lambda: api.find(HTTP_ROUTE, namespace, "shop"), 30)
            assert "sessionPersistence" not in route["spec"]["rules"][0]

            install(api, HTTP_ROUTE, http_route_spec(persistence=True))
            eventually(lambda: has_persistence(api.get(HTTP_ROUTE, namespace, "shop")), 30)
            until(lambda: "FieldsIgnored" not in (api.conditions(namespace, "shop") or {"FieldsIgnored"}))

            api.delete(HTTP_ROUTE, namespace, "shop")  # it is watched
            until(lambda: api.find(HTTP_ROUTE, namespace, "shop"))
        until(operator.ready, 30)
        works_on(api, namespace, 101)
    works_on(api, namespace, 102)
    until(lambda: api.conditions(namespace, "shop").get("Ready") == ("False", "RollingOut"))
    assert operator.process.poll() is None


def has_persistence(route: Object) -> None:
    assert "sessionPersistence" in route["spec"]["rules"][0]


def works_on(api: Api, namespace: str, limit: int) -> None:
    """A change to the service comes into force."""
    api.change(namespace, "shop", backpressure={"maxConcurrency": limit})

    def in_force() -> None:
        document = api.get(CONFIG_MAP, namespace, "shop-nova")["data"]["config.json"]
        assert f'"maxConcurrency":{limit}' in document

    eventually(in_force, 30)


LONGEST_REMOVAL = 75
"""Seconds: the API server looks every 5 whether all objects of a definition are gone, for a minute, and then tries to
delete them once more."""


@pytest.fixture
def unaware(apiserver: Path, api: Api, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator whose next look for kinds is far away."""
    with (
        installed(api, HTTP_ROUTE, http_route_spec(persistence=True)),
        running(apiserver, tmp_path / "log", f"--namespace={namespace}", "--discovery=600") as process,
    ):
        yield process


def written(operator: OperatorProcess, child: str) -> int:
    """How often the operator wrote a child."""
    return sum(line["event"] == "child applied" and line["child"] == child for line in operator.lines())


@pytest.mark.timeout(150)  # as long as the API server may take with a definition
def test_a_definition_that_is_gone_before_anybody_notices(api: Api, namespace: str, unaware: OperatorProcess) -> None:
    """A write that fails has to tell."""
    api.service(namespace, "late", **GATEWAY)
    until(lambda: api.find(HTTP_ROUTE, namespace, "late"))
    remove(api, HTTP_ROUTE, LONGEST_REMOVAL)
    api.change(namespace, "late", backpressure={"maxConcurrency": 103}, gateway={"path": "/new", **GATEWAY["gateway"]})

    def in_force() -> None:
        document = api.get(CONFIG_MAP, namespace, "late-nova")["data"]["config.json"]
        assert '"maxConcurrency":103' in document

    eventually(in_force, 30)
    assert written(unaware, "HTTPRoute/late") == 1


@pytest.mark.timeout(150)  # as above
def test_nothing_is_written_to_a_kind_whose_definition_is_going(
    api: Api, namespace: str, unaware: OperatorProcess
) -> None:
    """One object is held, so the definition stays a while after the first ones are gone; the others must not come
    back, or it would stay for another minute."""
    services = [f"going-{number}" for number in range(4)]
    for name in services:
        api.service(namespace, name, **GATEWAY)
    for name in services:
        until(lambda name=name: api.find(HTTP_ROUTE, namespace, name))
    held = {"metadata": {"name": "held", "finalizers": ["nova.dev/test"]}, "spec": {}}
    api.create(HTTP_ROUTE, namespace, held)
    api.delete(CRDS, None, DEFINITION)
    until(lambda: not any(api.find(HTTP_ROUTE, namespace, name) for name in services))
    api.change(namespace, services[0], gateway={"path": "/new", **GATEWAY["gateway"]})
    until(lambda: unaware.said("the API server serves other kinds than before"), 30)
    until(unaware.ready, 30)
    assert [written(unaware, f"HTTPRoute/{name}") for name in services] == [1, 1, 1, 1]
    assert not any(api.find(HTTP_ROUTE, namespace, name) for name in services)
    api.patch(HTTP_ROUTE, namespace, "held", {"metadata": {"finalizers": None}})
    until(lambda: api.find(CRDS, None, DEFINITION) is None, LONGEST_REMOVAL)
