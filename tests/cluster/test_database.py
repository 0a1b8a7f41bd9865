"""A service with a database on a real API server: its Job, and the rollout that waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nova_api import names
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, JOB, NOVA_SERVICE
from tests.cluster.api import Api, eventually, until
from tests.cluster.jobs import another_job, complete, fail, job, report
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.scene import Scene, scene

pytestmark = pytest.mark.timeout(180)  # each waits for several rollouts, on a machine that may be busy
DATABASE: Any = {"secretRef": "shop-db", "migrations": {"configMap": "shop-migrations"}}


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    """A namespace that refuses every pod which breaks Pod Security *restricted*."""
    with api.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield name


@pytest.fixture
def shop(api: Api, namespace: str, operator: OperatorProcess) -> Iterator[Scene]:
    """A service that does not exist yet."""
    with scene(api, namespace) as one:
        yield one


def image(shop: Scene) -> str | None:
    """Of the app in its Deployment."""
    found = shop.find(DEPLOYMENT)
    return None if found is None else str(found["spec"]["template"]["spec"]["containers"][-1]["image"])


def test_new_pods_wait_for_the_job_and_come_when_it_is_complete(shop: Scene) -> None:
    shop.create(image="shop:1", database=DATABASE)
    first = job(shop)
    shop.becomes("Ready", "False", "DatabasePreparing")
    assert shop.find(DEPLOYMENT) is None
    (owner,) = first["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == (NOVA_SERVICE.kind, shop.name, True)
    complete(shop, first)
    shop.converges()
    assert shop.conditions()["DatabaseReady"] == ("True", "DatabasePrepared")

    shop.change(image="shop:2", backpressure={"maxConcurrency": 7})
    second = another_job(shop, first)
    shop.becomes("DatabaseReady", "False", "DatabasePreparing")
    config = until(lambda: shop.find(CONFIG_MAP))
    assert '"maxConcurrency":7' in config["data"][names.CONFIG_KEY]  # settings need not wait
    assert image(shop) == "shop:1"
    assert "the version before serves on" in shop.message()
    complete(shop, second)
    until(lambda: image(shop) == "shop:2")
    shop.converges()


def test_a_job_that_failed_leaves_the_version_before_and_a_retry_goes_on(shop: Scene) -> None:
    shop.create(image="shop:1", database=DATABASE)
    first = job(shop)
    complete(shop, first)
    shop.converges()

    shop.change(image="shop:2")
    second = another_job(shop, first)
    fail(shop, second)
    shop.becomes("DatabaseReady", "False", "MigrationFailed")
    for kind in ("Degraded", "Stalled"):
        assert shop.conditions()[kind] == ("True", "MigrationFailed")
    assert f"kubectl logs job/{shop.name}-migrate" in shop.message()
    assert image(shop) == "shop:1"
    eventually(lambda: _in(shop.events(), "MigrationFailed"))

    annotations = {"metadata": {"annotations": {names.ANNOTATION_RETRY: "1"}}}
    shop.api.patch(NOVA_SERVICE, shop.namespace, shop.name, annotations)
    third = another_job(shop, second)
    shop.becomes("DatabaseReady", "False", "DatabasePreparing")
    assert image(shop) == "shop:1"
    complete(shop, third)
    until(lambda: image(shop) == "shop:2")
    shop.converges()
    assert "Stalled" not in shop.conditions()


TROUBLES: Any = {
    "no key": (
        {"reason": "CreateContainerConfigError", "message": "couldn't find key url in Secret market/shop-db"},
        "ContainerRefused",
    ),
    "no image": ({"reason": "ImagePullBackOff", "message": 'Back-off pulling image "data:9"'}, "ImagePullFailed"),
}


@pytest.mark.parametrize(("waiting", "reason"), TROUBLES.values(), ids=TROUBLES)
def test_what_keeps_the_job_from_running_is_said_at_once(shop: Scene, waiting: Any, reason: str) -> None:
    shop.create(image="shop:1", database=DATABASE)
    first = job(shop)
    container = {"name": "database", "image": "data:9", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Pending", "containerStatuses": [container | {"state": {"waiting": waiting}}]}
    report(shop, first, status)
    shop.becomes("DatabaseReady", "False", reason)
    assert waiting["message"] in shop.message("DatabaseReady")
    shop.becomes("Degraded", "True", reason)
    complete(shop, first)  # somebody has put it right
    shop.converges()
    shop.becomes("Degraded", "False", "AsExpected")


def test_a_job_that_no_node_takes_says_so(shop: Scene) -> None:
    shop.create(image="shop:1", database=DATABASE)
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    report(shop, job(shop), {"conditions": [refused]})
    shop.becomes("DatabaseReady", "False", "Unschedulable")
    assert "0/3 nodes" in shop.message("DatabaseReady")


def test_a_spec_without_a_database_takes_the_job_away_and_waits_for_nothing(shop: Scene) -> None:
    shop.create(image="shop:1", database=DATABASE)
    job(shop)
    shop.change(database=None)
    until(lambda: shop.api.find(JOB, shop.namespace, names.database_job(shop.name)) is None)
    shop.converges()
    assert "DatabaseReady" not in shop.conditions()


def test_a_job_that_somebody_deletes_runs_again_and_holds_up_nothing(shop: Scene) -> None:
    shop.create(image="shop:1", database=DATABASE)
    first = job(shop)
    complete(shop, first)
    shop.converges()
    generation = shop.find(DEPLOYMENT)["metadata"]["generation"]  # type: ignore[index]  # it has converged
    shop.api.delete(JOB, shop.namespace, first["metadata"]["name"], propagationPolicy="Background")
    second = another_job(shop, first)
    shop.becomes("DatabaseReady", "False", "DatabasePreparing")
    assert shop.conditions()["Ready"] == ("True", "PodsReady")
    complete(shop, second)
    shop.becomes("DatabaseReady", "True", "DatabasePrepared")
    assert shop.find(DEPLOYMENT)["metadata"]["generation"] == generation  # type: ignore[index]  # as above


def test_somebody_elses_job_of_that_name_is_left_alone_and_named(shop: Scene) -> None:
    container = {
        "name": "x",
        "image": "x",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    name = names.database_job(shop.name)
    shop.api.create(JOB, shop.namespace, {"metadata": {"name": name}, "spec": {"template": {"spec": pod}}})
    shop.create(image="shop:1", database=DATABASE)
    shop.becomes("Ready", "False", "Conflict")
    assert f"Job/{name} exists and is not this service's" in shop.message()


def _in(events: list[str], reason: str) -> None:
    assert reason in events
