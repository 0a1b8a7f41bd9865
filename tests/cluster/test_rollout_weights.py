"""Exact shares: by the route of a gateway, and by the sidecars of the services that call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import CONFIG_MAP, HTTP_ROUTE, SERVICE
from nova_operator.rollout.command import command_for
from nova_operator.status import read
from tests.cluster.api import NOVA_SERVICE, Api, Object, eventually
from tests.cluster.definitions import http_route_spec, installed
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

OLD, NEW = "registry.example/app:1", "registry.example/app:2"
STEPS = [{"weight": 30, "hold": "1h"}, {"weight": 100, "hold": "1h"}]
SECONDS = 60.0


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    with (
        installed(api, HTTP_ROUTE, http_route_spec(persistence=False)),
        running(apiserver, log, f"--namespace={namespace}", "--sidecar-poll=0.3") as process,
    ):
        yield process


def say(shop: Scene, verb: Any) -> None:
    command = str(command_for(verb, read(shop.status()).rollout))
    change = {"metadata": {"annotations": {names.ANNOTATION_ROLLOUT: command}}}
    shop.api.patch(NOVA_SERVICE, shop.namespace, shop.name, change)


def selects(shop: Scene, name: str) -> str:
    """The version that a Service selects; empty for both."""
    selector = shop.api.get(SERVICE, shop.namespace, name)["spec"]["selector"]
    return str(selector.get(names.LABEL_TRACK, ""))


def route(shop: Scene) -> dict[str, int]:
    found: Object = shop.api.get(HTTP_ROUTE, shop.namespace, shop.name)
    return {reference["name"]: reference["weight"] for reference in found["spec"]["rules"][0]["backendRefs"]}


def test_a_route_sends_the_canary_its_share(api: Api, namespace: str, operator: OperatorProcess) -> None:
    with scene(api, namespace) as shop:
        rollout = {
            "strategy": "Canary",
            "weights": "HTTPRoute",
            "steps": STEPS,
            "sticky": True,
            "checks": {"mode": "Off"},
        }
        shop.settle(replicas=2, image=OLD, rollout=rollout, gateway={"parentRefs": [{"name": "public"}]})
        canary = names.canary(shop.name)
        assert route(shop) == {shop.name: 100, canary: 0}

        shop.change(image=NEW)

        def shared() -> None:
            assert route(shop) == {shop.name: 70, canary: 30}
            assert (selects(shop, shop.name), selects(shop, canary)) == ("stable", "canary")
            assert selects(shop, names.endpoints(shop.name)) == ""  # a client may be at either
            assert '"affinity":{' in document(shop)

        eventually(shared, SECONDS)
        say(shop, "promote")
        eventually(lambda: _is(selects(shop, shop.name), "canary"), SECONDS)
        say(shop, "abort")

        def back() -> None:
            assert route(shop) == {shop.name: 100, canary: 0}
            assert (selects(shop, shop.name), selects(shop, canary)) == ("stable", "stable")
            assert selects(shop, names.endpoints(shop.name)) == "stable"

        eventually(back, SECONDS)


def test_callers_send_the_canary_its_share(api: Api, namespace: str, operator: OperatorProcess) -> None:
    with scene(api, namespace) as shop, scene(api, namespace) as caller, scene(api, namespace) as other:
        rollout = {"strategy": "Canary", "weights": "Callers", "steps": STEPS, "checks": {"mode": "Off"}}
        shop.settle(replicas=2, image=OLD, rollout=rollout)
        caller.settle(upstreams=[{"name": "shop", "host": f"{shop.name}.{namespace}.svc", "port": 8000}])
        other.settle(upstreams=[{"name": "shop", "host": "elsewhere", "port": 8000}])
        undisturbed = document(other)
        shop.change(image=NEW)

        def told() -> None:
            assert f'"canary":{{"address":{{"host":"{shop.name}-canary.{namespace}.svc"' in document(caller)
            assert '"weight":30}' in document(caller)

        eventually(told, SECONDS)
        caller.converges()
        services = (shop.name, names.canary(shop.name))
        eventually(lambda: _is([selects(shop, each) for each in services], ["stable", "canary"]), SECONDS)
        say(shop, "promote")
        eventually(lambda: _has('"weight":100}', document(caller)), SECONDS)
        say(shop, "abort")
        eventually(lambda: _has('"canary":null', document(caller)), SECONDS)
        caller.converges()
        assert document(other) == undisturbed


def document(one: Scene) -> str:
    """The proxy document of a service."""
    found: str = one.api.get(CONFIG_MAP, one.namespace, names.config_map(one.name))["data"][names.CONFIG_KEY]
    return found


def _is(found: Any, expected: Any) -> None:
    assert found == expected


def _has(part: str, whole: str) -> None:
    assert part in whole
