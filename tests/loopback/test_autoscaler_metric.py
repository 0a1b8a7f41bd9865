"""What the operator's autoscaler asks the custom metrics API for is what a sidecar has: one that finds no series of
that name and with those labels leaves the number of pods as it is."""

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.autoscaler import autoscaler
from nova_operator.desired.defaults import Platform

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, document, inbound, outbound


def asked_for() -> tuple[str, dict[str, str]]:
    """Name and labels of the metric."""
    written = {
        "apiVersion": "nova.dev/v1alpha1",
        "kind": "NovaService",
        "metadata": {"name": "shop", "namespace": "market", "uid": "u-1"},
        "spec": {"image": "shop:1", "ports": [{"port": 80}], "autoscaling": {"maxReplicas": 3, "concurrency": 50}},
    }
    made = autoscaler(convert(written, NovaService), Platform())
    assert made is not None
    (goal,) = made["spec"]["metrics"]
    return goal["pods"]["metric"]["name"], goal["pods"]["metric"]["selector"]["matchLabels"]


def test_the_autoscalers_metric_counts_requests_to_the_app_and_no_others(
    start: StartSidecar, listener: Listener
) -> None:
    ports = (inbound(listener.address, name, pool=ONCE) for name in ("web", "api"))
    sidecar = start(document(*ports, outbound(listener.address, "db", pool=ONCE)))
    name, labels = asked_for()
    assert sidecar.metric(name, **labels) == 0
    under_way: list[tuple[Peer, Peer]] = []
    for port, counted in (("web", 1), ("api", 2), ("db", 2)):
        client = sidecar.connect(port)
        client.send(request("GET", "/"))
        under_way.append((client, listener.accept()))
        assert under_way[-1][1].request().target == "/"
        assert sidecar.metric(name, **labels) == counted
    for client, app in under_way:
        app.send(response(body=b"done"))
        assert client.response().body == b"done"
