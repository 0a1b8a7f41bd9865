"""What a pilot makes of the children before anything is decided, and who hears of a canary's end."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from nova_api import names, proxy
from nova_api.status import RolloutStatus
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.track import marked_hash
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, NOVA_SERVICE
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.rollout.pilot import Pilot
from nova_operator.rollout_metrics import RolloutMetrics
from tests.unit.rollout.test_arrange import children, config_map, deployment, service

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
SHOP = ServiceKey("web", "shop")
CANARY = {
    "metadata": {"name": "shop", "namespace": "web", "uid": "u", "resourceVersion": "1", "generation": 1},
    "spec": {"rollout": {"strategy": "Canary", "weights": "Callers"}},
    "status": {"rollout": {"phase": "Progressing", "weight": 30, "holdSince": "2026-01-05T10:00:00Z"}},
}


def pilot(mirror: Mirror, on_share: Callable[[ServiceKey], None] = lambda _: None) -> Pilot:
    nobody = cast("Any", None)  # what is asked of it here needs no cluster and no sidecars
    metrics = RolloutMetrics(CollectorRegistry())
    return Pilot(nobody, mirror, nobody, metrics, look=1.0, wall=lambda: NOW, on_share=on_share)


def of_port(image: str, port: int) -> dict[str, Any]:
    return {"image": image, "ports": [{"port": 80, "appPort": port}], "rollout": {"strategy": "Canary"}}


OLD, COMING, OTHER_PORT = (children(**of_port(*each)) for each in (("app:1", 8080), ("app:2", 8080), ("app:2", 9090)))


def promoting(coming: tuple[Manifest, ...]) -> RolloutStatus:
    return RolloutStatus(phase="Promoting", canary=marked_hash(deployment(coming)["spec"]["template"]))


def app_port(wanted: dict[str, Any], before: RolloutStatus, there: tuple[Manifest, ...]) -> int:
    """The port of the app in the proxy document of a spec, where `there` is what the cluster has."""
    mirror = Mirror()
    for kind, one in ((CONFIG_MAP, config_map(there)), (DEPLOYMENT, deployment(there))):
        mirror.put(kind, one | {"metadata": one["metadata"] | {"uid": kind.kind, "resourceVersion": "1"}})
    found = pilot(mirror).prepare(SHOP, service(**wanted), children(**wanted), before)
    return proxy.decode(config_map(found)["data"][names.CONFIG_KEY].encode()).inbound[0].app.port


@pytest.mark.parametrize("there", [OLD, COMING], ids=["before its Deployment was written", "afterwards"])
def test_another_template_while_one_comes_into_force_brings_no_ports_of_its_own(there: tuple[Manifest, ...]) -> None:
    """All pods that there are listen on the old one; that the ConfigMap has it still is all that tells so later."""
    assert app_port(of_port("app:3", 9090), promoting(COMING), there) == 8080


def test_the_template_that_comes_into_force_brings_its_ports() -> None:
    """They may be others: with strategy Rolling for a moment they change at once."""
    assert app_port(of_port("app:2", 9090), promoting(OTHER_PORT), OLD) == 9090


def test_callers_hear_that_a_service_went_with_its_canary() -> None:
    """One that is made anew without a canary has no Service for it, and nothing else would tell them before their next
    turn, minutes later."""
    told: list[ServiceKey] = []
    mirror = Mirror()
    mirror.put(NOVA_SERVICE, CANARY)
    leads = pilot(mirror, told.append)
    assert leads.weight(*SHOP) == 30
    mirror.drop(NOVA_SERVICE, CANARY)
    leads.forget(SHOP)
    assert (leads.weight(*SHOP), told) == (0, [SHOP])
    leads.forget(SHOP)
    assert told == [SHOP]
