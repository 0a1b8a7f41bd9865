"""A CustomResourceDefinition of an older or a newer Nova: services go on, and nothing is written again and again."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nova_api import schema
from nova_operator.kinds import CONFIG_MAP, NOVA_SERVICE
from nova_operator.kube import path_of
from tests.cluster.api import CRDS, Api, Object, eventually, until
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

PATH = path_of(CRDS, None, "novaservices.nova.dev") + "?fieldManager=tests&force=true"
LOOKS = 1.5
"""Seconds in which the operator looks several times."""


@contextmanager
def definition(api: Api, document: Object, field: str) -> Iterator[None]:
    """Another definition in force, which is told by whether it has the field of the spec or status."""
    api.call("PATCH", PATH, document, "application/apply-patch+yaml")
    try:
        yield
    finally:
        api.install()
        until(lambda: field in str(api.get(CRDS, None, "novaservices.nova.dev")["spec"]) or field == "future")


def part(document: Object, name: str) -> Object:
    found: Object = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][name]["properties"]
    return found


def older() -> Object:
    """Without fields of the status and of the spec that came later."""
    document = copy.deepcopy(schema.crd())
    for name in ("openBreakers", "drain", "refusedHash", "rollout", "readyGeneration"):
        del part(document, "status")[name]
    for name in ("monitoring", "selfProtection"):
        del part(document, "spec")[name]
    return document


def newer() -> Object:
    """With a field that has a default, so that every service has it, and one inside of another."""
    document = copy.deepcopy(schema.crd())
    part(document, "spec")["future"] = {"type": "string", "default": "bright"}
    part(document, "spec")["backpressure"]["properties"]["novelty"] = {"type": "integer"}
    part(document, "status")["outlook"] = {"type": "string"}
    return document


@contextmanager
def at_work(api: Api, apiserver: Path, folder: Path) -> Iterator[tuple[Scene, OperatorProcess]]:
    with api.namespace() as namespace:
        options = (f"--namespace={namespace}", "--sidecar-poll=0.2", "--resync=0.4")
        with running(apiserver, folder / "log", *options) as operator, scene(api, namespace) as shop:
            yield shop, operator


def test_an_older_definition_prunes_and_the_operator_does_not_write_it_again(
    api: Api, apiserver: Path, tmp_path: Path
) -> None:
    with definition(api, older(), "openBreakers"), at_work(api, apiserver, tmp_path) as (shop, operator):
        shop.settle(replicas=2)
        assert "drain" not in shop.status()
        until(lambda: shop.events() == ["Created", "RolledOut"])
        version = api.get(NOVA_SERVICE, shop.namespace, shop.name)["metadata"]["resourceVersion"]
        before, looks = operator.writes(), operator.metric("nova_operator_reconciles_total")
        time.sleep(LOOKS)  # nothing must be written while it looks
        assert operator.metric("nova_operator_reconciles_total") > looks
        assert operator.writes() == before
        assert api.get(NOVA_SERVICE, shop.namespace, shop.name)["metadata"]["resourceVersion"] == version
        shop.change(backpressure={"maxConcurrency": 7})
        shop.converges()


def test_fields_of_a_newer_definition_are_left_out_and_named(api: Api, apiserver: Path, tmp_path: Path) -> None:
    with definition(api, newer(), "future"), at_work(api, apiserver, tmp_path) as (shop, _):
        shop.settle(backpressure={"maxConcurrency": 7, "novelty": 3})
        assert shop.conditions()["FieldsIgnored"] == ("True", "NewerDefinition")
        assert "$.spec.backpressure.novelty" in shop.message("FieldsIgnored")
        assert "$.spec.future" in shop.message("FieldsIgnored")
        assert "novelty" not in str(shop.find(CONFIG_MAP))
        told = {"status": {"outlook": "sunny"}}
        api.patch(NOVA_SERVICE, shop.namespace, shop.name, told, subresource="status")
        shop.change(backpressure={"maxConcurrency": 8})
        shop.converges()  # a status with fields of a newer operator is no obstacle, and keeps its history
        assert shop.events().count("RolledOut") == 1
        eventually(lambda: _keeps(shop))


def _keeps(shop: Scene) -> None:
    assert shop.status()["outlook"] == "sunny"
