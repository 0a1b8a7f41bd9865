"""Which services' sidecars are looked at, and when a status may speak of them."""

from random import Random
from typing import Any, cast

import pytest

from nova_operator.cluster import Cluster
from nova_operator.delivery import Delivery
from nova_operator.kinds import POD
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.sidecars import Sidecars

SHOP = ServiceKey("market", "shop")


def pod() -> dict[str, Any]:
    metadata = {
        "namespace": "market",
        "name": "shop-1",
        "uid": "1",
        "resourceVersion": "1",
        "labels": {"nova.dev/service": "shop"},
    }
    return {"metadata": metadata, "status": {"podIP": "10.0.0.1"}}


@pytest.mark.parametrize("pods", [[], [pod()]], ids=["just made", "runs"])
def test_a_look_is_for_services_that_have_pods(pods: list[dict[str, Any]]) -> None:
    """Without any there is nobody to ask, and the status need not wait for an answer."""
    looks: list[ServiceKey] = []
    mirror = Mirror()
    delivery = Delivery(
        cast("Cluster", None),  # what is decided here asks nobody
        cast("Sidecars", None),
        mirror,
        poll=10.0,
        random=Random(1),
        on_change=looks.append,
        look_soon=looks.append,
    )
    for one in pods:
        mirror.put(POD, one)
    delivery.expect(SHOP, "abc")
    assert (looks, delivery.looked(SHOP)) == (([SHOP], False) if pods else ([], True))
    mirror.put(POD, pod())
    delivery.expect(SHOP, "abc")
    assert looks[-1:] == [SHOP]
